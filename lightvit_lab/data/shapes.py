"""Shapes: pictures that the lab draws itself, so that no page needs a download.

One large textured object stands anywhere on a cloudy background, above small distractors and below
an occluder. Its outline (of five) and its texture (of two) make the ten classes; colour, place,
size, tilt, frequency and phase are drawn without looking at the class, and all outlines cover the
same area. Everything is integer arithmetic on a frame of 8192 x 8192 units, so the same seed gives
the same bytes on every machine, at any size. Picture i of a seed depends on (seed, split, i) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import require_choice, require_range

OUTLINES = ("disc", "square", "triangle", "cross", "ring")
TEXTURES = ("stripes", "checkerboard")
CLASS_NAMES = tuple(f"{how} {outline}" for outline in OUTLINES for how in ("striped", "checked"))
COUNTS = {"train": 20_000, "val": 2_000, "test": 4_000}
_FRAME = 8192                    # side of a picture in units; 256 units are a pixel at 32 px
_PLAIN = len(TEXTURES)           # third texture: none
# pictures drawn at a time, so that the working set stays in the processor's cache
_CHUNK = 256
_CIRCLE = 1024                   # angles in the table of sines
_SINE = numpy.array([round(16384 * math.sin(2 * math.pi * step / _CIRCLE))
                     for step in range(_CIRCLE)], numpy.int32)

Ints = NDArray[numpy.int32]
Mask = NDArray[numpy.bool_]


@dataclass(frozen=True)
class Level:
    """How hard the pictures are. Colours and noise are in 1/255, radii in 1/256 px at 32 px."""

    contrast: tuple[int, int]            # between the two colours of a texture, per channel
    radius: tuple[int, int]
    distractors: int
    textured: int                        # percentage of the distractors that have a texture
    occluders: int
    noise: int                           # standard deviation
    mean: tuple[float, float, float]     # of the training pictures, 32 px
    std: tuple[float, float, float]


LEVELS = {
    "easy": Level((96, 144), (2000, 2560), 3, 0, 0, 4, (0.495,) * 3, (0.167,) * 3),
    "standard": Level((72, 128), (1900, 2560), 3, 40, 1, 5, (0.495,) * 3, (0.158,) * 3),
    "hard": Level((52, 120), (1800, 2480), 4, 50, 2, 9, (0.495,) * 3, (0.154,) * 3),
}


def read(split: str = "train", image_size: int = 32, count: int | None = None, seed: int = 0,
         level: str = "standard") -> tuple[Tensor, Tensor, Tensor]:
    """Draw pixels (N, 3, size, size) as bytes, labels (N,), and masks (N, size, size) as bool.

    A mask is true where the object, not an occluder, covers at least half of the pixel. Any `count`
    will do (None: COUNTS of the split), and the first pictures do not depend on it. Raises LabError
    on unknown levels, pictures of under 8 pixels, and counts outside 1 to 10 million.
    """
    require_choice("shapes", "level", level, LEVELS)
    require_range("shapes", "image_size", image_size, 8, 1024)
    count = require_range("shapes", "count", COUNTS[split] if count is None else count, 1, 10**7)
    pixels = numpy.empty((count, 3, image_size, image_size), dtype=numpy.uint8)
    labels = numpy.empty(count, dtype=numpy.int64)
    masks = numpy.empty((count, image_size, image_size), dtype=bool)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        dice = _Dice(3 * seed + list(COUNTS).index(split), numpy.arange(part.start, part.stop))
        pixels[part], labels[part], masks[part] = _draw(dice, LEVELS[level], image_size)
    return torch.from_numpy(pixels), torch.from_numpy(labels), torch.from_numpy(masks)


class _Dice:
    """Random integers, a function of stream, picture and number of the throw (SplitMix64)."""

    def __init__(self, stream: int, pictures: NDArray[numpy.int64]):
        self.count = len(pictures)
        self.throws = 0
        numbers = pictures.astype(numpy.uint64) * numpy.uint64(2**32)
        self._keys = _scramble(_scramble(numpy.uint64(stream) + numbers))

    def throw(self, low: int, high: int, *shape: int) -> Ints:
        """Integers of low..high, both included, (pictures, *shape)."""
        bits = self.bits(math.prod(shape)) >> numpy.uint64(32)
        values = (bits * numpy.uint64(high - low + 1)) >> numpy.uint64(32)
        return values.astype(numpy.int32).reshape(self.count, *shape) + numpy.int32(low)

    def bits(self, throws: int) -> NDArray[numpy.uint64]:
        """64 random bits a throw, (pictures, throws)."""
        numbers = numpy.arange(self.throws, self.throws + throws, dtype=numpy.uint64)
        self.throws += throws
        return _scramble(self._keys[:, None] + numbers * numpy.uint64(0x9E3779B97F4A7C15))


def _scramble(bits: NDArray[numpy.uint64]) -> NDArray[numpy.uint64]:
    """Mix 64 bits, so that neighbours become unrelated (Steele, Lea and Flood, OOPSLA 2014)."""
    bits = (bits ^ (bits >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> numpy.uint64(31))


@dataclass(frozen=True)
class _Things:
    """One thing per picture: what it is, where, how large, how turned, in which colours."""

    outline: Ints
    texture: Ints
    centre: Ints        # (pictures, 2), x and y in units
    radius: Ints
    angle: Ints         # steps of a full circle / 1024
    colour: Ints        # (pictures, 3)
    contrast: Ints      # (pictures, 3), signed
    grain: Ints         # (pictures, 4): angle, cycles of the frame in 1/8, two phases in 1/65536


def _draw(dice: _Dice, level: Level, size: int) -> tuple[NDArray[numpy.uint8], Ints, Mask]:
    """Pixels, labels and masks of one chunk."""
    labels = dice.throw(0, len(CLASS_NAMES) - 1)
    canvas = _clouds(dice, size)
    for _ in range(level.distractors):
        centre = dice.throw(0, _FRAME, 2)
        textured = dice.throw(0, 99) < level.textured
        texture = numpy.where(textured, dice.throw(0, _PLAIN - 1), _PLAIN)
        outline, radius = dice.throw(0, 4), dice.throw(520, 820)
        _paint(canvas, _things(dice, level, outline, texture, centre, radius))
    centre, radius = dice.throw(2560, _FRAME - 2560, 2), dice.throw(*level.radius)
    visible = _paint(canvas, _things(dice, level, labels // 2, labels % 2, centre, radius,
                                     98))    # 98 steps: 0.6 rad
    plain = numpy.full(dice.count, _PLAIN, dtype=numpy.int32)
    for _ in range(level.occluders):
        spot = centre + dice.throw(-1536, 1536, 2)
        outline, radius = dice.throw(0, 4), dice.throw(400, 620)
        visible &= ~_paint(canvas, _things(dice, level, outline, plain, spot, radius))
    canvas += _noise(dice, level.noise, size)
    return canvas.clip(0, 255).astype(numpy.uint8), labels, visible


def _things(dice: _Dice, level: Level, outline: Ints, texture: Ints, centre: Ints, radius: Ints,
            tilt: int = _CIRCLE // 2) -> _Things:
    """Throw what is not given: angle up to `tilt` steps, colours, and the grain of the texture."""
    sign = 2 * dice.throw(0, 1, 3) - 1
    limits = ((0, _CIRCLE - 1), (32, 52), (0, 65535), (0, 65535))
    grain = numpy.stack([dice.throw(*each) for each in limits], 1)
    angle, colour = dice.throw(-tilt, tilt) % _CIRCLE, dice.throw(64, 191, 3)
    return _Things(outline, texture, centre, radius, angle, colour,
                   sign * dice.throw(*level.contrast, 3), grain)


def _clouds(dice: _Dice, size: int, nodes: int = 4) -> Ints:
    """Smooth colours: a grid of random ones, interpolated; (pictures, 3, size, size), 0..255."""
    # floats are exact here: all sums are integers below 2**24
    grid = dice.throw(40, 215, 3, nodes, nodes).astype(numpy.float32)
    place = (2 * numpy.arange(size) + 1) * 64 * (nodes - 1) // (2 * size)    # 64 steps a cell
    weights = (64 - abs(place[:, None] - 64 * numpy.arange(nodes))    # (size, nodes)
               ).clip(0).astype(numpy.float32)
    return (weights @ grid @ weights.T).astype(numpy.int32) >> 12


def _paint(canvas: Ints, things: _Things) -> Mask:
    """Paint one thing into each picture of `canvas` (n, 3, size, size), in place.

    Returns what it covers, (n, size, size).
    """
    size = canvas.shape[-1]
    window, corner = _window(things, size)
    across, down = _turned(things.centre, things.angle, size, window, corner)
    cover = numpy.empty_like(across)
    for outline in range(len(OUTLINES)):
        those = numpy.flatnonzero(things.outline == outline)
        distance = _DISTANCES[outline](across[those], down[those], things.radius[those, None, None])
        cover[those] = (128 - (distance * size >> 5)).clip(0, 256)     # the edge is one pixel wide
    colour = _pattern(things, size, window, corner)[:, None] * things.contrast[..., None, None] >> 8
    colour += things.colour[..., None, None]
    here = _cut(canvas, window, corner)
    colour -= here
    colour *= cover[:, None]
    _cut(canvas, window, corner, put=here + (colour >> 8))
    covered = numpy.zeros((len(canvas), 1, size, size), dtype=bool)
    _cut(covered, window, corner, put=(cover >= 128)[:, None])
    return covered[:, 0]


def _window(things: _Things, size: int) -> tuple[int, Ints]:
    """Side in pixels of a window for the largest thing; its upper left corners, (n, 2)."""
    # a triangle's corner is farthest: 1.555 radii
    reach = int(things.radius.max()) * 8 // 5 + 2 * _FRAME // size
    window = min(size, 2 * reach * size // _FRAME + 2)
    return window, ((things.centre - reach) * size // _FRAME).clip(0, size - window)


def _cut(canvas: NDArray, window: int, corner: Ints, put: NDArray | None = None) -> NDArray:
    """The windows (n, c, window, window) of pictures (n, c, size, size), after `put` went there."""
    views = numpy.lib.stride_tricks.sliding_window_view(canvas, (window, window), (2, 3),
                                                        writeable=True)
    where = (numpy.arange(len(canvas)), slice(None), corner[:, 1], corner[:, 0])
    if put is not None:
        views[where] = put
    return views[where]


def _turned(centre: Ints, angle: Ints, size: int, window: int, corner: Ints) -> tuple[Ints, Ints]:
    """x and y of a window's pixels, turned as a thing is, each (n, window, window), in units."""
    pixel = corner[:, :, None] + numpy.arange(window, dtype=numpy.int32)
    x, y = ((2 * pixel + 1) * _FRAME // (2 * size) - centre[:, :, None]).transpose(1, 0, 2)
    sine, cosine = (_SINE[(angle + quarter) % _CIRCLE][:, None, None]
                    for quarter in (0, _CIRCLE // 4))
    x, y = x[:, None, :], y[:, :, None]
    return (x * cosine + y * sine) >> 14, (y * cosine - x * sine) >> 14


def _pattern(things: _Things, size: int, window: int, corner: Ints) -> Ints:
    """-128..128, (n, window, window): stripes, the product of two sets of stripes, or 0."""
    pattern = numpy.zeros((len(things.texture), window, window), dtype=numpy.int32)
    those = numpy.flatnonzero(things.texture != _PLAIN)
    if len(those):
        angle, cycles, *phases = things.grain[those].T
        across, down = _turned(things.centre[those], angle, size, window, corner[those])
        waves = _wave(across, cycles, phases[0])
        checked = things.texture[those] == 1
        second = _wave(down[checked], cycles[checked], phases[1][checked])
        waves[checked] = waves[checked] * second >> 7
        pattern[those] = waves
    return pattern


def _wave(place: Ints, cycles: Ints, phase: Ints) -> Ints:
    """A steep triangle wave of `place` (n, window, window), -128..128, with flat tops."""
    turns = place * cycles[:, None, None] + phase[:, None, None]
    return ((abs((turns & 65535) - 32768) - 16384) >> 5).clip(-128, 128)


def _disc(across: Ints, down: Ints, radius: Ints) -> Ints:
    """Signed distance to the edge in units, exact there: (r^2 - R^2) / 2R, positive outside."""
    return (across * across + down * down - radius * radius) // (2 * radius)


def _ring(across: Ints, down: Ints, radius: Ints) -> Ints:
    # a hole of half the radius takes a quarter of the area
    outer = radius * 296 >> 8
    return numpy.maximum(_disc(across, down, outer), -_disc(across, down, outer >> 1))


def _square(across: Ints, down: Ints, radius: Ints) -> Ints:
    return numpy.maximum(abs(across), abs(down)) - (radius * 227 >> 8)    # sqrt(pi) / 2


def _triangle(across: Ints, down: Ints, radius: Ints) -> Ints:
    sides = (abs(across) * 14189 >> 14) - (down >> 1)    # sqrt(3) / 2 and 1 / 2
    return numpy.maximum(sides, down) - (radius * 199 >> 8)    # sqrt(pi / (3 sqrt 3))


def _cross(across: Ints, down: Ints, radius: Ints) -> Ints:
    longer, shorter = numpy.maximum(abs(across), abs(down)), numpy.minimum(abs(across), abs(down))
    arm = radius * 304 >> 8    # sqrt(9 pi / 20)
    return numpy.maximum(longer - arm, shorter - arm // 3)


_DISTANCES = (_disc, _square, _triangle, _cross, _ring)


def _noise(dice: _Dice, deviation: int, size: int) -> Ints:
    """Nearly normal noise (n, 3, size, size): the sum of four bytes has a deviation of 147.8."""
    # eight bytes a throw: two values
    bits = dice.bits((3 * size * size + 1) // 2)
    pairs = (bits & 0xFF00FF00FF00FF) + (bits >> numpy.uint64(8) & 0xFF00FF00FF00FF)
    sums = (pairs & 0xFFFF0000FFFF) + (pairs >> numpy.uint64(16) & 0xFFFF0000FFFF)
    values = sums.astype("<u8").view("<i4")[:, : 3 * size * size].reshape(-1, 3, size, size)
    return (values - 510) * (deviation * 444) >> 16
