"""Attention maps explored in a page: picture, method, block, head and query are chosen.

One HTML output works in the built page, JupyterLab and Colab: no kernel, no other file, no request.
Without JavaScript a picture with its map, and its table, stand there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from html import escape
from importlib.resources import files

import torch
from torch import Tensor

from ..errors import LabError, plain_numbers
from .atlas import Atlas, Maps, Place
from .tables import html_table
from .gather import atlas
from .overlay import (OPACITY, QUERY, SCALE, format_value, gradient, limits, picture_uri,
                      side_by_side)

__all__ = ["Explorer", "explorer"]

_STAGE = ("Picture, cut into patches. Arrow keys move the patch that looks, Home chooses the class "
          "token; the sentence below says where it looks")

# megabytes of maps that a browser takes at once; six pictures of the lab's ViT are 0.6
_LIMIT = 16
_CAPTION = "One value a patch, rows by columns"


@dataclass(frozen=True, repr=False)
class Explorer:
    """Pictures with their maps and a finding; made by `explorer`. Text in terminals."""

    atlas: Atlas
    finding: str

    def __repr__(self) -> str:
        start = self.atlas.start()
        methods = ", ".join(self.atlas.methods)
        return f"Explorer of {methods}: {self.atlas.describe(start)}\n    {self.finding}"

    def _repr_html_(self) -> str:
        start = self.atlas.start()
        still = side_by_side(self.atlas.images[0], self.atlas.lookup(start).cells,
                             self.atlas.frame(start))
        sentence = escape(self.atlas.describe(start))
        data = json.dumps(_data(self.atlas), separators=(",", ":")).replace("<", "\\u003c")
        return ('<div class="lab-explorer" role="group" aria-label="Explorer of attention maps" '
                'data-lm-suppress-shortcuts="true">'
                f'<style>{_read("explorer.css")}</style>{_CONTROLS}{_stage()}'
                f'<img class="lab-explorer-still" src="{still}" alt="The picture '
                f'{escape(self.atlas.captions[0])}, and its map: {sentence}">'
                f'<p class="lab-explorer-said" role="status" aria-live="polite">{sentence}</p>'
                f'<p class="lab-explorer-finding">{escape(self.finding)}</p>'
                '<details class="lab-explorer-data">'
                f"<summary>Data table</summary>{map_table(self.atlas, start)}</details>"
                f'<script type="application/json">{data}</script></div>'
                f"<script>{_script()}</script>")


@plain_numbers
def explorer(images: Tensor, captions: Sequence[str], finding: str, *,
             attention: Sequence[Tensor] = (), flows: Mapping[str, Tensor] | None = None,
             grids: Mapping[str, Tensor] | None = None, prefix: int = 1,
             grid: tuple[int, int] | None = None) -> Explorer:
    """Explore maps of pictures (P, 3, H, W) in [0, 1] with captions, without a kernel.

    `attention` holds (P, heads, N, N) per block, as `record_attention` gives it; `flows` by name
    token-to-token maps (P, N, N), such as `rollout` and `relevance`; `grids` by name maps of the
    whole picture, (P, rows, columns) or one value a pixel. The first `prefix` of the N tokens are
    no patches, the class token first; `grid` is (rows, columns) of the patches, None for a square.
    `finding` says in one sentence what to see. Maps are stored in 255 steps from zero, or the
    method's lowest value, to each row's maximum. Raises LabError on maps that do not fit the
    pictures, the grid or each other, on values that are not finite, on more than 16 megabytes of
    maps, and without a finding.
    """
    if not isinstance(finding, str) or len(finding.split()) < 4:
        raise LabError(f"explorer: finding={finding!r}; say in one sentence what there is to see "
                       "in the maps")
    maps = atlas(images, captions, attention, flows, grids, prefix, grid, caller="explorer")
    size = sum(part.values.numel() for part in maps.methods.values()) / 1e6
    if size > _LIMIT:
        raise LabError(f"explorer: {size:.1f} megabytes of maps, a page takes {_LIMIT}; give fewer "
                       "pictures (images[:4] and their maps), or fewer blocks")
    return Explorer(maps, finding)


def _data(maps: Atlas) -> dict:
    """What the script reads: pictures, layouts of methods, maps as bytes and scales in base64."""
    start, tokens = maps.start(), maps.prefix + maps.grid[0] * maps.grid[1]
    packed = [_pack(part) for part in maps.methods.values()]
    methods = [_layout(name, part, tokens) for name, part in maps.methods.items()]
    pictures = [{"caption": caption, "src": picture_uri(image)}
                for caption, image in zip(maps.captions, maps.images)]
    return {"pictures": pictures, "rows": maps.grid[0], "columns": maps.grid[1],
            "prefix": maps.prefix, "height": maps.images.shape[-2],
            "width": maps.images.shape[-1], "block": start.block, "query": start.query,
            "scale": SCALE, "opacity": OPACITY, "methods": methods,
            "bytes": _base64(torch.cat([steps.flatten() for steps, _ in packed])),
            "floats": _base64(torch.cat([scales.flatten() for _, scales in packed]))}


def _layout(name: str, maps: Maps, tokens: int) -> dict:
    _, blocks, heads, queries, height, width = maps.values.shape
    return {"name": name, "kind": maps.kind, "blocks": blocks, "heads": heads, "queries": queries,
            "height": height, "width": width, "front": maps.prefix.shape[-1],
            "low": _low(maps), "share": maps.share, "fair": 1 / tokens}


def _low(maps: Maps) -> float:
    return min(0.0, maps.values.min().item())


def _pack(maps: Maps) -> tuple[Tensor, Tensor]:
    """A method's maps as bytes (rows, h * w); per row its maximum and tokens in front, float32."""
    rows, low = maps.values.flatten(4).flatten(0, 3), _low(maps)
    high = rows.amax(dim=-1, keepdim=True)
    steps = ((rows - low) / (high - low).clamp_min(1e-30) * 255).round().clamp(0, 255).byte()
    return steps, torch.cat([high, maps.prefix.flatten(0, 3)], dim=-1)


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.numpy().tobytes()).decode()


