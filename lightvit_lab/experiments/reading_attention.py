"""Which map can be trusted? Methods and baselines scored on trained ViTs and an untrained one.

`chapters/practice/reading_attention` shows what this study stores, and reads the weights that it
leaves.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from .. import data, explain, models, training
from . import results
from .kit import SEEDS, Row, Run, Study, scored

NAME, MODEL = "reading_attention", "lab_vit"
PICTURES, CHECKED = 300, 24
SETTINGS = {"steps": 800, "batch_size": 64, "lr": 8e-3, "optimizer": "muon", "schedule": "linear",
            "augment": ("flip",)}
EXPLAINERS = {
    "attention, block 5": explain.class_attention,      # the last one
    "attention, block 1": partial(explain.class_attention, block=1),
    "rollout": explain.rollout_map,
    "rollout, sparse": partial(explain.rollout_map, fusion="max", discard_ratio=0.9),
    "relevance": explain.relevance_map,
    "relevance, layers": partial(explain.relevance_map, rule="layerwise"),
    "Grad-CAM": explain.grad_cam,
    "integrated gradients": partial(explain.integrated_gradients, progress=False),
    "occlusion": partial(explain.occlusion, progress=False),
    "KernelSHAP": partial(explain.kernel_shap, samples=256, progress=False),
    "edges": explain.edge_map,
    "centre": explain.centre_map,
    "random": explain.random_map(),
}
BASELINES = ("edges", "centre", "random")


def trained_model() -> nn.Module:
    """The `lab_vit` of the stored run's first seed, in eval mode."""
    return results.load_weights(NAME, models.create_model(MODEL)).eval()


def trained(row: Row, seed: int) -> tuple[nn.Module, training.History]:
    """A model of this seed, trained on shapes."""
    model = row.apply(MODEL)
    return model, training.fit(model, data.load("shapes"), seed=seed, precision="float32",
                               attention="fused", threads=torch.get_num_threads(), **SETTINGS)


def run(row: Row, _stage: str, seed: int) -> Run:
    """Train on shapes; score every explainer, and check that it heeds the weights."""
    model, history = trained(row, seed)
    weights = results.save_weights(NAME, model) if seed == row.seeds[0] else {}
    score = training.evaluate(model, data.load("shapes", "test"))
    return {"seed": seed, "seconds": round(history.seconds, 1), **scored(score),
            "trained": map_scores(model), "sanity": checked(model), **weights}


def result(study: Study) -> dict[str, Any]:
    """What every seed's run found, and the scores of a model that knows nothing."""
    runs = study.runs[MODEL]
    torch.manual_seed(study.seeds[0])
    fresh = map_scores(models.create_model(MODEL).eval())
    return {"model": MODEL, "steps": SETTINGS["steps"], "pictures": PICTURES, "checked": CHECKED,
            "weights_sha256": runs[0].pop("weights_sha256"), "runs": runs, "fresh": fresh}


def map_scores(model: nn.Module) -> dict[str, Any]:
    """Scores of every explainer on the first PICTURES test pictures, for the class of the label."""
    pictures = data.load("shapes", "test", count=PICTURES)
    return explain.localize(model, pictures, EXPLAINERS, "labels", progress=False).as_dict()


def checked(model: nn.Module) -> dict[str, dict[str, float]]:
    """Per explainer the rank correlation of its maps with those of models with weights anew."""
    inputs, rows = data.load("shapes", "test", count=CHECKED).inputs, {}
    for name, explainer in EXPLAINERS.items():
        correlations = explain.sanity_check(explainer, model, inputs).correlations
        rows[name] = {part: round(value, 4) for part, value in correlations.items()}
    return rows


def beyond_run(row: Row, _stage: str, seed: int) -> Run:
    """By how much maps lie beyond the best baseline; of the first seed the weights are there."""
    model = trained_model() if seed == row.seeds[0] else trained(row, seed)[0].eval()
    pictures, rows = data.load("shapes", "test", count=PICTURES), {}
    found = explain.localize(model, pictures, EXPLAINERS, "labels", progress=False)
    for name, measures in found.beyond(BASELINES).items():
        rows[name] = {}
        for measure, values in measures.items():
            rows[name][measure] = [round(value, 4) for value in values]
    return {"seed": seed, "beyond": rows}


def beyond_result(study: Study) -> dict[str, Any]:
    """What is stored of the comparison in pairs."""
    return {"pictures": PICTURES, "baselines": BASELINES, "runs": study.runs[MODEL]}


ROWS = {MODEL: Row(calls=((models.create_model, {}),), seeds=SEEDS)}
STUDIES = (Study(NAME, result, ROWS, run),
           Study(f"{NAME}_beyond", beyond_result, ROWS, beyond_run))
