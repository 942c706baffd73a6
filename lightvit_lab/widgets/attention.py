"""Where a model looks, live: any picture, also the reader's own, by method, block, head and looking
patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
from torch import nn

from ..data import Pictures
from ..errors import LabError, plain_numbers, require_range
from ..figures.atlas import Place
from ..figures.explorer import Explorer, explorer, table
from ..figures.overlay import beside, gradient
from .boxes import empty_upload, uploaded_files
from .reading import TOKENS, Explainer, Reading

_CARD = "display:inline-block;max-width:100%;background:#fff;color:#1f2328;padding:6px"
_WIDE = {"description_width": "initial"}


def attention_explorer(model: nn.Module, pictures: Pictures,
                       explainers: Mapping[str, Explainer] | None = None,
                       class_names: Sequence[str] | None = None) -> AttentionExplorer:
    """A box in which readers choose a picture, or bring their own, and see where `model` looks.

    `pictures` are of the model's image size, as `data.load` gives them; own pictures are cut,
    resized and normalised as they are. Beside attention, rollout and relevance, `explainers` gives
    maps by name, (model, inputs, target) -> (batch, rows, columns), for the predicted class.
    `class_names` are those of `pictures` if None. `.static(finding)` is the box's twin for a page
    without a kernel. Raises LabError if there is nothing to show.
    """
    if not isinstance(pictures, Pictures) or len(pictures) == 0:
        given = "no pictures" if isinstance(pictures, Pictures) else f"pictures={type(pictures).__name__}"
        raise LabError(f"attention_explorer: {given}; give some that data.load made, as "
                       'data.load("shapes", "test", count=8)')
    wrong = {name: part for name, part in (explainers or {}).items() if not callable(part) or name in TOKENS}
    if wrong:
        raise LabError(f"attention_explorer: explainers {', '.join(wrong)}: give functions (model, inputs, target) -> "
                       f"(batch, rows, columns), by names other than {', '.join(TOKENS)}")
    names = tuple(class_names or pictures.class_names)
    return AttentionExplorer(Reading(model, pictures, dict(explainers or {}), names))


class AttentionExplorer(ipywidgets.VBox):
    """The box; made by `attention_explorer`. Its parts are attributes: `.picture`, `.method`,
    `.block`, `.head`, ...
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._make_choices()
        self.upload = ipywidgets.FileUpload(accept=".png,.jpg,.jpeg,.webp", description="own picture",
                                            layout={"width": "auto"})
        self.table = ipywidgets.ToggleButton(False, description="data table")
        self.drawing, self.said, self.message, self.values = (ipywidgets.HTML() for _ in range(4))
        choices = [self.picture, self.method, self.block, self.head, self.class_token, self.row, self.column]
        top = ipywidgets.HBox([*choices, self.upload], layout={"flex_flow": "row wrap"})
        super().__init__([top, self.message, self.drawing, self.said, self.table, self.values])
        for part in (*choices, self.table):
            part.observe(self._refresh, "value")
        self.upload.observe(self._receive, "value")
        self._refresh()

    def _make_choices(self) -> None:
        run = self.reading.recorded(0)
        blocks, heads = len(run.attention), run.attention[0].shape[1] if run.attention else 0
        rows, columns = run.grid or (1, 1)
        self.picture = _choice("picture", list(zip(self.reading.captions, range(len(self.reading.captions)))))
        self.method = _choice("method", list(self.reading.methods))
        self.block = _choice("block", list(range(blocks)))
        self.block.value = blocks - 1 if blocks else None
        self.head = _choice("head", [("mean of heads", -1), *((str(head), head) for head in range(heads))])
        self.class_token = ipywidgets.Checkbox(run.prefix > 0, description="from the class token", indent=False,
                                               disabled=run.prefix == 0, layout={"width": "auto"})
        self.row, self.column = (
            ipywidgets.IntSlider(count // 2, 0, count - 1, description=f"patch {name}", style=_WIDE)
            for name, count in (("row", rows), ("column", columns)))

    def place(self) -> Place:
        """What is chosen, in the atlas of its one picture."""
        run = self.reading.recorded(self.picture.value)
        prefix, grid = run.prefix, run.grid
        query = 0 if self.class_token.value or not grid else prefix + self.row.value * grid[1] + self.column.value
        head = None if self.head.value < 0 else self.head.value
        return Place(0, self.method.value, self.block.value or 0, head, query)

    @plain_numbers
    def static(self, finding: str, count: int | None = None) -> Explorer:
        """The twin for a page without a kernel: the first `count` pictures (None: at most 6), and
        what to see in them.

        `finding` says so in one sentence. Raises LabError without it, and on a count of more
        pictures than there are.
        """
        there = len(self.reading.captions)
        if count is not None:
            require_range("static", "count", count, 1, there)
        return explorer(finding=finding, **self.reading.together(min(6, there) if count is None else count))

    def _receive(self, change: Mapping[str, Any]) -> None:
        """Add the pictures that were uploaded and show the last of them; broken files are named in
        the message.
        """
        if not change["new"]:
            return
        added, broken = [], []
        for name, content in uploaded_files(change["new"]):
            try:
                added.append(self.reading.add(name, content))
            except LabError as error:
                broken.append(str(error))
        if added:
            self.picture.options = list(zip(self.reading.captions, range(len(self.reading.captions))))
            self.picture.value = added[-1]
        empty_upload(self.upload)
        self._tell("; ".join(broken))

    def _tell(self, text: str) -> None:
        self.message.value = f'<p role="alert">{escape(text)}</p>' if text else ""

    def _refresh(self, _: Any = None) -> None:
        """Draw what is chosen. An explainer that fails is a message: in a callback, an exception is
        seen by no one.
        """
        try:
            self._draw(self.place())
            self._tell("")
        except Exception as error:
            self._tell(f"{self.method.value}: {error}")

    def _draw(self, place: Place) -> None:
        maps = self.reading.atlas(self.picture.value, place.method)
        kind = maps.methods[place.method].kind
        self.block.disabled = self.head.disabled = kind != "heads"
        self.class_token.disabled = kind == "grid" or maps.prefix == 0
        self.row.disabled = self.column.disabled = kind == "grid" or self.class_token.value
        # a grid has no looking patch
        place = place._replace(query=-1) if kind == "grid" else place
        sentence = maps.sentence(place)
        still = beside(maps.images[0], maps.look(place).cells, maps.frame(place))
        self.drawing.value = (f'<div style="{_CARD}"><img src="{still}" alt="Picture, and its map: {escape(sentence)}" '
                              f'style="max-width:100%">{_bar(maps.ends(place))}</div>')
        self.said.value = f'<p role="status">{escape(self.reading.answer(self.picture.value))} {escape(sentence)}</p>'
        self.values.value = table(maps, place) if self.table.value else ""


def _choice(description: str, options: list) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(options=options, description=description, layout={"width": "auto"})


def _bar(ends: Sequence[str]) -> str:
    """The colour bar below the map, the right half of the drawing."""
    low, middle, high = map(escape, ends)
    return (f'<div style="margin-left:51.5%"><div style="height:12px;border:1px solid #6b727b;background:{gradient()}">'
            '</div>'
            '<div style="display:grid;grid-template-columns:1fr auto 1fr;gap:.5em;font-size:.85em;line-height:1.4">'
            f'<span>{low}</span><span>{middle}</span><span style="text-align:right">{high}</span></div></div>')
