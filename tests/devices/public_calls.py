"""One small call of each public function that takes a model or `Pictures`.

test_public_functions.py runs them. A new function needs a line in CALLS, here or in a file of its page's own,
calls_<stem>.py, which makes them with `from public_calls import Call, vit`; or, if it only reads names
and shapes or is a part of a forward pass that runs wherever its caller put model and tensors, its
name in PARTS; all of the room `models` are such.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightvit_lab import checkpoint, data, explain, figures, models, profiling, training, widgets
from lightvit_lab.compression.low_rank import factors as low_rank, attention as low_rank_attention
from lightvit_lab.compression.pruning import movement, pruners as pruning, unstructured as sparsity
from lightvit_lab.data import Pictures
from lightvit_lab.distillation import distilling, model_outputs
from lightvit_lab.distillation.feature_distillation import mimicking
from lightvit_lab.distillation.response_distillation import objectives as response_distillation, stored_logits
from lightvit_lab.dynamic.early_exit import block_skipping, exits as early_exit, report as exit_report, rules as exit_rules, token_halting
from lightvit_lab.dynamic.token_pruning import choosing, coarse_fine, dynamicvit, pruning as token_pruning
from lightvit_lab.dynamic.token_merging import diffrate, merging as token_merging, rates
from lightvit_lab.experiments import (
    adaptive_depth,
    base,
    comparison,
    compression,
    difficulty,
    dynamic,
    faults,
    kit,
    lightvit_lesion,
    reading_attention,
    results,
    timing_under_load,
)
from lightvit_lab.experiments import distillation as distillation_study
from lightvit_lab.experiments import early_exit as exit_study
from lightvit_lab.explain.sanity import draw_anew as drawn_anew

RUN = {"steps": 2, "batch_size": 4, "progress": False}


@dataclass
class Given:
    """What a call is given besides its model: all on the processor."""

    pictures: Pictures  # a few
    many: Pictures  # as many as a batch of the studies holds
    inputs: Tensor  # (4, 3, 32, 32)
    labels: Tensor  # (4,)
    teacher: nn.Module
    folder: Path

    @property
    def calibration(self) -> tuple[Tensor, Tensor]:
        return self.inputs, self.labels

    @property
    def splits(self) -> dict[str, Pictures]:
        return dict.fromkeys(data.SPLITS, self.many)


@dataclass(frozen=True)
class Call:
    """`run(model, given)` of a model that `make()` builds.

    `trains` if the model is changed in place; `refuses_train_mode` if it has to come in eval mode.
    """

    run: Callable[[nn.Module, Given], Any]
    make: Callable[[], nn.Module] | None = None
    trains: bool = False
    refuses_train_mode: bool = False


def vit(**changes: Any) -> nn.Module:
    """A small ViT of the lab, with random weights."""
    return models.create_model("lab_vit", **{"dim": 32, "depth": 4, "num_heads": 4, **changes})


def exits() -> nn.Module:
    return early_exit.add_exits(vit(), layers=[0, 2])


def skipping() -> nn.Module:
    return block_skipping.add_skipping(vit(), layers=[1, 2], start=0.5)


def halting() -> nn.Module:
    return token_halting.add_halting(vit())


def pruned() -> nn.Module:
    return token_pruning.prune_tokens(vit(), 0.7, layers=(1, 2))


def dynamic_vit() -> nn.Module:
    return token_pruning.prune_tokens(vit(), 0.7, layers=(1, 2), method="dynamicvit")


def halved(prune: Callable[..., nn.Module], **how: Any) -> Call:
    """The pruner at one half, scored and compensated on pictures."""
    return Call(lambda model, given: prune(model, 0.5, calibration=given.calibration, **how))


def explained(explainer: Callable[..., Any], **how: Any) -> Call:
    return Call(lambda model, given: explainer(model, given.inputs, given.labels, **how))


def watched(context: Callable[..., Any], *more: Any) -> Call:
    """A forward pass of the reader's own inside `with context(model):`, on the processor."""

    def run(model: nn.Module, given: Given) -> Any:
        with context(model, *more) as found:
            model(given.inputs)
        return found

    return Call(run)


