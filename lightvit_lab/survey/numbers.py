"""Numbers that others published, each with its source. Nothing here was measured by us."""

from __future__ import annotations

from dataclasses import dataclass

from .leaves import read_rows


@dataclass(frozen=True)
class Published:
    """One published row: `macs_g` are multiply-accumulates in 10^9 as printed there, `top1` percent
    on ImageNet-1K.

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
    """One published student: top-1 in percent on ImageNet-1K `alone` (None where the source gives
    none) and `distilled`.

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
    """Published students on the page of this stem, for example "distillation/feature_distillation",
    in the table's order.
    """
    rows = [row for row in read_rows("distilled.csv") if row["page"] == page]
    return [Distilled(page, row["method"], row["student"], row["teacher"],
                      float(row["top1_alone"]) if row["top1_alone"] else None, float(row["top1_distilled"]), row["source"])
            for row in rows]


@dataclass(frozen=True)
class Compressed:
    """One published compressed model: what it lost and what it gained, None where the source does
    not say.

    `top1_dense` and `top1` in percent on `dataset`, `top1_change` in points where the source gives
    that alone; of language models the `perplexity`, lower is better; what is left in `params_m`
    (10^6) and `macs_g` (10^9); gains are dense over compressed, `time_gain` on `device`.
    """

    page: str                       # stem of the page that shows it
    method: str
    model: str
    setting: str
    dataset: str
    top1_dense: float | None
    top1: float | None
    top1_change: float | None
    perplexity: float | None
    params_m: float | None
    macs_g: float | None
    params_gain: float | None
    macs_gain: float | None
    time_gain: float | None
    device: str
    source: str

    @property
    def change(self) -> float | None:
        """Points of top-1 gained (below 0: lost), as given or from the two accuracies."""
        if self.top1_change is not None or self.top1 is None or self.top1_dense is None:
            return self.top1_change
        return self.top1 - self.top1_dense


def compressed(page: str) -> list[Compressed]:
    """Published compressed models on the page of this stem, such as "compression/pruning", in the
    table's order.
    """
    numbers = ("top1_dense", "top1", "top1_change", "perplexity", "params_m", "macs_g", "params_gain", "macs_gain",
               "time_gain")
    rows = [row for row in read_rows("compressed.csv") if row["page"] == page]
    return [Compressed(**(row | {name: float(row[name]) if row[name] else None for name in numbers})) for row in rows]


@dataclass(frozen=True)
class Dynamic:
    """One published dynamic network on ImageNet-1K, None where the source does not say.

    `top1_dense`, of the model that does everything, and `top1` in percent, `top1_change` in points
    where the source gives that alone; `macs_dense_g` and `macs_g` in 10^9 for one picture;
    throughputs in pictures a second on `device` (empty where unknown); `time_gain_stated` is dense
    time over its own where the source gives that alone.
    """

    page: str                       # stem of the page that shows it
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
    def change(self) -> float | None:
        """Points of top-1 gained (below 0: lost), as given or from the two accuracies."""
        if self.top1_change is not None or self.top1 is None or self.top1_dense is None:
            return self.top1_change
        return self.top1 - self.top1_dense

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


def dynamic(page: str) -> list[Dynamic]:
    """Published dynamic networks on the page of this stem, such as "dynamic/token_pruning", in the
    table's order.
    """
    numbers = ("top1_dense", "top1", "top1_change", "macs_dense_g", "macs_g", "throughput_dense_img_s",
               "throughput_img_s", "time_gain_stated")
    rows = [row for row in read_rows("dynamic.csv") if row["page"] == page]
    return [Dynamic(**(row | {name: float(row[name]) if row[name] else None for name in numbers}
                       | {"image_size": int(row["image_size"])})) for row in rows]
