"""The frame of every live box: controls, message, drawing, sentence, data table; and uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets

from ..errors import LabError
from .album import Album

STILL = "As it stood when the cell ran: run the cell again for the live box."
WIDE = {"description_width": "initial"}


class Box(ipywidgets.VBox):
    """A box that is drawn anew, by its `draw`, whenever one of its `controls` changes.

    Its parts are `.message`, `.drawing`, `.summary`, `.table` (the button) and `.values` (the
    table). What fails is a message: in a callback, an exception would be lost.
    """

    def __init__(self, *controls: ipywidgets.Widget,
                 others: Sequence[ipywidgets.Widget] = ()) -> None:
        self.table = ipywidgets.ToggleButton(False, description="data table")
        self.message, self.drawing = ipywidgets.HTML(), ipywidgets.HTML()
        self.summary, self.values = ipywidgets.HTML(), ipywidgets.HTML()
        top = ipywidgets.HBox([*controls, *others], layout={"flex_flow": "row wrap"})
        super().__init__([top, self.message, self.drawing, self.summary, self.table, self.values])
        for control in (*controls, self.table):
            control.observe(self._refresh, "value")
        self._refresh()

    def static(self, finding: str) -> Any:
        """The twin for a page without a kernel; `finding` says in one sentence what to find."""
        raise LabError(f"{type(self).__name__} has no static twin")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The box, and its twin as HTML for where no widget manager is."""
        bundle = super()._repr_mimebundle_(**options)
        try:
            bundle["text/html"] = self.static(STILL)._repr_html_()
        except Exception:     # nothing to show yet, or no twin: the live box is shown all the same
            pass
        return bundle

    def draw(self) -> None:
        """Fill `drawing`, `summary` and `values`."""

    def _refresh(self, _: Any = None) -> None:
        try:
            self.draw()
            self.message.value = ""
        except Exception as error:
            self.message.value = alert(str(error))


class PictureBox(Box):
    """A box about one `picture` of an album, to which readers can add their own by `upload`."""

    def __init__(self, album: Album, *controls: ipywidgets.Widget) -> None:
        self.album = album
        self.picture = dropdown("picture", album.choices())
        self.upload = ipywidgets.FileUpload(description="own picture", layout={"width": "auto"},
                                            accept=".png,.jpg,.jpeg,.webp")
        self.upload.observe(self._receive, "value")
        super().__init__(self.picture, *controls, others=[self.upload])

    def _receive(self, change: Mapping[str, Any]) -> None:
        """Add uploaded pictures and choose the last; broken files are named in the message."""
        if not change["new"]:
            return
        added, broken = [], []
        for name, content in uploaded_files(change["new"]):
            try:
                added.append(self.album.add(name, content))
            except LabError as error:
                broken.append(str(error))
        if added:
            self.picture.options = self.album.choices()
            self.picture.value = added[-1]
        empty_upload(self.upload)
        self.message.value = alert("; ".join(broken))


def dropdown(description: str, options: Sequence[Any]) -> ipywidgets.Dropdown:
    """A labelled choice as wide as its longest option."""
    return ipywidgets.Dropdown(options=options, description=description, layout={"width": "auto"})


def status(text: str) -> str:
    """A sentence that is read aloud when it changes."""
    return f'<p role="status">{escape(text)}</p>'


def alert(text: str) -> str:
    """A message about what went wrong; nothing where nothing did."""
    return f'<p role="alert">{escape(text)}</p>' if text else ""


def uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """Name and content of each file in the value of a `FileUpload`.

    ipywidgets 8 gives a tuple of dictionaries, ipywidgets 7 (in Colab) one dictionary by name.
    """
    if isinstance(value, Mapping):
        value = [{"name": name, **file} for name, file in value.items()]
    return [(str(file["name"]), bytes(file["content"])) for file in value]


def empty_upload(upload: ipywidgets.FileUpload) -> None:
    """Take all files out of `upload`, so that the same file can be chosen again."""
    # ipywidgets 7: read-only, made anew when the counter changes
    if isinstance(upload.value, Mapping):
        upload.metadata, upload.data = [], []
        upload._counter = 0
    else:
        upload.value = ()
