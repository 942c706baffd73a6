"""What a Vision Transformer costs, live: the formulas' numbers beside those counted in a real model
of these sizes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ipywidgets
import torch

from ..errors import plain_numbers
from .. import models, profiling
from ..figures.card import Card, live
from ..figures.cost import LABELS, QUANTITIES, SIZES, cost_table, drawing, require_sizes, sentence
from ..figures.cost import cost_explorer as twin
from .boxes import alert, status

HEAD_WIDTH = 64     # the number of heads does not enter the cost


@plain_numbers
def cost_explorer(image_size: int = 224, patch_size: int = 16, dim: int = 192, depth: int = 12,
                  num_classes: int = 1000) -> CostExplorer:
    """A box in which readers choose the sizes of a ViT and see what it costs, by formula and
    counted.

    `.static(finding)` is the box's twin for a page without a kernel. Raises LabError on sizes that
    are not offered.
    """
    return CostExplorer(require_sizes(image_size, patch_size, dim, depth, num_classes), num_classes)


class CostExplorer(ipywidgets.VBox):
    """The box; made by `cost_explorer`. Its parts are attributes: `.sizes` (by name), `.quantity`,
    `.said`, ...
    """

    def __init__(self, sizes: dict[str, int], num_classes: int) -> None:
        self.num_classes = num_classes
        self.sizes = {name: ipywidgets.SelectionSlider(
            options=[(f"{value}{unit}", value) for value in SIZES[name]], value=sizes[name], description=label,
            continuous_update=False) for name, (label, unit) in LABELS.items()}
        self.quantity = ipywidgets.Dropdown(options=list(QUANTITIES), description="drawn", layout={"width": "auto"})
        self.table = ipywidgets.ToggleButton(False, description="data table")
        self.drawing, self.said, self.counted, self.values = (ipywidgets.HTML() for _ in range(4))
        controls = [*self.sizes.values(), self.quantity]
        top = ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"})
        super().__init__([top, self.drawing, self.said, self.counted, self.table, self.values])
        for part in (*controls, self.table):
            part.observe(self._refresh, "value")
        self._refresh()

    def chosen(self) -> dict[str, int]:
        """The sizes, as keyword arguments of `profiling.estimate_vit`."""
        return {name: part.value for name, part in self.sizes.items()}

    def static(self, finding: str) -> Card:
        """The twin for a page without a kernel, starting here; `finding` says in one sentence what
        to find.
        """
        return twin(finding, **self.chosen(), num_classes=self.num_classes)

    def _refresh(self, _: Any = None) -> None:
        """Draw at once, then count: that takes a little longer. A failure is a message, for
        callbacks fail unseen.
        """
        sizes = self.chosen()
        self.drawing.value = live(drawing(sizes, self.num_classes, self.quantity.value))
        self.said.value = status(sentence(sizes, self.num_classes))
        self.values.value = live(cost_table(sizes, self.num_classes)) if self.table.value else ""
        try:
            self.counted.value = status(beside(sizes, self.num_classes))
        except Exception as error:
            self.counted.value = alert(f"The model could not be counted: {error}")


def beside(sizes: dict[str, int], num_classes: int) -> str:
    """Formula and count of the same sizes, in words."""
    formula, counted = profiling.estimate_vit(**sizes, num_classes=num_classes), count_vit(*sizes.values(), num_classes)
    agree = (formula.params, formula.macs) == (counted.params, counted.macs)
    return (f"Counted in a model of these sizes: {counted.params:,} parameters and {counted.macs:,} MACs; the formulas "
            f"say {'exactly that' if agree else f'{formula.params:,} and {formula.macs:,}'}.")


@plain_numbers
@lru_cache(maxsize=256)
def count_vit(image_size: int, patch_size: int, dim: int, depth: int,
              num_classes: int) -> profiling.Count:
    """Count a real ViT with plain patches, built without memory on the meta device."""
    with torch.device("meta"):
        model = models.create_model("lab_vit", embedding="patch", image_size=image_size, patch_size=patch_size, dim=dim,
                                    depth=depth, num_heads=dim // HEAD_WIDTH, num_classes=num_classes)
    return profiling.count(model, (3, image_size, image_size))
