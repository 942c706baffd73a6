"""Pruning: a smaller model, without the units of each kind that matter least.

Every function returns a new model, really smaller, and leaves its argument as it is. Derived in
chapters/compression/pruning; the two halves are `importance` (which go) and `structure` (rebuild).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_choice, require_range
from ...models.timm_parts import attentions, block_names, mlps
from ...models.transforming import transformed
from ...training import evaluate
from ..calibrating import Calibration, require_calibration
from .budgets import Ratio, units_to_keep
from .compensation import refit
from .importance import COMPARABLE, IMPORTANCES, NEED_INPUTS, NEED_LABELS, scores
from .structure import apply_pruning

BUDGETS = ("layer", "global")
RIDGE = 1e-3
# part -> the layer whose inputs go, so that it can make up for them
_READERS = {"mlp": "fc2", "heads": "proj", "head_width": "proj"}
_LAYERS = {"mlp": mlps, "heads": attentions, "head_width": attentions, "blocks": block_names}


@plain_numbers
def prune(model: nn.Module, part: str, ratio: Ratio, importance: str = "magnitude",
          calibration: Calibration | None = None, *, budget: str = "layer", multiple_of: int = 1,
          compensate: bool | str = False, ridge: float = RIDGE,
          seed: int = 0) -> nn.Module:
    """Remove at least the share `ratio` of a part of every layer, or of layers that a dict names.

    `part` is "mlp", "heads", "head_width", "blocks" or "embedding"; `importance` is one of
    IMPORTANCES; all but "magnitude" and "random" need `calibration`, 32 or more normalised pictures
    or a pair with their labels. `budget="global"` compares units of all layers, and keeps some in
    each. `multiple_of`: keep a multiple of it, which hardware likes. `compensate=True` refits what
    reads the units on the calibration pictures, ridge regression with `ridge` as a share of their
    variance; `compensate="bias"` moves its bias alone, as FLAP does. `seed` is that of "random".
    Raises LabError.
    """
    require_choice("prune", "part", part, [*_LAYERS, "embedding"])
    caller = f"prune_{part}"
    require_choice(caller, "importance", importance, IMPORTANCES)
    require_choice(caller, "budget", budget, BUDGETS)
    require_range(caller, "multiple_of", multiple_of, 1)
    require_range(caller, "ridge", ridge, 0)
    require_choice(caller, "compensate", compensate, [False, True, "bias"])
    if compensate and part not in _READERS:
        raise LabError(f"{caller}: compensate=True, but no single layer reads what goes; it is for "
                       f"{', '.join(_READERS)}; here fine-tune: training.fit(model, data)")
    inputs = labels = None
    if compensate or importance in NEED_INPUTS:
        inputs, labels = require_calibration(caller, calibration, labels=importance in NEED_LABELS)
    found = scores(model, part, importance, inputs, labels, seed=seed)
    kept = units_to_keep(caller, part, found, ratio, budget, multiple_of,
                         comparable=importance in COMPARABLE)
    plan = {"transform": "prune", "part": part, "kept": kept}
    pruned = transformed(model, plan, apply_pruning)
    if compensate:
        readers = [f"{name}.{_READERS[part]}" for name in kept]
        refit(pruned, model, readers, inputs, math.inf if compensate == "bias" else ridge)
    return pruned


def prune_mlp(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
              calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the neurons of every MLP; the rest is as in `prune`."""
    return prune(model, "mlp", ratio, importance, calibration, **how)


def prune_heads(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
                calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of every attention's heads; the rest is as in `prune`."""
    return prune(model, "heads", ratio, importance, calibration, **how)


def prune_head_width(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
                     calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of every head's dimensions; the rest is as in `prune`.

    Each head keeps its own dimensions, as many as every other in its layer: one choice for queries
    and keys, another for values. Scores are divided by what they were in the whole head.
    Compensation makes up for values alone.
    """
    return prune(model, "head_width", ratio, importance, calibration, **how)


def prune_embedding(model: nn.Module, ratio: float, importance: str = "magnitude",
                    calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of all tokens' channels; the rest is as in `prune`.

    For plain ViTs. The norms then work on the channels kept alone. There is nothing to compensate
    with: every layer reads every channel.
    """
    return prune(model, "embedding", ratio, importance, calibration, **how)


def prune_blocks(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
                 calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the blocks; the rest is as in `prune`.

    A dict gives 1 to the blocks that go. By magnitude, those that write the least weights' worth;
    by "activation", those that change their tokens least.
    """
    return prune(model, "blocks", ratio, importance, calibration, **how)


def sensitivity(model: nn.Module, data: Pictures, prune: Callable[..., nn.Module] = prune_mlp,
                ratios: Sequence[float] = (0.25, 0.5, 0.75), **how: Any) -> list[dict[str, Any]]:
    """Prune one layer at a time, by each of `ratios`, and score on `data`.

    Returns dicts of layer, ratio, accuracy, low, high. `how` goes to `prune`. Low and high are the
    score's 95 % interval. Blocks go whole: give ratios=(1,).
    """
    name = getattr(prune, "__name__", str(prune))
    part = name.removeprefix("prune_")
    if part not in _LAYERS:
        raise LabError(f"sensitivity: prune={name} does not prune single layers; give prune_mlp, "
                       "prune_heads, prune_head_width or prune_blocks")
    found = []
    for layer in _LAYERS[part](model):
        for ratio in ratios:
            score = evaluate(prune(model, {layer: ratio}, **how), data)
            found.append({"layer": layer, "ratio": ratio, "accuracy": score.accuracy,
                          "low": score.low, "high": score.high})
    return found
