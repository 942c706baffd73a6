"""Expected and given output, drawn side by side: small PNGs inside the HTML of a check.

Only for outputs that are pictures or 2-D maps.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor

from .comparison import plain

SMALLEST, LARGEST = 3, 512    # cells along a side that are worth drawing
LONG, SHORT = 130, 32        # pixels on the page: the longer side, and the shorter one at least


def comparison_drawing(given: Any, expected: Any) -> str:
    """Both outputs and their difference, as HTML; empty unless both are maps of one shape.

    Of a stack (batch, heads, ..., rows, columns) the one map with the largest difference is drawn;
    three channels of numbers in [0, 1] are drawn in colour.
    """
    if not _drawable(given, expected):
        return ""
    given, expected = (plain(part).double().nan_to_num(0.0, 0.0, 0.0) for part in (given, expected))
    colour = _is_picture(expected)
    index = _worst(given, expected, 3 if colour else 2)
    given, expected = given[index], expected[index]
    panels = [_panel("expected", expected, given, expected, colour),
              _panel("given", given, given, expected, colour),
              _difference_panel(given, expected, colour)]
    name = f"{'picture' if colour else 'map'} of {expected.shape[-2]} x {expected.shape[-1]}"
    which = f"The worst {name}, output{list(index)}" if index else f"The {name}"
    return (f'<div class="lab-check-drawing" style="margin-top:.4em"><div>{which}, '
            'both on one scale:</div>'
            '<div style="display:flex;flex-wrap:wrap;gap:.8em;margin-top:.3em">'
            f'{"".join(panels)}</div></div>')


def _drawable(given: Any, expected: Any) -> bool:
    if not isinstance(given, Tensor) or not isinstance(expected, Tensor):
        return False
    if given.device.type == "meta" or expected.is_complex() or expected.dim() < 2:
        return False
    if given.shape != expected.shape or given.is_complex():
        return False
    return all(SMALLEST <= side <= LARGEST for side in expected.shape[-2:])


def _is_picture(expected: Tensor) -> bool:
    """Whether an output is colour pictures (..., 3, rows, columns), not a stack of three maps."""
    large = expected.dim() >= 3 and expected.shape[-3] == 3 and min(expected.shape[-2:]) >= 8
    return bool(large and expected.min() >= 0 and expected.max() <= 1)


def _worst(given: Tensor, expected: Tensor, sides: int) -> tuple[int, ...]:
    """Index of the map with the largest difference, over all but the last `sides` dimensions."""
    stack = expected.shape[:-sides]
    gaps = (given - expected).abs().flatten(-sides).amax(-1)
    return tuple(int(part) for part in torch.unravel_index(gaps.argmax(), stack)) if stack else ()


def _panel(name: str, shown: Tensor, given: Tensor, expected: Tensor, colour: bool) -> str:
    low = min(given.min(), expected.min()).item()
    high = max(given.max(), expected.max()).item()
    pixels = _rgb(shown) if colour else _mapped(shown, low, high)
    return _figure(name, f"{name}: values from {shown.min():.3g} to {shown.max():.3g}", pixels)


def _difference_panel(given: Tensor, expected: Tensor, colour: bool) -> str:
    """The size of the difference, on a scale of its own that begins at zero."""
    gap = (given - expected).abs()
    gap = gap.amax(0) if colour else gap
    place = [int(part) for part in torch.unravel_index(gap.argmax(), gap.shape)]
    share = (gap > 1e-3 * gap.max()).double().mean().item()
    alt = (f"difference: largest {gap.max():.3g} at row {place[0]}, column {place[1]}; "
           f"{share:.0%} of the places differ")
    return _figure(f"difference, up to {gap.max():.3g}", alt, _mapped(gap, 0.0, gap.max().item()))


def _mapped(cells: Tensor, low: float, high: float) -> numpy.ndarray:
    """Cells (rows, columns) in cividis, dark for low: bytes (rows, columns, 3)."""
    from ..figures.overlay import SCALE

    position = ((cells - low) / ((high - low) or 1)).clamp(0, 1).numpy()
    stops = numpy.linspace(0, 1, len(SCALE))
    channels = [numpy.interp(position, stops, channel) for channel in zip(*SCALE)]
    return numpy.stack(channels, axis=-1).astype(numpy.uint8)


def _rgb(picture: Tensor) -> numpy.ndarray:
    """A picture (3, rows, columns) as bytes (rows, columns, 3)."""
    return picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def _figure(caption: str, alt: str, pixels: numpy.ndarray) -> str:
    """One drawing with its caption.

    The class `dark-light` keeps the theme from darkening and padding it on dark pages.
    """
    rows, columns, scale = *pixels.shape[:2], LONG / max(pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    width, height = (max(SHORT, round(side * scale)) for side in (columns, rows))
    size = f'width="{width}" height="{height}"'
    style = ("max-width:100%;padding:0;image-rendering:pixelated;"
             "border:1px solid rgba(128,128,128,.5)")
    return (f'<figure style="margin:0"><img class="dark-light" src="{source}" alt="{alt}" {size} '
            f'style="{style}"><figcaption style="font-size:.9em">{caption}</figcaption></figure>')
