"""Numbers that others published, each with its source. Nothing here was measured by us."""

from __future__ import annotations

from dataclasses import dataclass

from .leaves import read_rows


@dataclass(frozen=True)
class Published:
    """One published row: `macs_g` are multiply-accumulates in 10^9 as printed there, `top1` percent on ImageNet-1K.

    `throughput_img_s` on `device` is None where the source gives none.
    """

    model: str                      # name for models.create_model, with timm's tag of the weights
    params_m: float
    macs_g: float
    top1: float
    image_size: int
    throughput_img_s: float | None
    device: str
    source: str


def published() -> list[Published]:
    """Published figures of light models, in the order of the table beside this file."""
    return [_row(row) for row in read_rows("published.csv")]


def _row(row: dict[str, str]) -> Published:
    throughput = float(row["throughput_img_s"]) if row["throughput_img_s"] else None
    return Published(row["model"], float(row["params_m"]), float(row["macs_g"]), float(row["top1"]),
                     int(row["image_size"]), throughput, row["device"], row["source"])


@dataclass(frozen=True)
class Distilled:
    """One published student: top-1 in percent on ImageNet-1K `alone` (None where the source gives none) and `distilled`.

    `teacher` is empty where our source does not name it.
    """

    page: str                       # stem of the page that shows it
    method: str
    student: str
    teacher: str
    alone: float | None
    distilled: float
    source: str


def distilled(page: str) -> list[Distilled]:
    """Published students on the page of this stem, for example "distillation/feature_distillation", in the table's order."""
    rows = [row for row in read_rows("distilled.csv") if row["page"] == page]
    return [Distilled(page, row["method"], row["student"], row["teacher"],
                      float(row["top1_alone"]) if row["top1_alone"] else None, float(row["top1_distilled"]), row["source"])
            for row in rows]
