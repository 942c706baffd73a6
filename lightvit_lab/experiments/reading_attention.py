"""Which map can be trusted? Methods and baselines scored against the truth, on trained ViTs and on one that knows nothing.

`chapters/practice/reading_attention` shows what this study stores, and reads the weights that it leaves.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from .. import data, explain, models, training
from . import results

NAME, MODEL = "reading_attention", "lab_vit"
STEPS, PICTURES, CHECKED = 800, 300, 24
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


def trained_model() -> nn.Module:
    """The `lab_vit` of the stored run's first seed, in eval mode."""
    return results.load_weights(NAME, models.create_model(MODEL)).eval()


def reading_attention(seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """Train on shapes for each seed; score every explainer on the first test pictures; check that it heeds the weights."""
    splits = {split: data.load("shapes", split) for split in data.SPLITS}
    found: dict[str, Any] = {"model": MODEL, "steps": STEPS, "pictures": PICTURES, "checked": CHECKED, "runs": []}
    for seed in seeds:
        torch.manual_seed(seed)
        model = models.create_model(MODEL)
        history = training.fit(model, splits["train"], steps=STEPS, batch_size=64, lr=8e-3, optimizer="muon",
                               schedule="linear", augment=("flip",), seed=seed, precision="float32", attention="fused",
                               threads=torch.get_num_threads())
        if seed == seeds[0]:
            found |= results.save_weights(NAME, model)
        run = {"seed": seed, "seconds": round(history.seconds, 1), **_accuracy(model, splits["test"])}
        found["runs"].append(run | {"trained": scored(model), "sanity": checked(model)})
        print(f"seed {seed}: {run}", flush=True)
    torch.manual_seed(seeds[0])
    return found | {"fresh": scored(models.create_model(MODEL).eval())}


def _accuracy(model: nn.Module, test: data.Pictures) -> dict[str, float]:
    score = training.evaluate(model, test)
    return {"test": round(score.accuracy, 4), "test_low": round(score.low, 4), "test_high": round(score.high, 4)}


def scored(model: nn.Module) -> dict[str, Any]:
    """Scores of every explainer on the first PICTURES test pictures, for the class of the label."""
    pictures = data.load("shapes", "test", count=PICTURES)
    return explain.localize(model, pictures, EXPLAINERS, "labels", progress=False).as_dict()


def checked(model: nn.Module) -> dict[str, dict[str, float]]:
    """Per explainer the rank correlation of its maps with those of models ever more of whose weights are drawn anew."""
    inputs = data.load("shapes", "test", count=CHECKED).inputs
    return {name: {stage: round(value, 4) for stage, value in explain.sanity_check(explainer, model, inputs).correlations.items()}
            for name, explainer in EXPLAINERS.items()}