def merged_sources(model: nn.Module, given: Given) -> Tensor:
    model(given.inputs)
    return token_merging.source_map(model)


def draw_anew(model: nn.Module, given: Given) -> None:
    drawn_anew(copy.deepcopy(model))


def none_run(row: kit.Row, stage: str, seed: int) -> dict[str, Any]:
    return {"seconds": 0.0}


def described(model: nn.Module) -> dict[str, Any]:
    return {"macs": profiling.count(model, (3, 32, 32)).macs}


def lesioned(model: nn.Module, given: Given) -> None:
    for change in lightvit_lesion.LESIONS.values():
        with lightvit_lesion.lesion(model, change):
            training.evaluate(model, given.pictures)


def fine_tuned(model: nn.Module, given: Given) -> nn.Module:
    return base.tuned(model, "fine-tuned", seed=0, keep_zeros=True)


def stored(model: nn.Module, given: Given) -> Any:
    found = stored_logits.store_logits(
        model,
        given.pictures,
        given.folder / "logits.safetensors",
        steps=2,
        batch_size=4,
        progress=False,
    )
    student = vit(depth=2)
    distilling.distill(
        student, found, given.pictures, {"soft": response_distillation.SoftTargets()}, **RUN
    )
    return student


def restored(model: nn.Module, given: Given) -> nn.Module:
    checkpoint.save(model, given.folder / "model.safetensors")
    return checkpoint.load(given.folder / "model.safetensors")


def resumed(model: nn.Module, given: Given) -> Any:
    """A run that is scored and saved on the way, and taken up by another."""
    how = {
        **RUN,
        "checkpoint": given.folder / "run",
        "save_every": 1,
        "validation": given.pictures,
        "seed": 1,
    }
    with torch.inference_mode(False):
        again = copy.deepcopy(model)
    found = training.fit(model, given.pictures, augment=("flip", "mixup"), **how)
    training.fit(again, given.pictures, augment=("flip", "mixup"), **how)
    return found


def distilled(model: nn.Module, given: Given) -> Any:
    from lightvit_lab.distillation import feature_distillation as features

    objectives = {
        "labels": response_distillation.Labels(),
        "soft": response_distillation.SoftTargets(),
        "hint": features.Hint(),
        "weights": features.AttentionWeights(),
        "values": features.ValueRelations(),
    }
    return distilling.distill(model, given.teacher, given.pictures, objectives, **RUN)


def explorer(model: nn.Module, given: Given) -> Any:
    return widgets.attention_explorer(
        model, given.pictures, explainers={"Grad-CAM": explain.grad_cam}
    ).album


def tiny(given: Given) -> Pictures:
    """Pictures of 8 by 8 pixels."""
    return replace(given.pictures, pixels=given.pictures.pixels[:, :, ::4, ::4])


def fit_with_zeros(model: nn.Module, given: Given) -> Any:
    with sparsity.keep_zeros(model):
        return training.fit(model, given.pictures, **RUN)