def _stage() -> str:
    """Picture and map, filled and shown by the script."""
    mark = f'<div class="lab-explorer-mark" style="border-color:{QUERY}"></div>'
    return ('<div class="lab-explorer-stage" hidden><div><div class="lab-explorer-title">from: '
            'picture</div><div class="lab-explorer-from" tabindex="0" role="application" '
            f'aria-label="{_STAGE}"><canvas></canvas>{mark}</div></div><div>'
            '<div class="lab-explorer-title">to: map over the picture</div>'
            '<div class="lab-explorer-to"><canvas role="img" aria-label="Map over the picture; the '
            f'data table has its values"></canvas>{mark}</div>'
            f'<div class="lab-explorer-bar" style="background:{gradient()}"></div>'
            '<div class="lab-explorer-ends"><span></span><span></span><span></span></div></div>'
            "</div>")


def map_table(maps: Atlas, place: Place) -> str:
    """The map at `place` as an HTML table, patch by patch."""
    patches = maps.lookup(place).patches
    digits = partial(format_value, top=limits(patches)[1])
    rows = [(str(index), *map(digits, row)) for index, row in enumerate(patches.tolist())]
    return html_table("Values of the map", ("row", *map(str, range(maps.grid[1]))), rows, _CAPTION)


_CONTROLS = '<div class="lab-explorer-controls" hidden>' + "".join(
    f'<label>{label} <select data-choice="{label}"></select></label>'
    for label in ("picture", "method", "block", "head", "from")) + "</div>"


@cache
def _script() -> str:
    """Both scripts in one function, so that none of their names is the page's."""
    scripts = _read("explorer_maps.js") + _read("explorer.js")
    return '(function () {\n"use strict";\n' + scripts + "})();"


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
