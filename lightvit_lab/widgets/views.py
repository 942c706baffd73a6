"""All of a model's attention at once, live, for any picture: all heads, rollout by depth,
distances, global tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets
import plotly.graph_objects as go
from IPython.display import clear_output, display
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError
from ..explain import attention_distance, rollout
from ..explain.maps import recorded
from ..figures import attention as drawn
from ..figures.display import TEMPLATE
from ..models import timm_parts
from .boxes import alert, empty_upload, uploaded_files
from .reading import Album


def attention_views(model: nn.Module, pictures: Pictures,
                    class_names: Sequence[str] | None = None) -> AttentionViews:
    """A box that draws a whole model's attention for a picture of a set, or for the reader's own.

    For a ViT: every head of every block, rollout through the depth, and how far each head looks;
    for LightViT what the global tokens of each block take and hand back. The figures are those of
    `figures`, the box's twins for a page. Raises LabError if there are no pictures, or if the model
    has no attention that can be read.
    """
    if not isinstance(pictures, Pictures) or len(pictures) == 0:
        raise LabError('attention_views: no pictures; give some that data.load made, as data.load("shapes", "test", '
                       "count=8)")
    return AttentionViews(Album(model, pictures, tuple(class_names or pictures.class_names)))


class AttentionViews(ipywidgets.VBox):
    """The box; made by `attention_views`. `.figure` is what it shows; `.picture`, `.view`,
    `.upload` are its controls.
    """

    def __init__(self, album: Album) -> None:
        self.album, self.figure = album, None
        self._maps: dict[int, list[Any]] = {}
        self.picture = ipywidgets.Dropdown(options=self._choices(), description="picture")
        self.view = ipywidgets.Dropdown(options=list(self._views(0)), description="view")
        self.upload = ipywidgets.FileUpload(accept=".png,.jpg,.jpeg,.webp", description="own picture",
                                            layout={"width": "auto"})
        self.message, self.drawing = ipywidgets.HTML(), ipywidgets.Output()
        top = ipywidgets.HBox([self.picture, self.view, self.upload], layout={"flex_flow": "row wrap"})
        super().__init__([top, self.message, self.drawing])
        for part in (self.picture, self.view):
            part.observe(self._refresh, "value")
        self.upload.observe(self._receive, "value")
        self._refresh()

    def _choices(self) -> list[tuple[str, int]]:
        return [(caption, index) for index, caption in enumerate(self.album.captions)]

    def _recorded(self, picture: int) -> list[Any]:
        """The maps of one picture, computed at the first look."""
        if picture not in self._maps:
            maps, _ = recorded(self.album.model, self.album.inputs(slice(picture, picture + 1)))
            self._maps[picture] = [_on_cpu(part) for part in maps]
        return self._maps[picture]

    def _views(self, picture: int) -> dict[str, Callable[[], go.Figure]]:
        """Name -> what draws it, for one picture."""
        maps, image = self._recorded(picture), self.album.images[picture]
        inputs = self.album.inputs(slice(picture, picture + 1))
        if isinstance(maps[0], dict):
            return {f"global tokens, block {block}": partial(drawn.global_tokens, image[None], part["aggregation"],
                                                             part["broadcast"], self._grid(inputs, part["aggregation"]))
                    for block, part in enumerate(maps) if "aggregation" in part}
        prefix, *grid = timm_parts.layout(self.album.model, inputs, maps[0].shape[-1])
        place: dict[str, Any] = dict(prefix=prefix, grid=tuple(grid))
        heads = [self._read(part[0], prefix) for part in maps]
        flows = partial(self._read, prefix=prefix)
        return {"all heads": lambda: drawn.head_gallery(image, heads, **place),
                "rollout by depth": lambda: drawn.rollout_by_depth(image, list(map(flows, _depths(maps))), **place),
                "attention distance": lambda: drawn.attention_distance(attention_distance(maps, **place))}

    def _grid(self, inputs: Tensor, aggregation: Tensor) -> tuple[int, int]:
        """(rows, columns) of the patches that global tokens (..., T, N) look at."""
        prefix = timm_parts.num_prefix_tokens(self.album.model)
        return tuple(timm_parts.layout(self.album.model, inputs, prefix + aggregation.shape[-1])[1:])

    def _read(self, part: Tensor, prefix: int) -> Tensor:
        """Maps (..., N, N) whose first row, which is drawn, is what the head reads; without tokens
        in front the mean of all rows is drawn, as it is.
        """
        part = part.clone()
        if prefix:
            part[..., 0, :] = part[..., timm_parts.head_tokens(self.album.model), :].mean(dim=-2)
        return part

    def _receive(self, change: Mapping[str, Any]) -> None:
        """Add the pictures that were uploaded and show the last of them; broken files are named in
        the message.
        """
        if not change["new"]:
            return
        broken = []
        for name, content in uploaded_files(change["new"]):
            try:
                added = self.album.add(name, content)
                self.picture.options = self._choices()
                self.picture.value = added
            except LabError as error:
                broken.append(str(error))
        empty_upload(self.upload)
        self.message.value = alert("; ".join(broken))

    def _refresh(self, _: Any = None) -> None:
        """Draw what is chosen. In a callback an exception is seen by no one, so that it becomes a
        message.
        """
        try:
            self.figure = self._views(self.picture.value)[self.view.value]().update_layout(template=TEMPLATE)
            self.message.value = ""
        except LabError as error:
            self.message.value = alert(str(error))
            return
        with self.drawing:
            clear_output(wait=True)
            display(self.figure)


def _on_cpu(part: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    return {name: weights.cpu() for name, weights in part.items()} if isinstance(part, dict) else part.cpu()


def _depths(maps: Sequence[Tensor]) -> list[Tensor]:
    """The rollout after 1, 2, ... blocks, (N, N) each."""
    return [rollout(maps[:depth + 1])[0] for depth in range(len(maps))]
