"""Which map finds the object? Explainers scored on the same pictures by five measures.

Pointing, energy and IoU ask whether a map lies on the object's mask; insertion and deletion ask the
model. They need not agree: a model that goes by the background is explained well by a map that
misses the object. Derived in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import LabError, plain_numbers, require_choice, require_images, require_range
from .curves import insertion_deletion
from .passes import Target, progress_bar, require_explainer, targets
from .scoring import best_iou, energy_in_mask, pointing_game, require_maps, require_masks

MEASURES = ("pointing", "energy", "iou", "insertion", "deletion")    # of deletion, less is better
RESAMPLES = 1000
_UPWARD = torch.tensor([1.0, 1, 1, 1, -1], dtype=torch.double)      # of MEASURES


@dataclass(frozen=True)
class Localization:
    """Scores of explainers on the same `count` pictures.

    `scores[name][measure]` is (mean, low, high), a 95 % interval over pictures;
    `per_picture[name][measure]` the values (count,). `thresholds[name]` is that of IoU. `chance` is
    the mean area of the masks: what pointing and energy give to a map that knows nothing.
    """

    scores: dict[str, dict[str, tuple[float, float, float]]]
    per_picture: dict[str, dict[str, Tensor]]
    thresholds: dict[str, float]
    chance: float
    count: int

    def table(self) -> str:
        """Lines of at most 80 characters: a row an explainer, in per cent, mean and interval."""
        lines = [f"{self.count} pictures; per cent, with 95 % intervals. Deletion: less is better.",
                 _line("", (f"  {measure:<10}" for measure in MEASURES))]
        for name, values in self.scores.items():
            short = name if len(name) <= 20 else name[:18] + ".."
            lines.append(_line(short, (_cell(*values[measure]) for measure in MEASURES)))
        lines.append(_line("(mean area of masks)", [f"{100 * self.chance:>4.0f}        "] * 2))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold, to four digits; values of single pictures are left out."""
        scores = {name: {} for name in self.scores}
        for name, measures in self.scores.items():
            for measure, values in measures.items():
                scores[name][measure] = [round(value, 4) for value in values]
        return {"count": self.count, "chance": round(self.chance, 4), "thresholds": self.thresholds,
                "scores": scores}


    def beyond(self, baselines: Sequence[str], seed: int = 0
               ) -> dict[str, dict[str, tuple[float, float, float]]]:
        """(mean, low, high) of what each other explainer is better by than the best of `baselines`.

        The differences are those of the same resampled pictures, and the best baseline is chosen
        anew in each resample, so that an interval above 0 says: better than every one of them. Of
        deletion, where less is better, the sign is turned. Raises LabError on unknown names.
        """
        for name in baselines:
            require_choice("beyond", "baselines", name, tuple(self.scores))
        means = {}
        for name, values in self.per_picture.items():
            columns = torch.stack(list(values.values()), dim=1)
            means[name] = _resampled(columns, seed) * _UPWARD
        best = torch.stack([means[name] for name in baselines]).amax(dim=0)
        return {name: dict(zip(MEASURES, _intervals(one - best)))
                for name, one in means.items() if name not in baselines}


