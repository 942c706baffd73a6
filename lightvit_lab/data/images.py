"""Picture files -> bytes of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import LabError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")      # Pillow has other readers too
LARGEST_FILE, MOST_PIXELS = 2**28, 2**26        # bytes of a file; 200 MB of colours


def decode(files: Iterable[tuple[str, bytes]], count: int, size: int) -> Tensor:
    """Decode `count` picture files, each (name, content), to bytes (count, 3, size, size), in their order.

    The shorter side is resized to `size` and the centre cut out. Raises LabError that names a file
    that is no picture, or has over MOST_PIXELS: a few kilobytes can unpack to gigabytes.
    """
    pixels = numpy.empty((count, 3, size, size), dtype=numpy.uint8)
    bar = tqdm(files, desc="decoding, once", total=count, delay=2, unit=" pictures", leave=False,
               disable="LIGHTVIT_BOOK" in os.environ)
    for place, (name, content) in enumerate(bar):
        pixels[place] = _decode(name, content, size).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def _decode(name: str, content: bytes, size: int) -> NDArray[numpy.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            picture.draft("RGB", (2 * size, 2 * size))       # a large JPEG is decoded at a fraction of its size
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than the "
                                 f"{MOST_PIXELS:,} that are unpacked; make it smaller")
            upright = ImageOps.exif_transpose(picture) if picture.getexif() else picture
            colour = upright.convert("RGB")
        if colour.size != (size, size):
            colour = ImageOps.fit(colour, (size, size), Image.Resampling.BICUBIC)
        return numpy.asarray(colour)
    except Exception as error:      # Pillow's readers raise errors of many kinds on broken files
        raise LabError(f"data.load: {name} is no picture that can be read ({error}); delete it, or put a whole copy "
                       "there") from error
