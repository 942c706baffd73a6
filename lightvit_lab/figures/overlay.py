"""A map laid over its picture: colours, numbers, drawing, for pages and live notebooks.

`explorer.js` does the same arithmetic in the browser.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from plotly.colors import sequential
from torch import Tensor

from .pictures import to_bytes

SCALE = [list(bytes.fromhex(colour[1:])) for colour in sequential.Cividis]    # low to high, RGB
# opacity of the map above the picture, which is turned grey so that all colour is the map's
OPACITY = 0.7
QUERY = "#D55E00"               # frames the patch that looks
_ENDS = "display:grid;grid-template-columns:1fr auto 1fr;gap:.5em;font-size:.85em;line-height:1.4"
_GREY = (0.299, 0.587, 0.114)   # brightness of red, green and blue (ITU-R BT.601)


def limits(cells: Tensor) -> tuple[float, float]:
    """Ends of a map's colour scale: zero, or its lowest value if below, and its highest value."""
    return min(0.0, cells.min().item()), cells.max().item()


def highest(cells: Tensor) -> str:
    """Where a map (rows, columns) is highest, in words."""
    return "row {}, column {}".format(*divmod(int(cells.argmax()), cells.shape[1]))


def format_value(value: float, top: float) -> str:
    """`value` with the digits that 255 steps up to `top` need; small ones as 1.5e-7."""
    digits = max(0, math.floor(math.log10(255 / top))) if top > 0 else 0
    if value == 0 or digits > 5:
        return _small(value)
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def format_times(value: float) -> str:
    """A factor with no decimals from 10 on, one below that, two where it is small."""
    size = abs(value)
    if size < 0.01:
        return _small(value)
    return f"{value:.2f}" if size < 0.095 else f"{value:.1f}" if size < 9.95 else f"{value:.0f}"


def _small(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def blend(image: Tensor, cells: Tensor) -> NDArray[numpy.uint8]:
    """A map (h, w) over its picture (3, H, W) in [0, 1], scaled by `limits`: bytes (H, W, 3)."""
    low, high = limits(cells)
    across = (cells.detach().cpu().double().numpy() - low) / ((high - low) or 1)
    rows = numpy.arange(image.shape[-2]) * cells.shape[0] // image.shape[-2]
    columns = numpy.arange(image.shape[-1]) * cells.shape[1] // image.shape[-1]
    return _over(across[rows][:, columns], (to_bytes(image) * _GREY).sum(-1, keepdims=True))


def _over(across: NDArray, grey: NDArray | float) -> NDArray[numpy.uint8]:
    """Colours of values (...) in [0, 1] above grey (..., 1) of 0 to 255: bytes (..., 3)."""
    stops = numpy.linspace(0, 1, len(SCALE))
    colour = numpy.stack([numpy.interp(across, stops, channel) for channel in zip(*SCALE)], axis=-1)
    return numpy.floor(OPACITY * colour + (1 - OPACITY) * grey + 0.5).astype(numpy.uint8)


def gradient() -> str:
    """The colour scale as it looks above medium grey, for CSS."""
    stops = _over(numpy.linspace(0, 1, len(SCALE)), 128.0)
    colours = ", ".join(f"#{stop.tobytes().hex()}" for stop in stops)
    return f"linear-gradient(to right, {colours})"


Box = tuple[int, int, int, int]      # left, top, right and bottom in pixels of the picture


def box_of(places: tuple[int, int, int, int], grid: tuple[int, int], image: Tensor) -> Box:
    """The pixels of patches: of `grid` (rows, columns), first row and column to last, inclusive."""
    (rows, columns), (height, width) = grid, image.shape[-2:]
    top, left, bottom, right = places
    return (left * width // columns, top * height // rows,
            (right + 1) * width // columns, (bottom + 1) * height // rows)


def side_by_side(image: Tensor, cells: Tensor, frame: Box | None = None, height: int = 256,
                 outer: Box | None = None) -> str:
    """Picture (3, H, W), and the map over it at its right, as a PNG in a data URI.

    It is about `height` pixels high. `frame` is the looking patch, `outer` what surrounds it, such
    as its window, framed by a thinner line; None frames nothing.
    """
    times = max(1, round(height / image.shape[-2]))
    panels = [Image.fromarray(pixels.repeat(times, 0).repeat(times, 1))
              for pixels in (to_bytes(image), blend(image, cells))]
    width, gap = panels[0].width, max(4, panels[0].width // 16)
    sheet = Image.new("RGBA", (2 * width + gap, panels[0].height))      # transparent between both
    for index, panel in enumerate(panels):
        for box, thick in ((outer, 2), (frame, 3)):
            if box:
                left, top, right, bottom = (times * edge for edge in box)
                ImageDraw.Draw(panel).rectangle([left, top, right - 1, bottom - 1], outline=QUERY,
                                                width=thick)
        sheet.paste(panel, (index * (width + gap), 0))
    return data_uri(sheet)


def scale_bar(ends: Sequence[str]) -> str:
    """The colour scale with its low end, middle and high end, below the map of `side_by_side`."""
    low, middle, high = map(escape, ends)
    return ('<div style="margin-left:51.5%"><div style="height:12px;border:1px solid #6b727b;'
            f'background:{gradient()}"></div><div style="{_ENDS}"><span>{low}</span>'
            f'<span>{middle}</span><span style="text-align:right">{high}</span></div></div>')


def picture_uri(image: Tensor) -> str:
    """A picture (3, H, W) in [0, 1] as a PNG in a data URI, pixel for pixel."""
    return data_uri(Image.fromarray(to_bytes(image)))


def data_uri(picture: Image.Image) -> str:
    """A picture as a PNG in a data URI."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
