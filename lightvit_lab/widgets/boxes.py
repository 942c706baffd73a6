"""What every live box shares: the two lines of text, what it says and what went wrong; and files
that readers upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import ipywidgets


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
        return [(str(name), bytes(file["content"])) for name, file in value.items()]
    return [(str(file["name"]), bytes(file["content"])) for file in value]


def empty_upload(upload: ipywidgets.FileUpload) -> None:
    """Take all files out of `upload`, so that the same file can be chosen again."""
    # ipywidgets 7: read-only, made anew when the counter changes
    if isinstance(upload.value, Mapping):
        upload.metadata, upload.data = [], []
        upload._counter = 0
    else:
        upload.value = ()