CALLS: dict[str, Call] = {
    "checkpoint.save": Call(restored),
    "compression.apply_factors": Call(lambda model, given: low_rank.factorize(model, rank=4)),
    "compression.factorize": Call(
        lambda model, given: low_rank.factorize(model, budget=0.5, calibration=given.inputs)
    ),
    "compression.input_moments": Call(
        lambda model, given: low_rank.factorize(model, energy=0.8, calibration=given.inputs)
    ),
    "compression.output_error": Call(
        lambda model, given: low_rank.output_error(
            model, low_rank.factorize(model, rank=4), given.inputs
        )
    ),
    "compression.replace_attention": Call(
        lambda model, given: low_rank_attention.replace_attention(model, "nystrom", rank=4)(
            given.inputs
        )
    ),
    "compression.movement_prune": Call(
        lambda model, given: movement.movement_prune(
            model, given.pictures, 0.5, **{**RUN, "steps": 10}
        )
    ),
    "compression.prune": Call(
        lambda model, given: pruning.prune(
            model, "mlp", 0.5, "taylor", given.calibration, compensate=True
        )
    ),
    "compression.prune_blocks": halved(pruning.prune_blocks, importance="activation"),
    "compression.prune_embedding": halved(pruning.prune_embedding, importance="taylor"),
    "compression.prune_head_width": halved(
        pruning.prune_head_width, importance="fisher", compensate=True
    ),
    "compression.prune_heads": halved(pruning.prune_heads, importance="taylor", compensate=True),
    "compression.prune_mlp": halved(pruning.prune_mlp, importance="taylor", compensate=True),
    "compression.prune_mlp std": halved(pruning.prune_mlp, importance="std"),
    "compression.sensitivity": Call(
        lambda model, given: pruning.sensitivity(
            model, given.pictures, ratios=(0.5,), calibration=given.calibration
        )
    ),
    "compression.prune_weights": halved(sparsity.prune_weights, importance="wanda"),
    "compression.sparsity": Call(lambda model, given: sparsity.sparsity(model)),
    "compression.keep_zeros": Call(
        fit_with_zeros, lambda: sparsity.prune_weights(vit(), 0.5), trains=True
    ),
    "distillation.distill": Call(distilled, trains=True),
    "distillation.collect_outputs": Call(
        lambda model, given: model_outputs.collect_outputs(model, given.inputs, features=(0, -1), attention=(1,))
    ),
    "distillation.lift_last_layer": Call(
        lambda model, given: training.evaluate(mimicking.lift_last_layer(model, 48), given.pictures),
        lambda: vit(pool="mean"),
    ),
    "distillation.store_logits": Call(stored, refuses_train_mode=True),
    "dynamic.add_exits": Call(lambda model, given: early_exit.add_exits(model, layers=[0, 2])),
    "dynamic.add_exits lgvit": Call(
        lambda model, given: training.evaluate(
            early_exit.add_exits(model, layers=[0, 2], head="lgvit"), given.pictures
        )
    ),
    "dynamic.add_halting": Call(lambda model, given: token_halting.add_halting(model)),
    "dynamic.add_skipping": Call(
        lambda model, given: block_skipping.add_skipping(model, layers=[1])
    ),
    "dynamic.calibrate_confidence": Call(
        lambda model, given: exit_report.calibrate_confidence(model, given.pictures), exits
    ),
    "dynamic.calibrate_rule": Call(
        lambda model, given: exit_report.calibrate_rule(model, given.pictures, mean_macs=1e9),
        exits,
    ),
    "dynamic.coarse_to_fine": Call(
        lambda model, given: coarse_fine.coarse_to_fine(model, 0.5)(given.inputs)
    ),
    "dynamic.exit_macs": Call(
        lambda model, given: exit_report.exit_macs(model, (3, 32, 32)), exits
    ),
    "dynamic.with_rule": Call(
        lambda model, given: early_exit.with_rule(model, exit_rules.Confidence(0.5)), exits
    ),
    "dynamic.every_logit": Call(
        lambda model, given: exit_report.every_logit(model, given.pictures), exits
    ),
    "dynamic.exit_report": Call(
        lambda model, given: exit_report.exit_report(model, given.pictures), exits
    ),
    "dynamic.fine_tune": Call(
        lambda model, given: dynamicvit.fine_tune(model, vit().eval(), given.pictures, **RUN),
        dynamic_vit,
        trains=True,
    ),
    "dynamic.kept_patches": Call(
        lambda model, given: choosing.kept_patches(model, given.inputs), pruned
    ),
    "dynamic.merge_tokens": Call(
        lambda model, given: token_merging.merge_tokens(
            model, r=8, faster_on=given.inputs, budget_s=0.05
        )
    ),
    "dynamic.prune_tokens": Call(
        lambda model, given: token_pruning.prune_tokens(model, 0.7, layers=(1, 2))
    ),
    "dynamic.reduce_tokens": Call(
        lambda model, given: diffrate.reduce_tokens(model, [0, 8, 4, 0], 4)
    ),
    "dynamic.learn_rates": Call(
        lambda model, given: rates.learn_rates(model, given.pictures, 0.8, **RUN)
    ),
    "dynamic.block_costs": Call(lambda model, given: rates.block_costs(model, (3, 32, 32))),
    "dynamic.source_map": Call(merged_sources, lambda: token_merging.merge_tokens(vit(), r=8)),
    "dynamic.trade_off": Call(
        lambda model, given: exit_report.trade_off(model, given.pictures), exits
    ),
    "dynamic.train_exits": Call(
        lambda model, given: early_exit.train_exits(model, given.pictures, whole=False, **RUN),
        exits,
        trains=True,
    ),
    "dynamic.train_halting": Call(
        lambda model, given: token_halting.train_halting(model, given.pictures, **RUN),
        halting,
        trains=True,
    ),
    "dynamic.train_skipping": Call(
        lambda model, given: block_skipping.train_skipping(model, given.pictures, **RUN),
        skipping,
        trains=True,
    ),
    "experiments.blocks_used": Call(
        lambda model, given: adaptive_depth.blocks_used(model, given.pictures), skipping
    ),
    "experiments.calibrated": Call(lambda model, given: exit_study.calibrated(model), exits),
    "experiments.changed": Call(
        lambda model, given: compression.changed(
            model, compression.PRUNING_ROWS["mlp + heads, taylor"]
        )
    ),
    "experiments.checked": Call(lambda model, given: reading_attention.checked(model)),
    "experiments.described": Call(lambda model, given: base.described(model)),
    "experiments.tuned": Call(fine_tuned, lambda: sparsity.prune_weights(vit(), 0.5)),
    "experiments.tuned long": Call(
        lambda model, given: base.tuned(model, base.LONG, seed=0, steps=2, batch_size=4)
    ),
    "experiments.last_layer": Call(
        lambda model, given: distillation_study.last_layer(model, count=4), lambda: vit(dim=96)
    ),
    "experiments.halted_macs": Call(
        lambda model, given: adaptive_depth.halted_macs(model, torch.full((2, 4), 10))
    ),
    "experiments.halting": Call(
        lambda model, given: adaptive_depth.halting(model, given.splits, 0, 2.0, 3.0, ponder=0.01)
    ),
    "experiments.linear_accuracy": Call(
        lambda model, given: difficulty.linear_accuracy(tiny(given), tiny(given))
    ),
    "experiments.map_scores": Call(lambda model, given: reading_attention.map_scores(model)),
    "experiments.flap": Call(
        lambda model, given: compression.flap(model, 0.5, 0.5, given.calibration, compensate=True)
    ),
    "experiments.movement_pruned": Call(
        lambda model, given: compression.movement_pruned(model, 0.5)
    ),
    "experiments.lesion": Call(lesioned, lambda: models.create_model("lab_lightvit")),
    "experiments.mean_ratio": Call(lambda model, given: timing_under_load.mean_ratio(model, given.inputs)),
    "experiments.merge_at_random": Call(
        lambda model, given: training.evaluate(dynamic.merge_at_random(model, 4), given.pictures)
    ),
    "experiments.ratio_in_turns": Call(
        lambda model, given: timing_under_load.ratio_in_turns(model, given.inputs)
    ),
    "experiments.prune_at_random": Call(
        lambda model, given: dynamic.prune_at_random(model, 0.7, layers=(1, 2))(given.inputs)
    ),
    "experiments.save_weights": Call(
        lambda model, given: results.save_weights("few_weights", model)
    ),
    "experiments.result": Call(
        lambda model, given: base.result(
            kit.Study("few", dict, {"same": kit.Row()}, none_run), lambda model, row: model, {"": 4}, 0.1
        )
    ),
    "experiments.run": Call(lambda model, given: base.run(lambda: model, "one-shot", 0, described)),
    "experiments.skipping": Call(
        lambda model, given: adaptive_depth.skipping(model, given.splits, 0, 0.5, 0.5, 2)
    ),
    "experiments.statistics_accuracy": Call(
        lambda model, given: difficulty.statistics_accuracy(given.pictures, given.pictures)
    ),
    "experiments.symptoms": Call(lambda model, given: faults.symptoms(model, given.pictures)),
    "experiments.times": Call(
        lambda model, given: exit_study.times({"no exits": model.model, "exits": model}), exits
    ),
    "experiments.trained": Call(
        lambda model, given: comparison.trained(model, given.splits, 0, steps=2, batch_size=4),
        trains=True,
    ),
    "experiments.tokens_kept": Call(
        lambda model, given: adaptive_depth.tokens_kept(model, given.pictures), halting
    ),
    "explain.class_attention": explained(explain.class_attention),
    "explain.completeness_gap": Call(
        lambda model, given: explain.completeness_gap(
            model, given.inputs, torch.zeros(4, 32, 32), given.labels
        )
    ),
    "explain.deep_lift": explained(explain.deep_lift),
    "explain.draw_anew": Call(draw_anew),
    "explain.grad_cam": explained(explain.grad_cam),
    "explain.insertion_deletion": Call(
        lambda model, given: explain.insertion_deletion(
            model, given.inputs, torch.rand(4, 32, 32), given.labels, steps=2
        )
    ),
    "explain.integrated_gradients": explained(
        explain.integrated_gradients, steps=2, progress=False
    ),
    "explain.kernel_shap": explained(explain.kernel_shap, samples=5, patch_size=16, progress=False),
    "explain.localize": Call(
        lambda model, given: explain.localize(
            model,
            given.pictures,
            {"relevance": explain.relevance_map, "centre": explain.centre_map},
            "labels",
            steps=2,
            progress=False,
        )
    ),
    "explain.occlusion": explained(explain.occlusion, patch_size=16, progress=False),
    "explain.centre_map": explained(explain.centre_map),
    "explain.edge_map": explained(explain.edge_map),
    "explain.record_attention": watched(explain.record_attention),
    "explain.relevance": explained(explain.relevance),
    "explain.relevance_map": explained(explain.relevance_map, rule="layerwise"),
    "explain.rollout_map": explained(explain.rollout_map),
    "explain.sanity_check": Call(
        lambda model, given: explain.sanity_check(
            explain.relevance_map, model, given.inputs, given.labels
        )
    ),
    "profiling.best_batch": Call(
        lambda model, given: profiling.best_batch(model, given.inputs[:1], largest=2)
    ),
    "profiling.count": Call(lambda model, given: profiling.count(model, (3, 32, 32))),
    "profiling.measure": Call(
        lambda model, given: profiling.measure(
            {"ViT": model, "merged": token_merging.merge_tokens(model, r=8)},
            given.inputs,
            budget_s=0.05,
        )
    ),
    "profiling.roofline": Call(
        lambda model, given: profiling.roofline(model, given.inputs, rounds=1)
    ),
    "figures.exits_by_threshold": Call(
        lambda model, given: figures.exits_by_threshold(
            given.pictures,
            exit_report.every_logit(model, given.pictures),
            exit_report.exit_macs(model, (3, 32, 32)),
        ),
        exits,
    ),
    "training.evaluate": Call(
        lambda model, given: training.evaluate(model, given.pictures, flip=True)
    ),
    "training.fit": Call(resumed, trains=True),
    "widgets.attention_explorer": Call(explorer),
    "widgets.attention_views": Call(
        lambda model, given: widgets.attention_views(model, given.pictures)
    ),
}

