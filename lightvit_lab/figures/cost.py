"""What a Vision Transformer costs, by sizes that readers choose in a page without a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

from ..errors import plain_numbers, require_choice, require_range
from ..profiling.estimates import Estimate, estimate_vit
from .axes import (Axis, across, chart, decades, fixed, legend, line, short, stroke, upward,
                   x_ticks, y_ticks)
from .card import Card, card, chooser, require_finding, slider
from .tables import html_table

__all__ = ["cost_explorer"]

SIZES: dict[str, tuple[int, ...]] = {
    "image_size": (32, 64, 96, 128, 160, 192, 224, 256, 384, 512, 640, 768),
    "patch_size": (4, 8, 16, 32),
    "dim": (64, 128, 192, 256, 384, 512, 768), "depth": (4, 6, 8, 12, 16, 24)}
LABELS = {"image_size": ("resolution", " px"), "patch_size": ("patch size", " px"),
          "dim": ("width", ""), "depth": ("depth", " blocks")}
QUANTITIES = {"MACs": "MACs of one picture", "parameters": "parameters", "tokens": "tokens",
              "share of attention": "attention, % of all MACs"}
# what the three charts are drawn against
PANELS = ("image_size", "patch_size", "dim")
LINES = ("the whole model", "products with weights, 12 N d\u00b2 L and both ends",
         "attention's own products, 2 N\u00b2 d L")
HEADS = ("changed", "tokens", "parameters", "MACs", "attention")
NAME = "Cost of a Vision Transformer"
_TICKS = {"image_size": (32, 64, 128, 256, 512), "dim": (64, 128, 256, 512)}
Sizes = Mapping[str, int]


@plain_numbers
def cost_explorer(finding: str | None = None, *, image_size: int = 224, patch_size: int = 16,
                  dim: int = 192, depth: int = 12, num_classes: int = 1000) -> Card:
    """Cost of a plain ViT over resolution, patch size and width, for a page without a kernel.

    It starts at the given sizes. MACs, parameters, tokens and the share of attention by
    `profiling.estimate_vit`, on logarithmic axes. `finding` says in one sentence what to find;
    None for the share of attention in small and large pictures. Raises LabError on an empty one,
    and on sizes that are none of the offered ones.
    """
    sizes = require_sizes(image_size, patch_size, dim, depth, num_classes)
    finding = _finding(sizes, num_classes) if finding is None else finding
    require_finding("cost_explorer", finding)
    data = {"sizes": SIZES, "labels": LABELS, "quantities": list(QUANTITIES), "titles": QUANTITIES,
            "panels": PANELS, "num_classes": num_classes,
            "x": {name: x_axis(name)._asdict() for name in PANELS},
            "y": {name: y_axis(name, num_classes)._asdict() for name in QUANTITIES}}
    drawn = _charts(sizes, num_classes, tuple(QUANTITIES), "MACs")
    return card("cost", NAME, controls=_controls(sizes), drawing=drawn,
                summary=cost_sentence(sizes, num_classes), finding=finding, data=data,
                table=cost_table(sizes, num_classes))


def require_sizes(image_size: int, patch_size: int, dim: int, depth: int,
                  num_classes: int) -> dict[str, int]:
    """The four sizes by name. Raises LabError unless they are offered."""
    sizes = {"image_size": image_size, "patch_size": patch_size, "dim": dim, "depth": depth}
    for name, value in sizes.items():
        require_choice("cost_explorer", name, value, SIZES[name])
    require_range("cost_explorer", "num_classes", num_classes, 1)
    return sizes


def _finding(sizes: Sizes, num_classes: int) -> str:
    """Attention's share at both ends of the resolutions, all other sizes as chosen."""
    ends = SIZES["image_size"][0], SIZES["image_size"][-1]
    low, high = (_percent(estimate_vit(**{**sizes, "image_size": end}, num_classes=num_classes))
                 for end in ends)
    return ("Attention's own products weigh where tokens are many for the width: here they are "
            f"{low} of the MACs at {ends[0]} px, {high} at {ends[1]} px.")


def cost_sentence(sizes: Sizes, num_classes: int) -> str:
    """What is chosen and what it costs, in words; `cost.js` says the same."""
    cost = estimate_vit(**sizes, num_classes=num_classes)
    return (f"{sizes['image_size']} px in patches of {sizes['patch_size']} px make {cost.tokens:,} "
            f"tokens. With width {sizes['dim']} and {sizes['depth']} blocks that is "
            f"{cost.params:,} parameters and {cost.macs:,} MACs for one picture, "
            f"{_percent(cost)} of them in attention's own products. At this "
            f"width they are half of a block from {6 * sizes['dim']:,} tokens on.")


