"""The rate at which each stage of the compression studies is fine-tuned, by validation pictures.

Rows are rates; each trains the dense model and the one whose neurons are halved. `base.TUNINGS` has
the rate that is best over both.
"""

from __future__ import annotations

from typing import Any

from .. import data, training
from ..compression import pruning
from . import base
from .kit import Row, Run, Study, cpu_timed, scored

RATES = {"fine-tuned": (5e-4, 1e-3, 2e-3, 4e-3)}
MODELS = {"dense": lambda: base.model(),
          "half of the neurons": lambda: pruning.prune_mlp(base.model(), 0.5)}
ROWS = {f"{name}, {stage}, {rate:g}": Row({"model": name, "stage": stage, "rate": rate},
                                          stages=(stage,))
        for stage, rates in RATES.items() for name in MODELS for rate in rates}


def run(row: Row, stage: str, seed: int) -> Run:
    """One model, trained at one rate and scored on all validation pictures."""
    model, seconds = cpu_timed(lambda: base.tuned(MODELS[row.columns["model"]](), stage, seed,
                                                  lr=row.columns["rate"]))
    score = scored(training.evaluate(model, data.load(base.DATASET, "val")))
    return {"seed": seed, **score, "split": "val", "seconds": seconds, "cpu_seconds": seconds}


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    return [base.MODEL, base.mark(), base.tuning_key(stage), dict(row.columns), seed]


def result(study: Study) -> dict[str, Any]:
    """Validation accuracy of every rate, and the best of each stage: the mean over the models."""
    rows = study.table()
    best = {stage: max(rates, key=lambda rate: _mean(rows, stage, rate))
            for stage, rates in RATES.items()}
    return {"dataset": base.DATASET, "rows": rows, "best": best}


def _mean(rows: list[dict[str, Any]], stage: str, rate: float) -> float:
    scores = [row["test"] for row in rows if (row["stage"], row["rate"]) == (stage, rate)]
    return sum(scores) / len(scores)


STUDIES = (Study("fine_tuning_cifar10", result, ROWS, run, key, "fine_tuning"),)
