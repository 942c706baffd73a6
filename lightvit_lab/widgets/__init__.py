"""Boxes for the live notebook (ipywidgets); each has a static twin of `figures/` for the page."""