def _percent(cost: Estimate) -> str:
    """The share of attention's own products, in words."""
    return f"{fixed(100 * cost.attention_share, 1)} %"


def _charts(sizes: Sizes, num_classes: int, quantities: Sequence[str], chosen: str) -> str:
    hidden = "" if chosen == "MACs" else " hidden"
    charts = "".join(_panel(name, sizes, num_classes, quantities, chosen) for name in PANELS)
    return (f'<div data-legend{hidden}>{legend(LINES)}</div>'
            f'<div class="lab-card-charts">{charts}</div>')


def _panel(varied: str, sizes: Sizes, num_classes: int, quantities: Sequence[str],
           chosen: str) -> str:
    """One chart, with the vertical axis of each of `quantities`, of which one is shown."""
    x, y = x_axis(varied), y_axis(chosen, num_classes)
    label, unit = LABELS[varied]
    marked = [(value, str(value)) for value in _TICKS.get(varied, SIZES[varied])]
    ticks = x_ticks(x, marked, f"{label} in{unit}" if unit else label)
    for quantity in quantities:
        axis = y_axis(quantity, num_classes)
        marks = y_ticks(axis, decades(axis, " %" * (quantity == "share of attention")),
                        QUANTITIES[quantity])
        ticks += f'<g data-quantity="{quantity}"{" hidden" * (quantity != chosen)}>{marks}</g>'
    rows = [values(estimate_vit(**{**sizes, varied: value}, num_classes=num_classes), chosen)
            for value in SIZES[varied]]
    columns = list(zip(*rows)) + [()] * (len(LINES) - len(rows[0]))
    paths = "".join(f'<path class="line" d="{line(SIZES[varied], column, x, y) if column else ""}" '
                    f"{stroke(index)}/>"
                    for index, column in enumerate(columns))
    here = rows[SIZES[varied].index(sizes[varied])][0]
    dot = f'<circle class="here" r="5" cx="{x.at(sizes[varied]):.1f}" cy="{y.at(here):.1f}"/>'
    return chart(_alt(varied, chosen, rows[0][0], rows[-1][0]), ticks, paths + dot)


def _alt(varied: str, quantity: str, first: float, last: float) -> str:
    """What a chart shows, in words; `cost.js` says the same."""
    (label, unit), ends = LABELS[varied], (SIZES[varied][0], SIZES[varied][-1])
    return (f"{QUANTITIES[quantity]} against {label}, both axes logarithmic: {short(first)} at "
            f"{ends[0]}{unit}, {short(last)} at {ends[1]}{unit}.")


def values(cost: Estimate, quantity: str) -> tuple[float, ...]:
    """What the lines of a quantity are drawn through."""
    if quantity == "MACs":
        return cost.macs, cost.macs - cost.attention_macs, cost.attention_macs
    single = {"parameters": cost.params, "tokens": cost.tokens}
    return (single.get(quantity, 100 * cost.attention_share),)


def x_axis(varied: str) -> Axis:
    """From half a step below the smallest size to half a step above the greatest."""
    return across(SIZES[varied][0] / 1.2, SIZES[varied][-1] * 1.2, log=True)


@cache
def y_axis(quantity: str, num_classes: int) -> Axis:
    """Around all that can be chosen, so that the axis stands still when sizes change."""
    # each quantity is monotonic
    ends = product(*((options[0], options[-1]) for options in SIZES.values()))
    found = [values(estimate_vit(*end, num_classes=num_classes), quantity)[0] for end in ends]
    return upward(min(found) / 1.5, max(found) * 1.5, log=True)


def cost_table(sizes: Sizes, num_classes: int) -> str:
    """What the charts show, in numbers: one size changed at a time."""
    rows = []
    for varied in PANELS:
        label, unit = LABELS[varied]
        for value in SIZES[varied]:
            cost = estimate_vit(**{**sizes, varied: value}, num_classes=num_classes)
            rows.append((f"{label} {value}{unit}", f"{cost.tokens:,}", f"{cost.params:,}",
                         f"{cost.macs:,}", _percent(cost)))
    return html_table("Costs with one size changed at a time", HEADS, rows)


def _controls(sizes: Sizes) -> str:
    sliders = [slider(label, name, 0, len(SIZES[name]) - 1, SIZES[name].index(sizes[name]),
                      f"{sizes[name]}{unit}")
               for name, (label, unit) in LABELS.items()]
    return "".join(sliders) + chooser("drawn", list(QUANTITIES), "MACs")
