"""The two lines of text in every live box: what it says, and what went wrong."""

from __future__ import annotations

from html import escape


def status(text: str) -> str:
    """A sentence that is read aloud when it changes."""
    return f'<p role="status">{escape(text)}</p>'


def alert(text: str) -> str:
    """A message about what went wrong; nothing where nothing did."""
    return f'<p role="alert">{escape(text)}</p>' if text else ""