KINDS: dict[str, Callable[[], nn.Module]] = {
    "merged": lambda: token_merging.merge_tokens(vit(), r=8, mode="tofu"),
    "reduced": lambda: diffrate.reduce_tokens(vit(), [0, 8, 4, 0], 4),
    "clustered": lambda: token_merging.merge_tokens(vit(), r=8, matching="clusters"),
    **{
        method: lambda method=method: token_pruning.prune_tokens(
            vit(), 0.7, layers=(1, 2), method=method
        )
        for method in token_pruning.METHODS
    },
    "coarse to fine": lambda: coarse_fine.coarse_to_fine(vit(), 0.3),
    "exits": exits,
    "halting": halting,
    "skipping": skipping,
    "low rank": lambda: low_rank.factorize(vit(), rank=4),
    "nystrom": lambda: low_rank_attention.replace_attention(vit(), "nystrom", rank=4),
    "lightvit": lambda: models.create_model("lab_lightvit"),
    "cct": lambda: models.create_model("lab_cct"),
    "cnn": lambda: models.create_model("lab_cnn"),
}
CALLS |= {
    f"training.evaluate of {kind}": Call(
        lambda model, given: training.evaluate(model, given.pictures), make
    )
    for kind, make in KINDS.items()
}
CALLS |= {
    f"profiling.measure of {kind}": Call(
        lambda model, given: profiling.measure({"one": model}, given.inputs, budget_s=0.05), make
    )
    for kind, make in KINDS.items()
}
# They read names, shapes and flags, ask whether a model will do, or rebuild one from a plan.
LOOK = {
    "exercises.neurons",
    "experiments.part_macs",
    "compression.magnitude",
    "compression.block_layers",
    "distillation.apply_lift",
    "compression.apply_low_rank_attention",
    "compression.apply_sparsity",
    "compression.weighted_layers",
    "compression.apply_pruning",
    "dynamic.apply_skipping",
    "dynamic.apply_coarse_to_fine",
    "dynamic.predictor_blocks",
    "dynamic.predictors",
    "dynamic.sampling_blocks",
    "dynamic.apply_exit_rule",
    "dynamic.apply_exits",
    "dynamic.require_exits",
    "dynamic.apply_halting",
    "dynamic.apply_merging",
    "dynamic.apply_reduction",
    "dynamic.rate_model",
    "dynamic.require_class_token",
    "dynamic.apply_token_pruning",
    "experiments.block_macs",
    "experiments.layers_alone",
    "experiments.load_weights",
    "explain.stages",
    "profiling.bytes_by_dtype",
    "profiling.own_costs",
    "training.create_optimizers",
    "training.decay_groups",
    "training.applied",
    "training.attention_switches",
    "training.tables",
    "training.describe_model",
    "training.describe_pictures",
    "training.require_pictures",
    "training.require_normalised",
}
# They run inside a call of CALLS, where model and tensors lie already.
INSIDE = {
    "compression.spreads",
    "dynamic.make_head",
    "experiments.trained_copy",
    "experiments.stored_logits",
    "compression.refit",
    "compression.scores",
    "compression.products",
    "compression.record_activations",
    "compression.sizes",
    "explain.attention_relevance",
    "explain.attention_gradients",
    "dynamic.present_tokens",
    "dynamic.presence",
    "dynamic.drop_pictures",
    "explain.image_part",
    "explain.explaining",
    "explain.logits_of",
    "explain.recorded",
    "explain.refusing_reentrant",
    "explain.reentrant_error",
    "explain.targets",
    "profiling.macs_until",
    "profiling.peak_memory_mib",
    "profiling.splitting",
    "profiling.timed",
    "training.choose_settings",
    "training.require_model",
    "widgets.record",
}
PARTS = LOOK | INSIDE
# Nothing is computed from pictures, or the reader's own code computes it, on the processor.
ON_THE_PROCESSOR = {
    "experiments.mean_ratio",
    "checkpoint.save",
    "compression.apply_factors",
    "compression.replace_attention",
    "compression.sparsity",
    "distillation.collect_outputs",
    "dynamic.add_exits",
    "dynamic.exit_macs",
    "dynamic.with_rule",
    "dynamic.add_halting",
    "dynamic.add_skipping",
    "dynamic.coarse_to_fine",
    "dynamic.prune_tokens",
    "dynamic.reduce_tokens",
    "dynamic.block_costs",
    "dynamic.source_map",
    "experiments.halted_macs",
    "experiments.last_layer",
    "experiments.linear_accuracy",
    "experiments.prune_at_random",
    "experiments.save_weights",
    "experiments.statistics_accuracy",
    "explain.centre_map",
    "explain.draw_anew",
    "explain.edge_map",
    "explain.record_attention",
    "profiling.count",
}


def of_pages(folder: Path) -> tuple[dict[str, Call], set[str]]:
    """CALLS and PARTS of each `calls_<stem>.py` in a folder on the path: a page brings its own."""
    modules = [importlib.import_module(path.stem) for path in sorted(folder.glob("calls_*.py"))]
    calls = {name: call for module in modules for name, call in module.CALLS.items()}
    return calls, {name for module in modules for name in getattr(module, "PARTS", ())}


ADDED_CALLS, ADDED_PARTS = of_pages(Path(__file__).parent)
CALLS |= ADDED_CALLS
PARTS |= ADDED_PARTS
