"""Plotly figures as pure functions, data -> Figure, and `show` with its alternative text.

What readers work with in a page without a kernel is HTML of our own: `explorer`, and the cards
`cost_explorer`, `compare_models` and `training_explorer`.
"""

from __future__ import annotations

import sys

from ..runtime import import_all

# What a module of this room lists in its `__all__` is exported here: a new figure needs no line in
# this file.
_MODULES = import_all(sys.modules[__name__])
__all__ = sorted(name for module in _MODULES for name in getattr(module, "__all__", ()))
globals().update({name: getattr(module, name) for module in _MODULES
                  for name in getattr(module, "__all__", ())})
