"""Picture files -> bytes of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import LabError, both_sides

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")      # Pillow has other readers too
LARGEST_FILE, MOST_PIXELS = 2**28, 2**26        # bytes of a file; 200 MB of colours


def decode(files: Iterable[tuple[str, bytes]], count: int, size: int | tuple[int, int]) -> Tensor:
    """Decode `count` picture files, each (name, content), to bytes (count, 3, height, width).

    `size` is one number for both sides, or (height, width); pictures are resized to fill it, and
    the centre cut out. More than 8 bits a channel are scaled to 8, and what is transparent lies on
    white, as viewers show it. Raises LabError that names a file that is no picture, or has over
    MOST_PIXELS: a few kilobytes can unpack to gigabytes.
    """
    height, width = both_sides(size)
    pixels = numpy.empty((count, 3, height, width), dtype=numpy.uint8)
    bar = tqdm(files, desc="decoding, once", total=count, delay=2, unit=" pictures", leave=False,
               disable="LIGHTVIT_BOOK" in os.environ)
    for place, (name, content) in enumerate(bar):
        pixels[place] = _decode(name, content, height, width).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def _decode(name: str, content: bytes, height: int, width: int) -> NDArray[numpy.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            # a large JPEG is decoded at a fraction of its size
            picture.draft("RGB", (2 * max(height, width),) * 2)
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than the "
                                 f"{MOST_PIXELS:,} that are unpacked; make it smaller")
            depth = _depth(picture, content)
            if picture.format != "TIFF" and picture.getexif():      # a TIFF is turned as it is read
                picture = ImageOps.exif_transpose(picture)
            colour = _in_colour(picture, depth)
        if colour.size != (width, height):
            colour = ImageOps.fit(colour, (width, height), Image.Resampling.BICUBIC)
        return numpy.asarray(colour)
    except Exception as error:      # Pillow's readers raise errors of many kinds on broken files
        raise LabError(f"data.load: {name} is no picture that can be read ({error}); delete it, or "
                       "put a whole copy there") from error


class Depth(NamedTuple):
    """What a picture's file says of its numbers: bits a channel, and which of them is white.

    is_known: False for signed numbers and for 32 bits, of which nobody has agreed what is white
    """

    bits: int
    zero_is_white: bool = False
    is_known: bool = True


def _in_colour(picture: Image.Image, depth: Depth) -> Image.Image:
    """The picture in mode RGB: 8 bits a channel, on a white ground where it is transparent.

    Raises ValueError for numbers of which nobody has agreed which is white.
    """
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I") or picture.mode == "F":
        values = numpy.asarray(picture)
        colour = Image.fromarray(_eight_bits(values, picture.mode, depth)).convert("RGB")
        return colour if clear is None else _on_white(colour, values == clear)
    if not depth.is_known:
        raise ValueError("its numbers are signed, and none is known as white; save it unsigned")
    if clear is not None and picture.mode in ("1", "L", "RGB"):
        return _on_white(picture.convert("RGB"), _is_clear(picture, clear, depth.bits))
    if clear is None and not _has_alpha(picture):
        return picture.convert("RGB")
    above = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")


def _eight_bits(values: NDArray, mode: str, depth: Depth) -> NDArray[numpy.uint8]:
    """Grey values of more than 8 bits, or floats from 0 to 1, as bytes."""
    low, high, most = values.min(), values.max(), 1 if mode == "F" else 2**depth.bits - 1
    if not depth.is_known or not 0 <= low <= high <= most:
        raise ValueError(f"of its numbers, {low} to {high} of mode {mode}, none is known as white; "
                         "save it with 8 or 16 bits a channel, or as floats from 0 to 1")
    share = values.astype(numpy.float64) / most
    return numpy.rint(255 * (1 - share if depth.zero_is_white else share)).astype(numpy.uint8)


def _is_clear(picture: Image.Image, clear: int | tuple[int, ...],
              bits: int) -> NDArray[numpy.bool_]:
    """Where a picture has the value `clear`, in the bits of its file, that means transparent."""
    values = numpy.asarray(picture.convert("L") if picture.mode == "1" else picture)
    value = numpy.atleast_1d(numpy.asarray(clear, dtype=numpy.int64))
    if picture.mode == "1":
        value = 255 * (value > 0)
    else:       # Pillow reads the upper 8 of 16 bits, and 2 and 4 bits in steps of 85 and 17
        value = value >> 8 if bits == 16 else value * 255 // (2**bits - 1)
    return (values.reshape(*values.shape[:2], -1) == value).all(-1)


def _has_alpha(picture: Image.Image) -> bool:
    entries = picture.palette.mode if picture.mode == "P" and picture.palette else ""
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or entries.endswith("A")


def _on_white(picture: Image.Image, clear: NDArray[numpy.bool_]) -> Image.Image:
    pixels = numpy.array(picture)
    pixels[clear] = 255
    return Image.fromarray(pixels)


def _depth(picture: Image.Image, content: bytes) -> Depth:
    """Read from the file, before Pillow turns the picture and forgets it."""
    if picture.format == "PNG":
        return Depth(content[24])
    if picture.format != "TIFF":
        return Depth(16 if picture.mode.startswith("I") else 8)
    tags = picture.tag_v2
    bits = tags.get(258, (8,))[0]                         # BitsPerSample
    is_unsigned = tags.get(339, (1,))[0] != 2             # SampleFormat: 2 is signed
    return Depth(bits, tags.get(262) == 0, picture.mode == "F" or (is_unsigned and bits <= 16))
