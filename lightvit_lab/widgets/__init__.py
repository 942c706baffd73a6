"""Boxes for the live notebook (ipywidgets); each has a static twin of `figures/` for the page."""

from .attention import AttentionExplorer, attention_explorer

__all__ = ["AttentionExplorer", "attention_explorer"]
