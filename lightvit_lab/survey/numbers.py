"""Numbers that others published, each with its source. Nothing here was measured by us.

In each table an empty field is None: the source does not say. `page` is the stem of the page that
shows the row, such as "compression/pruning"; rows come in the table's order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .leaves import read_rows


@dataclass(frozen=True)
class Published:
    """One published model: `macs_g` in 10^9 as printed there, `top1` percent on ImageNet-1K."""

    model: str                      # name for models.create_model, with timm's tag of the weights
    params_m: float
    macs_g: float
    top1: float
    image_size: int
    throughput_img_s: float | None  # on `device`
    device: str
    source: str


@dataclass(frozen=True)
class Distilled:
    """One published student: top-1 in percent on ImageNet-1K `alone` and `distilled`.

    `teacher` is empty where no source that we read names it.
    """

    page: str
    method: str
    student: str
    teacher: str
    alone: float | None
    distilled: float
    source: str


@dataclass(frozen=True)
class Detected:
    """One published backbone of a detector (Mask R-CNN on COCO): sizes as printed there.

    `params_m` and `flops_g` are of the whole detector, in 10^6 and 10^9; both average precisions
    in percent.
    """

    page: str
    backbone: str
    schedule: str
    params_m: float
    flops_g: float
    box_ap: float
    mask_ap: float
    source: str


@dataclass(frozen=True)
class Store:
    """The logits of a teacher that others stored: `epochs` of `pictures` in `gigabytes` (10^9)."""

    page: str
    method: str
    data_set: str
    pictures: int | None
    epochs: int
    gigabytes: float
    source: str


class _Changed:
    """Rows with two accuracies, or with what lies between them."""

    @property
    def change(self) -> float | None:
        """Points of top-1 gained (below 0: lost), as given or from the two accuracies."""
        if self.top1_change is not None or self.top1 is None or self.top1_dense is None:
            return self.top1_change
        return self.top1 - self.top1_dense


@dataclass(frozen=True)
class Compressed(_Changed):
    """One published compressed model: what it lost and what it gained.

    `top1_dense` and `top1` in percent on `dataset`, `top1_change` in points where the source gives
    that alone; what is left in `params_m` (10^6) and `macs_g` (10^9); gains are dense over
    compressed, `time_gain` on `device`, empty where the source does not name it.
    """

    page: str
    method: str
    model: str
    setting: str
    dataset: str
    top1_dense: float | None
    top1: float | None
    top1_change: float | None
    params_m: float | None
    macs_g: float | None
    params_gain: float | None
    macs_gain: float | None
    time_gain: float | None
    device: str
    source: str


@dataclass(frozen=True)
class Dynamic(_Changed):
    """One published dynamic network on ImageNet-1K.

    `top1_dense`, of the model that does everything, and `top1` in percent, `top1_change` in points
    where the source gives that alone; `macs_dense_g` and `macs_g` in 10^9 for one picture;
    throughputs in pictures a second on `device` (empty where unknown); `time_gain_stated` is dense
    time over its own where the source gives that alone.
    """

    page: str
    method: str
    model: str
    setting: str
    image_size: int
    top1_dense: float | None
    top1: float | None
    top1_change: float | None
    macs_dense_g: float | None
    macs_g: float | None
    throughput_dense_img_s: float | None
    throughput_img_s: float | None
    time_gain_stated: float | None
    device: str
    source: str

    @property
    def macs_gain(self) -> float | None:
        """Dense MACs over those left."""
        return self.macs_dense_g / self.macs_g if self.macs_dense_g and self.macs_g else None

    @property
    def time_gain(self) -> float | None:
        """Dense time over its own, as stated or from the two throughputs."""
        if self.throughput_dense_img_s and self.throughput_img_s:
            return self.throughput_img_s / self.throughput_dense_img_s
        return self.time_gain_stated


def published() -> list[Published]:
    """Published figures of light models."""
    return [_row(Published, row) for row in read_rows("published.csv")]


def distilled(page: str) -> list[Distilled]:
    """Published students on the page of this stem."""
    return _on_page(Distilled, page)


def detected(page: str) -> list[Detected]:
    """Published backbones of detectors on the page of this stem."""
    return _on_page(Detected, page)


def stores(page: str) -> list[Store]:
    """Published stores of a teacher's logits on the page of this stem."""
    return [_row(Store, row) for row in read_rows("stores.csv") if row["page"] == page]


def compressed(page: str) -> list[Compressed]:
    """Published compressed models on the page of this stem."""
    return _on_page(Compressed, page)


def dynamic(page: str) -> list[Dynamic]:
    """Published dynamic networks on the page of this stem."""
    return _on_page(Dynamic, page)


def _on_page(kind: type, page: str) -> list[Any]:
    rows = read_rows(f"{kind.__name__.lower()}.csv")
    return [_row(kind, row) for row in rows if row["page"] == page]


def _row(kind: type, row: dict[str, str]) -> Any:
    return kind(*(_value(field.type, row[field.name]) for field in fields(kind)))


def _value(kind: str, text: str) -> str | float | int | None:
    if "None" in kind and not text:
        return None
    return {"str": str, "int": int, "int | None": int}.get(kind, float)(text)
