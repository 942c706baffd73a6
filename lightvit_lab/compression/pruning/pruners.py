"""Pruning: a smaller model without the neurons, heads, head dimensions, channels or blocks that
matter least.

Every function returns a new model, really smaller, and leaves its argument as it is. Derived in
chapters/compression/pruning; the two halves are `importance` (which go) and `structure` (rebuild).
"""

from __future__ import annotations

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
# whose inputs go, so that it can make up for them
_READS = {"mlp": "fc2", "heads": "proj", "head_width": "proj"}
_LAYERS = {"mlp": mlps, "heads": attentions, "head_width": attentions, "blocks": block_names}
PARTS = (*_LAYERS, "embedding")


@plain_numbers
def prune(model: nn.Module, part: str, ratio: Ratio, importance: str = "magnitude",
          calibration: Calibration | None = None, *, budget: str = "layer", multiple_of: int = 1,
          compensate: bool = False, ridge: float = RIDGE) -> nn.Module:
    """Remove at least the share `ratio` of a `part` (PARTS) of every layer, or of those that a dict
    gives a ratio.

    `importance` is one of IMPORTANCES; all but "magnitude" and "random" need `calibration`, 32 or
    more normalised pictures or a pair with their labels. `budget="global"` compares units of all
    layers, and keeps some in each. `multiple_of`: keep a multiple of it, which hardware likes.
    `compensate=True` refits what reads the units on the calibration pictures, ridge regression with
    `ridge` as a share of their variance. Raises LabError.
    """
    require_choice("prune", "part", part, PARTS)
    caller = f"prune_{part}"
    _require(caller, part, importance, budget, multiple_of, compensate, ridge)
    inputs = labels = None
    if compensate or importance in NEED_INPUTS:
        inputs, labels = require_calibration(caller, calibration, labels=importance in NEED_LABELS)
    found = scores(model, part, importance, inputs, labels)
    kept = units_to_keep(caller, part, found, ratio, budget, multiple_of, comparable=importance in COMPARABLE)
    plan = {"transform": "prune", "part": part, "kept": kept}
    pruned = transformed(model, plan, apply_pruning)
    return refit(pruned, model, [f"{name}.{_READS[part]}" for name in kept], inputs, ridge) if compensate else pruned


def prune_mlp(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
              calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the neurons of every MLP; the rest is as in `prune`,
    `how` too.
    """
    return prune(model, "mlp", ratio, importance, calibration, **how)


def prune_heads(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
                calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the heads of every attention; the rest is as in `prune`."""
    return prune(model, "heads", ratio, importance, calibration, **how)


def prune_head_width(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
                     calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the dimensions of every head; the rest is as in `prune`.

    Each head keeps its own dimensions, as many as every other in its layer: one choice for queries
    and keys, another for values. Scores are divided by what they were in the whole head.
    Compensation makes up for values alone.
    """
    return prune(model, "head_width", ratio, importance, calibration, **how)


def prune_embedding(model: nn.Module, ratio: float, importance: str = "magnitude",
                    calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the channels of all tokens, of plain ViTs; the rest is
    as in `prune`.

    The norms then see the channels kept alone. There is nothing to compensate with: every layer
    reads every channel.
    """
    return prune(model, "embedding", ratio, importance, calibration, **how)


def prune_blocks(model: nn.Module, ratio: Ratio, importance: str = "magnitude",
                 calibration: Calibration | None = None, **how: Any) -> nn.Module:
    """Remove at least the share `ratio` of the blocks, or those to which a dict gives 1; the rest
    is as in `prune`.

    By magnitude, those that write the least weights' worth; by "activation", those that change
    their tokens least.
    """
    return prune(model, "blocks", ratio, importance, calibration, **how)


def sensitivity(model: nn.Module, data: Pictures, prune: Callable[..., nn.Module] = prune_mlp,
                ratios: Sequence[float] = (0.25, 0.5, 0.75), **how: Any) -> list[dict[str, Any]]:
    """Prune one layer at a time, by each of `ratios`, and score on `data`: dicts of layer, ratio,
    accuracy, low, high.

    `how` goes to `prune`. Low and high are the score's 95 % interval. Blocks go whole: give
    ratios=(1,).
    """
    part = getattr(prune, "__name__", "").removeprefix("prune_")
    if part not in _LAYERS:
        raise LabError(f"sensitivity: prune={getattr(prune, '__name__', prune)} does not prune single layers; give "
                       "prune_mlp, prune_heads, prune_head_width or prune_blocks")
    found = []
    for layer in _LAYERS[part](model):
        for ratio in ratios:
            score = evaluate(prune(model, {layer: ratio}, **how), data)
            found.append({"layer": layer, "ratio": ratio, "accuracy": score.accuracy, "low": score.low,
                          "high": score.high})
    return found


def _require(caller: str, part: str, importance: str, budget: str, multiple_of: int,
             compensate: bool, ridge: float) -> None:
    require_choice(caller, "importance", importance, IMPORTANCES)
    require_choice(caller, "budget", budget, BUDGETS)
    require_range(caller, "multiple_of", multiple_of, 1)
    require_range(caller, "ridge", ridge, 0)
    if compensate and part not in _READS:
        raise LabError(f"{caller}: compensate=True, but no single layer reads what goes here; prune_mlp, prune_heads "
                       "and prune_head_width compensate; here fine-tune: training.fit(model, data)")
