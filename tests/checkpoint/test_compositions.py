"""Every transform, and fifty compositions of them, come back from a file with the same logits, bit for bit."""

import copy
import json
import random

import pytest
import torch

from lightvit_lab import checkpoint, models
from lightvit_lab.checkpoint import recipes
from lightvit_lab.compression.low_rank import factors as low_rank, attention as low_rank_attention
from lightvit_lab.compression.pruning import pruners as pruning, unstructured as sparsity
from lightvit_lab.distillation.feature_distillation import lift_last_layer
from lightvit_lab.dynamic.early_exit import block_skipping, exits as early_exit, rules as exit_rules, token_halting
from lightvit_lab.dynamic.token_pruning import coarse_fine, pruning as token_pruning
from lightvit_lab.dynamic.token_merging import diffrate, merging as token_merging
from lightvit_lab.models.timm_parts import block_names
from lightvit_lab.models.transforming import transformed

MODELS = {
    "lab_vit_student": {"image_size": 16, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2},
    "deit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2},
    "deit_tiny_distilled_patch16_224": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2},
    "lab_lightvit": {"embed_dims": [16, 32], "num_heads": [2, 4], "num_layers": [2, 1], "num_tokens": 2, "neck_dim": 8},
}
PLAIN = tuple(name for name in MODELS if name != "lab_lightvit")
TRANSFORMS = {      # in an order in which each may follow those above it
    "2:4": lambda model, seen: sparsity.prune_weights(model, 0.5, pattern="2:4"),
    "blocks": lambda model, seen: pruning.prune_blocks(model, {block_names(model)[0]: 1}),
    "embedding": lambda model, seen: pruning.prune_embedding(model, 0.25),
    "heads": lambda model, seen: pruning.prune_heads(model, 0.25, calibration=seen, compensate=True),
    "head_width": lambda model, seen: pruning.prune_head_width(model, 0.5, "activation", seen),
    "mlp": lambda model, seen: pruning.prune_mlp(model, 0.5, "activation", seen, budget="global", compensate=True),
    "linformer": lambda model, seen: low_rank_attention.replace_attention(model, "linformer", rank=6),
    "nystrom": lambda model, seen: low_rank_attention.replace_attention(model, "nystrom", rank=6),
    "rank": lambda model, seen: low_rank.factorize(model, rank=2, layers=("fc1", "fc2")),
    "energy": lambda model, seen: low_rank.factorize(model, energy=0.5, calibration=seen),
    "budget": lambda model, seen: low_rank.factorize(model, budget=0.5, calibration=seen, qkv="split"),
    "zeros": lambda model, seen: sparsity.prune_weights(model, 0.5, "wanda", seen),
    "evit": lambda model, seen: token_pruning.prune_tokens(model, 0.5, (0,)),
    "dynamicvit": lambda model, seen: token_pruning.prune_tokens(model, 0.5, (0,), "dynamicvit"),
    "ats": lambda model, seen: token_pruning.prune_tokens(model, 0.5, (0,), "ats", lengths="padded"),
    "coarse": lambda model, seen: coarse_fine.coarse_to_fine(model, 1.0),
    "merge": lambda model, seen: token_merging.merge_tokens(model, 3, mode="tofu"),
    "reduce": lambda model, seen: diffrate.reduce_tokens(model, 2, 1),
    "exits": lambda model, seen: early_exit.add_exits(model, [0], exit_rules.Confidence(0.0)),
    "lgvit exits": lambda model, seen: early_exit.add_exits(model, [0], exit_rules.Confidence(0.0), head="lgvit"),
    "halting": lambda model, seen: token_halting.add_halting(model, scale=0.3, center=0.8),
    "skipping": lambda model, seen: block_skipping.add_skipping(model, [1], start=-1.0),
    "lift": lambda model, seen: lift_last_layer(model, 20),
}
PRUNED = ("blocks", "embedding", "heads", "head_width", "mlp")
REPLACED = ("linformer", "nystrom")                       # attention
DYNAMIC = ("evit", "dynamicvit", "ats", "coarse", "merge", "reduce", "exits", "lgvit exits", "halting", "skipping")      # blocks: one at a time
NOT_TOGETHER = {"rank": {"energy", "budget"}, "energy": {"budget"}, "zeros": {"2:4"}, "linformer": {"nystrom"},
                **{step: {*DYNAMIC, *REPLACED} - {step} for step in DYNAMIC}}
