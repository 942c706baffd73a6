"""Which map finds the object? Explainers scored on the same pictures by five measures, with
intervals.

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
from ..runtime.running import as_input
from ..runtime.wrapped import unwrapped
from .curves import insertion_deletion
from .passes import explaining, shown
from .relevance import Target
from .scoring import MEND_MASKS, at_resolution, best_iou, energy_in_mask, pointing_game, require_maps, require_masks

__all__ = ["MEASURES", "Localization", "at_resolution", "best_iou", "bootstrap", "energy_in_mask", "localize",
           "pointing_game"]
MEASURES = ("pointing", "energy", "iou", "insertion", "deletion")    # of deletion, less is better
RESAMPLES = 1000


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
        head = f"{self.count} pictures; per cent, with 95 % intervals. Deletion: less is better."
        rows = [f"{name if len(name) <= 20 else name[:18] + '..':<20}"
                + "".join(_cell(*values[measure]) for measure in MEASURES) for name, values in self.scores.items()]
        chance = f"{'(mean area of masks)':<20}" + 2 * f"{100 * self.chance:>4.0f}        "
        return "\n".join(line.rstrip() for line in
                         [head, " " * 20 + "".join(f"  {measure:<10}" for measure in MEASURES), *rows, chance])

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold, to four digits; values of single pictures are left out."""
        scores = {name: {measure: [round(value, 4) for value in values] for measure, values in measures.items()}
                  for name, measures in self.scores.items()}
        return {"count": self.count, "chance": round(self.chance, 4), "thresholds": self.thresholds, "scores": scores}


@plain_numbers
def localize(model: nn.Module, pictures: Any, explainers: Mapping[str, Callable[..., Tensor]],
             target: Target = None, batch_size: int = 32, seed: int = 0, steps: int = 16,
             progress: bool = True) -> Localization:
    """Score every explainer, name -> (model, inputs, target) -> (batch, rows, columns), by all
    `MEASURES`.

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
            raise LabError('localize: target="labels", but none are given; give pictures as (inputs, masks, labels)')
        target = labels
    require_range("localize", "batch_size", batch_size, 1)
    _require_explainers(explainers)
    model = unwrapped(model)
    inputs = as_input(model, inputs)
    with explaining("localize", model, inputs, target, slopes=False) as asked:
        classes = asked.classes.to(inputs.device)
    found, thresholds = {}, {}
    with tqdm(total=len(explainers) * len(inputs), unit=" maps", leave=False, disable=not shown(progress)) as bar:
        for name, explainer in explainers.items():
            bar.set_description(name)
            batches = zip(inputs.split(batch_size), classes.split(batch_size))
            found[name], thresholds[name] = _measured(name, explainer, model, batches, masks, steps, bar)
    scores = {name: dict(zip(MEASURES, bootstrap(torch.stack(list(values.values()), dim=1), seed)))
              for name, values in found.items()}
    return Localization(scores, found, thresholds, float(masks.bool().float().mean()), len(inputs))


def bootstrap(values: Tensor, seed: int = 0,
              resamples: int = RESAMPLES) -> list[tuple[float, float, float]]:
    """(mean, low, high) of each column of `values` (N, measures), low to high the middle 95 % of
    resampled means.
    """
    count = len(values)
    drawn = torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(seed))
    values = values.cpu().double()
    times = torch.zeros(resamples, count, dtype=torch.double).scatter_add_(1, drawn, torch.ones_like(drawn).double())
    # (resamples, measures)
    means = times @ values / count
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.double), dim=0)
    return list(zip(values.mean(dim=0).tolist(), low.tolist(), high.tolist()))


def _measured(name: str, explainer: Callable[..., Tensor], model: nn.Module,
              batches: Iterable[tuple[Tensor, Tensor]], masks: Tensor, steps: int,
              bar: tqdm) -> tuple[dict[str, Tensor], float]:
    """Measure -> values (N,) of one explainer, on the CPU, and the threshold of its IoU."""
    maps, insertion, deletion = [], [], []
    for part, of in batches:
        maps.append(explainer(model, part, of))
        require_maps(f"localize: {name}", maps[-1])
        curves = insertion_deletion(model, part, maps[-1], of, steps)
        insertion.append(curves.insertion_auc)
        deletion.append(curves.deletion_auc)
        bar.update(len(part))
    every = torch.cat(maps).detach().cpu().float()
    iou, threshold = best_iou(every, masks)
    values = (pointing_game(every, masks), energy_in_mask(every, masks), iou, torch.cat(insertion), torch.cat(deletion))
    return {measure: value.cpu() for measure, value in zip(MEASURES, values)}, threshold


def _parts_of(pictures: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, masks, and labels if there are any."""
    is_tuple = isinstance(pictures, Sequence) and len(pictures) in (2, 3)
    if not is_tuple and not hasattr(pictures, "inputs"):
        raise LabError(f"localize: pictures are {type(pictures).__name__}; give a set of pictures, as "
                       'data.load("shapes", "test", count=100), or a tuple (inputs, masks, labels)')
    if not is_tuple and pictures.masks is None:
        raise LabError(f"localize: {pictures.name} has no masks to score against; {MEND_MASKS[:-6]}")
    inputs, masks, *more = pictures if is_tuple else (pictures.inputs, pictures.masks, pictures.labels)
    require_images("localize", inputs)
    require_masks("localize", masks, len(inputs))
    return inputs, masks.cpu(), more[0] if more else None


def _require_explainers(explainers: Any) -> None:
    if not isinstance(explainers, Mapping) or not explainers:
        raise LabError(f"localize: explainers are {type(explainers).__name__}; give a dict of at least one, as "
                       '{"relevance": explain.relevance_map}')
    for name, explainer in explainers.items():
        if not callable(explainer):
            raise LabError(f"localize: {name} is {type(explainer).__name__}; give a function (model, inputs, target) "
                           "-> (batch, rows, columns), as explain.relevance_map")


def _cell(mean: float, low: float, high: float) -> str:
    interval = f"{100 * low:.0f}-{100 * high:.0f}"
    return f"{100 * mean:>4.0f} {interval:<7}"
