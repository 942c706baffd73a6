"""What a model attends to, live: any picture, also the reader's own, by method, block and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets
from torch import nn

from ..data import Pictures
from ..errors import plain_numbers, require_range
from ..figures.atlas import Place
from ..figures.explorer import Explorer, explorer, map_table
from ..figures.overlay import scale_bar, side_by_side
from .album import ExplainedAlbum, Explainer
from .boxes import WIDE, PictureBox, dropdown

_CARD = "display:inline-block;max-width:100%"


def attention_explorer(model: nn.Module, pictures: Pictures,
                       explainers: Mapping[str, Explainer] | None = None,
                       class_names: Sequence[str] | None = None) -> AttentionExplorer:
    """A box in which readers choose a picture, or bring their own, and explore the model's maps.

    `pictures` are of the model's image size, as `data.load` gives them; own pictures are cut,
    resized and normalised as they are. In addition to attention, rollout and relevance,
    `explainers` gives maps by name, (model, inputs, target) -> (batch, rows, columns), for the
    predicted class. `class_names` are those of `pictures` if None. `.static(finding)` is the box's
    twin for a page without a kernel. Raises LabError if there is nothing to show.
    """
    return AttentionExplorer(ExplainedAlbum(model, pictures, dict(explainers or {}), class_names))


class AttentionExplorer(PictureBox):
    """The box; made by `attention_explorer`. Controls: `.picture`, `.method`, `.block`, ..."""

    def __init__(self, album: ExplainedAlbum) -> None:
        maps = album.recorded(0).maps
        blocks, has_class_token = len(maps["attention"]), maps["prefix"] > 0
        heads = range(maps["attention"][0].shape[1] if blocks else 0)
        self.method = dropdown("method", album.methods)
        self.block = dropdown("block", range(blocks))
        self.block.value = blocks - 1 if blocks else None
        self.head = dropdown("head", [("mean of heads", -1),
                                      *((str(head), head) for head in heads)])
        self.class_token = ipywidgets.Checkbox(
            has_class_token, description="from the class token", indent=False,
            disabled=not has_class_token, layout={"width": "auto"})
        self.row, self.column = (
            ipywidgets.IntSlider(count // 2, 0, count - 1, description=f"patch {name}", style=WIDE)
            for name, count in zip(("row", "column"), maps["grid"] or (1, 1)))
        super().__init__(album, self.method, self.block, self.head, self.class_token, self.row,
                         self.column)

    def place(self) -> Place:
        """What is chosen, in the atlas of its one picture."""
        maps = self.album.recorded(self.picture.value).maps
        query = 0
        if maps["grid"] and not self.class_token.value:
            query = maps["prefix"] + self.row.value * maps["grid"][1] + self.column.value
        head = None if self.head.value < 0 else self.head.value
        return Place(0, self.method.value, self.block.value or 0, head, query)

    @plain_numbers
    def static(self, finding: str, count: int | None = None) -> Explorer:
        """The twin for a page without a kernel: the first `count` pictures, None for at most 6.

        `finding` says in one sentence what to find there. Raises LabError without it, and on a
        count of more pictures than there are.
        """
        present = len(self.album.captions)
        if count is not None:
            require_range("static", "count", count, 1, present)
        pictures = self.album.together(min(6, present) if count is None else count)
        return explorer(finding=finding, **pictures)

    def draw(self) -> None:
        """Draw the map that is chosen; what its method does not have is switched off."""
        place, picture = self.place(), self.picture.value
        maps = self.album.atlas(picture, place.method)
        kind = maps.methods[place.method].kind
        self.block.disabled = self.head.disabled = kind != "heads"
        self.class_token.disabled = kind == "grid" or maps.prefix == 0
        self.row.disabled = self.column.disabled = kind == "grid" or self.class_token.value
        if kind == "grid":
            place = place._replace(query=-1)        # a map of the whole picture has no query
        sentence = escape(maps.describe(place))
        still = side_by_side(maps.images[0], maps.lookup(place).cells, maps.frame(place))
        bar = scale_bar(maps.ends(place))
        self.drawing.value = (f'<div style="{_CARD}"><img src="{still}" alt="Picture, and its map: '
                              f'{sentence}" style="max-width:100%">{bar}</div>')
        self.summary.value = f'<p role="status">{escape(self.album.answer(picture))} {sentence}</p>'
        self.values.value = map_table(maps, place) if self.table.value else ""
