"""All of a model's attention at once, live: heads, rollout by depth, distances, global tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import ipywidgets
import plotly.graph_objects as go
from IPython.display import clear_output
from torch import Tensor, nn

from ..data import Pictures
from ..explain import attention_distance, rollout
from ..explain.maps import recorded
from ..figures import attention as figures
from ..figures.display import show
from ..models import timm_parts
from ..runtime.running import to_device
from .album import Album
from .boxes import PictureBox, dropdown


def attention_views(model: nn.Module, pictures: Pictures,
                    class_names: Sequence[str] | None = None) -> AttentionViews:
    """A box that draws a whole model's attention for a picture of a set, or for the reader's own.

    For a ViT: every head of every block, rollout through the depth, and the distances at which
    heads attend; for LightViT what the global tokens of each block take and hand back. The figures
    are those of `figures`, the box's twins for a page. Raises LabError if there are no pictures, or
    if the model has no attention that can be read.
    """
    return AttentionViews(Album("attention_views", model, pictures, class_names))


class AttentionViews(PictureBox):
    """The box; made by `attention_views`. `.figure` is what it shows, by `.picture` and `.view`."""

    def __init__(self, album: Album) -> None:
        self.album, self.figure = album, None
        self._maps: dict[int, list[Any]] = {}
        self.view = dropdown("view", list(self._views(0)))
        self.output = ipywidgets.Output()
        super().__init__(album, self.view)
        self.children = (*self.children[:2], self.output)

    def _recorded(self, picture: int) -> list[Any]:
        """The maps of one picture, computed when first asked for."""
        if picture not in self._maps:
            maps, _ = recorded(self.album.model, self.album.inputs(slice(picture, picture + 1)))
            self._maps[picture] = to_device(list(maps), "cpu")
        return self._maps[picture]

    def _views(self, picture: int) -> dict[str, Callable[[], go.Figure]]:
        """Name -> what draws it, for one picture."""
        maps, image = self._recorded(picture), self.album.images[picture]
        if isinstance(maps[0], dict):
            return {f"global tokens, block {block}": partial(self._global_tokens, picture, part)
                    for block, part in enumerate(maps) if "aggregation" in part}
        prefix, grid = self._layout(picture, maps[0].shape[-1])
        place: dict[str, Any] = {"prefix": prefix, "grid": grid}

        def read_all(parts: Iterable[Tensor]) -> list[Tensor]:
            return [self._read_by_head(part, prefix) for part in parts]

        flows = (rollout(maps[:depth + 1])[0] for depth in range(len(maps)))
        return {"all heads": lambda: figures.head_gallery(
                    image, read_all(part[0] for part in maps), **place),
                "rollout by depth": lambda: figures.rollout_by_depth(
                    image, read_all(flows), **place),
                "attention distance": lambda: figures.attention_distance(
                    attention_distance(maps, **place))}

    def _global_tokens(self, picture: int, maps: dict[str, Tensor]) -> go.Figure:
        """What the global tokens of one block take from patches and hand back to them."""
        prefix = timm_parts.num_prefix_tokens(self.album.model)
        _, grid = self._layout(picture, prefix + maps["aggregation"].shape[-1])
        return figures.global_tokens(self.album.images[picture:picture + 1], maps["aggregation"],
                                     maps["broadcast"], grid)

    def _layout(self, picture: int, tokens: int) -> tuple[int, tuple[int, int]]:
        """How many of the `tokens` stand in front of the patches, and (rows, columns) of these."""
        inputs = self.album.inputs(slice(picture, picture + 1))
        prefix, *grid = timm_parts.layout(self.album.model, inputs, tokens)
        return prefix, tuple(grid)

    def _read_by_head(self, part: Tensor, prefix: int) -> Tensor:
        """Maps (..., N, N) whose first row, which is drawn, is the mean of those the head reads.

        Without tokens in front, the figures draw the mean of all rows of the maps as they are.
        """
        part = part.clone()
        if prefix:
            part[..., 0, :] = part[..., timm_parts.head_tokens(self.album.model), :].mean(dim=-2)
        return part

    def draw(self) -> None:
        """Draw the view that is chosen."""
        self.figure = self._views(self.picture.value)[self.view.value]()
        with self.output:
            clear_output(wait=True)
            show(self.figure)