@plain_numbers
def localize(model: nn.Module, pictures: Any, explainers: Mapping[str, Callable[..., Tensor]],
             target: Target | str = None, batch_size: int = 32, seed: int = 0, steps: int = 16,
             progress: bool = True) -> Localization:
    """Score explainers by all `MEASURES`: name -> (model, inputs, target) -> (batch, h, w).

    `pictures` is a set with masks, as `data.load("shapes", "test", count=100)`, or a tuple (inputs,
    masks) or (inputs, masks, labels): inputs (N, 3, H, W) normalised, masks (N, H, W), labels (N,).
    The target is a class, one for each picture, "labels" for their own, or None: what the model
    predicts. The intervals are those of a bootstrap over pictures (percentiles of 1000 resamples,
    the same ones for all explainers, by `seed`), the threshold of IoU held fixed. Explainers get
    the model and the pictures on the model's own device and in its type. Raises LabError without
    masks, on an empty one, and if an explainer returns no maps.
    """
    inputs, masks, labels = _parts_of(pictures)
    if isinstance(target, str):
        require_choice("localize", "target", target, ["labels"])
        if labels is None:
            raise LabError('localize: target="labels", but none are given; '
                           "give (inputs, masks, labels)")
        target = labels
    require_range("localize", "batch_size", batch_size, 1)
    if not isinstance(explainers, Mapping) or not explainers:
        raise LabError(f"localize: explainers are {type(explainers).__name__}; give a dict of at "
                       'least one, as {"relevance": explain.relevance_map}')
    for name, explainer in explainers.items():
        require_explainer("localize", name, explainer)
    model, inputs, classes = targets("localize", model, inputs, target)
    batches = list(zip(inputs.split(batch_size), classes.split(batch_size)))
    scores, values, thresholds = {}, {}, {}
    with progress_bar(len(explainers) * len(inputs), "localize", " maps", progress) as bar:
        for name, explainer in explainers.items():
            bar.set_description(name)
            found = _measured(name, explainer, model, batches, masks, steps, bar)
            values[name], thresholds[name] = found
            intervals = bootstrap(torch.stack(list(values[name].values()), dim=1), seed)
            scores[name] = dict(zip(MEASURES, intervals))
    chance = float(masks.bool().float().mean())
    return Localization(scores, values, thresholds, chance, len(inputs))


def bootstrap(values: Tensor, seed: int = 0) -> list[tuple[float, float, float]]:
    """(mean, low, high) of columns of values (N, measures): the middle 95 % of resampled means."""
    return _intervals(_resampled(values, seed))


def _resampled(values: Tensor, seed: int) -> Tensor:
    """Means of the columns of values (N, measures), and below those of resamples, alike by seed."""
    count, values = len(values), values.cpu().double()
    drawn = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    ones = torch.ones(RESAMPLES, count, dtype=torch.double)
    means = torch.zeros_like(ones).scatter_add_(1, drawn, ones) @ values / count
    return torch.cat([values.mean(dim=0, keepdim=True), means])


def _intervals(means: Tensor) -> list[tuple[float, float, float]]:
    """Of each column the first entry, and between what the middle 95 % of the others lie."""
    ends = torch.tensor([0.025, 0.975], dtype=torch.double)
    low, high = means[1:].quantile(ends, dim=0)
    return list(zip(means[0].tolist(), low.tolist(), high.tolist()))


def _measured(name: str, explainer: Callable[..., Tensor], model: nn.Module,
              batches: Sequence[tuple[Tensor, Tensor]], masks: Tensor, steps: int,
              bar: tqdm) -> tuple[dict[str, Tensor], float]:
    """Measure -> values (N,) of one explainer, on the CPU, and the threshold of its IoU."""
    batch_maps, curves = [], []
    for inputs, classes in batches:
        batch_maps.append(explainer(model, inputs, classes))
        require_maps(f"localize: {name}", batch_maps[-1])
        curves.append(insertion_deletion(model, inputs, batch_maps[-1], classes, steps))
        bar.update(len(inputs))
    maps = torch.cat(batch_maps).detach().cpu().float()
    iou, threshold = best_iou(maps, masks)
    values = (pointing_game(maps, masks), energy_in_mask(maps, masks), iou,
              torch.cat([part.insertion_auc for part in curves]).cpu(),
              torch.cat([part.deletion_auc for part in curves]).cpu())
    return dict(zip(MEASURES, values)), threshold


def _parts_of(pictures: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, masks, and labels if there are any."""
    if hasattr(pictures, "inputs"):
        pictures = pictures.inputs, pictures.masks, pictures.labels
    if not isinstance(pictures, Sequence) or len(pictures) not in (2, 3):
        raise LabError(f"localize: pictures are {type(pictures).__name__}; give a set, as "
                       'data.load("shapes", "test", count=100), or a tuple (inputs, masks, labels)')
    inputs, masks, labels = (*pictures, None)[:3]
    require_images("localize", inputs)
    require_masks("localize", masks, len(inputs))
    return inputs, masks.cpu(), labels


def _line(name: str, cells: Iterable[str]) -> str:
    return f"{name:<20}{''.join(cells)}".rstrip()


def _cell(mean: float, low: float, high: float) -> str:
    interval = f"{100 * low:.0f}-{100 * high:.0f}"
    return f"{100 * mean:>4.0f} {interval:<7}"