for step in ("exits", "lgvit exits", "halting", "skipping"):             # they say which blocks by their numbers
    NOT_TOGETHER[step] |= {"blocks"}
NOT_TOGETHER["lift"] = {"coarse", "exits", "lgvit exits", "halting"}      # they put another model around the row of blocks
NOT_FOR_LIGHTVIT = {"embedding", *REPLACED, *DYNAMIC, "lift"}


def small(name):
    torch.manual_seed(0)
    model = models.create_model(name, **MODELS[name]).eval()
    with torch.no_grad():       # so that no logit hangs on a weight that starts as zero
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return model


def pictures(name):
    return torch.randn(8, 3, *[MODELS[name].get("image_size", 32)] * 2, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def composed(name, steps):
    model = small(name)
    for step in steps:
        model = TRANSFORMS[step](model, pictures(name))
    return model


def allowed(name, steps):
    apart = all(later not in NOT_TOGETHER.get(step, ()) for step in steps for later in steps)
    apart = apart and not ("coarse" in steps and "distilled" in name)
    return apart and (name in PLAIN or not NOT_FOR_LIGHTVIT & set(steps))


def drawn(count=50, seed=0):
    """(name, steps): two to four transforms, the parts that are pruned in any order."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        name, chosen = draw.choice([*MODELS]), draw.sample([*TRANSFORMS], draw.randint(2, 4))
        pruned = [step for step in chosen if step in PRUNED]
        rest = [step for step in TRANSFORMS if step in chosen and step not in PRUNED]
        steps = rest[:1] + pruned + rest[1:] if "2:4" in rest else pruned + rest      # widths stay multiples of 4
        if allowed(name, steps) and (name, steps) not in found:
            found.append((name, steps))
    return found


@torch.inference_mode()
def require_the_same(model, path, name, steps):
    loaded, inputs = checkpoint.load(path), pictures(name)
    assert len(loaded.recipe["plans"]) == len(steps) and type(loaded) is type(model) and not loaded.training
    assert torch.equal(loaded(inputs), model(inputs)), (name, steps)
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (loaded, model)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name, step", [(name, step) for name in MODELS for step in TRANSFORMS if allowed(name, [step])])
def test_each_transform_comes_back_bit_for_bit(tmp_path, name, step):
    model = composed(name, [step])
    assert not torch.equal(model(pictures(name)), small(name)(pictures(name)))
    checkpoint.save(model, tmp_path / "model.safetensors")
    require_the_same(model, tmp_path / "model.safetensors", name, [step])


def test_fifty_compositions_come_back_bit_for_bit(tmp_path):
    path, compositions = tmp_path / "model.safetensors", drawn()
    assert {step for _, steps in compositions for step in steps} == set(TRANSFORMS)
    for name, steps in compositions:
        model = composed(name, steps)
        checkpoint.save(model, path)
        require_the_same(model, path, name, steps)


@pytest.mark.parametrize("name, steps", drawn(6, seed=1))
def test_in_half_precision_a_composition_comes_back_as_its_rounded_self(tmp_path, name, steps):
    model, path = composed(name, steps), tmp_path / "model.safetensors"
    checkpoint.save(model, path, "float16")
    for value in [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]:
        value.data.copy_(value.data.half())
    require_the_same(model, path, name, steps)


def test_a_loaded_model_can_be_transformed_and_saved_again(tmp_path):
    first = composed("lab_vit_student", ["mlp"])
    checkpoint.save(first, tmp_path / "first.safetensors")
    second = TRANSFORMS["heads"](checkpoint.load(tmp_path / "first.safetensors"), pictures("lab_vit_student"))
    checkpoint.save(second, tmp_path / "second.safetensors")
    require_the_same(second, tmp_path / "second.safetensors", "lab_vit_student", ["mlp", "heads"])


def test_every_transform_of_the_table_is_tried_here(tmp_path):
    steps = ("mlp", "linformer", "rank", "zeros", "evit", "coarse", "merge", "reduce", "exits", "halting", "skipping", "lift")
    used = {plan["transform"] for step in steps for plan in composed("lab_vit_student", [step]).recipe["plans"]}
    used.add(early_exit.with_rule(composed("lab_vit_student", ["exits"]), None).recipe["plans"][-1]["transform"])
    tied = composed("lab_vit_student", ["merge"])
    tied.blocks[1].mlp.fc1.weight = tied.blocks[0].mlp.fc1.weight
    checkpoint.save(tied, tmp_path / "tied.safetensors")        # which notes what is shared, as a plan after the others
    require_the_same(tied, tmp_path / "tied.safetensors", "lab_vit_student", ["merge", "share"])
    used.add(checkpoint.load(tmp_path / "tied.safetensors").recipe["plans"][-1]["transform"])
    assert used == set(recipes.TRANSFORMS)


def emptied(value):
    """Take everything out of every list and dict in `value`."""
    for inner in list(value.values()) if isinstance(value, dict) else list(value):
        if isinstance(inner, dict | list):
            emptied(inner)
    value.clear()


@pytest.mark.parametrize("step", TRANSFORMS)
def test_what_becomes_of_the_recipe_of_the_model_before_is_nothing_to_the_one_after(step, tmp_path):
    model = small("lab_vit_student")
    model = pruning.prune_mlp(model, 0.25)                                    # so that there is a plan before it
    after = TRANSFORMS[step](model, torch.randn(4, 3, 16, 16))
    plans, wanted = copy.deepcopy(model.recipe["plans"]), copy.deepcopy(after.recipe)
    emptied(model.recipe)
    assert after.recipe == wanted and wanted["plans"][:-1] == plans and len(plans) == 1
    checkpoint.save(after, tmp_path / "after.safetensors")


LISTS = {      # calls that take lists or dicts, with some that the caller goes on to change
    "create_model": (lambda model, widths: models.create_model("lab_cnn", widths=widths), ([4, 8, 8],)),
    "prune_mlp": (pruning.prune_mlp, ({"blocks.0.mlp": 0.5},)),
    "prune_weights": (sparsity.prune_weights, ({"blocks.0.mlp.fc1": 0.5},)),
    "factorize": (lambda model, layers: low_rank.factorize(model, rank=2, layers=layers), (["fc1", "fc2"],)),
    "prune_tokens": (lambda model, ratios, layers: token_pruning.prune_tokens(model, ratios, layers), ([0.5, 0.7], [0, 1])),
    "merge_tokens": (lambda model, r, mode: token_merging.merge_tokens(model, r, mode=mode), ([3, 2], ["mean", "max"])),
    "reduce_tokens": (diffrate.reduce_tokens, ([0, 2], [1, 1])),
    "add_exits": (early_exit.add_exits, ([0],)),
    "add_skipping": (block_skipping.add_skipping, ([1],)),
}


@pytest.mark.parametrize("call", LISTS)
def test_a_list_that_the_caller_changes_afterwards_changes_no_model(call, tmp_path):
    make, given = LISTS[call][0], copy.deepcopy(LISTS[call][1])
    model = make(small("lab_vit_student"), *given)
    size = 32 if call == "create_model" else 16
    wanted, picture = json.dumps(model.recipe), torch.randn(1, 3, size, size)
    logits = model.eval()(picture)
    for value in given:
        value.update({"blocks.1.mlp": 0.1}) if isinstance(value, dict) else value.append(value[0])
    assert json.dumps(model.recipe) == wanted
    checkpoint.save(model, tmp_path / "model.safetensors")
    assert torch.equal(checkpoint.load(tmp_path / "model.safetensors")(picture), logits)


def test_a_plan_stays_its_writers_and_what_is_made_by_it_keeps_nothing_of_it(tmp_path):
    """Also where a method's second half holds on to a list of the plan: it is given a copy."""
    held, plan = [], {"transform": "block_skipping", "layers": [1], "start": 3.0}

    def apply(model, given):
        held.append(given["layers"])
        return block_skipping.apply_skipping(model, given)

    after = transformed(small("lab_vit_student"), plan, apply)
    held[0].append(0)
    assert plan["layers"] == [1] and after.recipe["plans"] == [plan]
    plan["layers"].append(0)
    assert held[0] == [1, 0] and after.recipe["plans"][0]["layers"] == [1]
