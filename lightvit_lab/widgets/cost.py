"""What a Vision Transformer costs, live: by formula, and counted in a real model of these sizes."""

from __future__ import annotations

from functools import lru_cache

import ipywidgets
import torch

from .. import models, profiling
from ..errors import plain_numbers
from ..figures.card import Card, live
from ..figures.cost import (LABELS, QUANTITIES, SIZES, cost_charts, cost_sentence, cost_table,
                            require_sizes)
from ..figures.cost import cost_explorer as twin
from .boxes import Box, dropdown, status

HEAD_WIDTH = 64     # the number of heads does not enter the cost


@plain_numbers
def cost_explorer(image_size: int = 224, patch_size: int = 16, dim: int = 192, depth: int = 12,
                  num_classes: int = 1000) -> CostExplorer:
    """A box in which readers choose the sizes of a ViT and read its cost, by formula and counted.

    `.static(finding)` is the box's twin for a page without a kernel. Raises LabError on sizes that
    are not offered.
    """
    return CostExplorer(require_sizes(image_size, patch_size, dim, depth, num_classes), num_classes)


class CostExplorer(Box):
    """The box; made by `cost_explorer`. Its controls are `.sizes` (by name) and `.quantity`."""

    def __init__(self, sizes: dict[str, int], num_classes: int) -> None:
        self.num_classes, self.sizes = num_classes, {}
        for name, (label, unit) in LABELS.items():
            options = [(f"{value}{unit}", value) for value in SIZES[name]]
            self.sizes[name] = ipywidgets.SelectionSlider(
                options=options, value=sizes[name], description=label, continuous_update=False)
        self.quantity = dropdown("drawn", list(QUANTITIES))
        super().__init__(*self.sizes.values(), self.quantity)

    def chosen(self) -> dict[str, int]:
        """The sizes, as keyword arguments of `profiling.estimate_vit`."""
        return {name: part.value for name, part in self.sizes.items()}

    def static(self, finding: str) -> Card:
        """The twin for a page, starting here; `finding` says in one sentence what to find."""
        return twin(finding, **self.chosen(), num_classes=self.num_classes)

    def draw(self) -> None:
        """Draw at once, then count: that takes a little longer."""
        sizes, classes = self.chosen(), self.num_classes
        self.drawing.value = live(cost_charts(sizes, classes, self.quantity.value))
        self.summary.value = status(cost_sentence(sizes, classes))
        self.values.value = live(cost_table(sizes, classes)) if self.table.value else ""
        self.summary.value += status(count_sentence(sizes, classes))


def count_sentence(sizes: dict[str, int], num_classes: int) -> str:
    """Formula and count of the same sizes, in words."""
    formula = profiling.estimate_vit(**sizes, num_classes=num_classes)
    counted = count_vit(*sizes.values(), num_classes)
    agree = (formula.params, formula.macs) == (counted.params, counted.macs)
    formulas = "exactly that" if agree else f"{formula.params:,} and {formula.macs:,}"
    return (f"Counted in a model of these sizes: {counted.params:,} parameters and "
            f"{counted.macs:,} MACs; the formulas say {formulas}.")


@plain_numbers
@lru_cache(maxsize=256)
def count_vit(image_size: int, patch_size: int, dim: int, depth: int,
              num_classes: int) -> profiling.Count:
    """Count a real ViT with plain patches, built without memory on the meta device."""
    with torch.device("meta"):
        model = models.create_model(
            "lab_vit", embedding="patch", image_size=image_size, patch_size=patch_size, dim=dim,
            depth=depth, num_heads=dim // HEAD_WIDTH, num_classes=num_classes)
    return profiling.count(model, (3, image_size, image_size))
