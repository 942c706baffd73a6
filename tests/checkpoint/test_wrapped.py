"""Weights and models inside torch's wrappers, heads of other names, and weights that several modules share."""

import copy

import pytest
import torch
from safetensors import safe_open
from torch import nn

from lightvit_lab import checkpoint, data, explain, models, profiling, training
from lightvit_lab.compression.low_rank.factors import factorize
from lightvit_lab.compression.pruning.movement import movement_prune
from lightvit_lab.compression.pruning.pruners import prune_blocks, prune_embedding, prune_head_width, prune_heads, prune_mlp
from lightvit_lab.compression.pruning.structure import apply_pruning
from lightvit_lab.compression.pruning.unstructured import prune_weights
from lightvit_lab.distillation import distill
from lightvit_lab.distillation.response_distillation.objectives import SoftTargets
from lightvit_lab.distillation.response_distillation.stored_logits import StoredLogits, store_logits
from lightvit_lab.distillation.model_outputs import collect_outputs
from lightvit_lab.dynamic.token_pruning.dynamicvit import fine_tune
from lightvit_lab.dynamic.early_exit.exits import add_exits, train_exits
from lightvit_lab.dynamic.early_exit.report import (
    calibrate_confidence, every_logit, exit_macs, exit_report, trade_off)
from lightvit_lab.dynamic.early_exit.rules import Confidence
from lightvit_lab.dynamic.early_exit.token_halting import add_halting, train_halting
from lightvit_lab.dynamic.token_merging.diffrate import reduce_tokens
from lightvit_lab.dynamic.token_merging.merging import merge_tokens
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import adaptive_depth
from lightvit_lab.models.transforming import transformed

P = data.load("shapes", "train", count=32)
INPUTS, _ = P.batch(torch.arange(4))
QUICK = {"steps": 2, "batch_size": 8, "progress": False, "threads": 1, "precision": "float32", "attention": "fused"}
WRAPPERS = {"compile": torch.compile, "DataParallel": nn.DataParallel,
            "compile of DataParallel": lambda model: torch.compile(nn.DataParallel(model)),
            "DataParallel of compile": lambda model: nn.DataParallel(torch.compile(model))}
WRAPPERS |= {"DistributedDataParallel": nn.parallel.DistributedDataParallel,
             "compile of DistributedDataParallel": lambda model: torch.compile(nn.parallel.DistributedDataParallel(model))}
PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]


@pytest.fixture(autouse=True, scope="module")
def group(tmp_path_factory):
    """A group of this process alone, which DistributedDataParallel asks for."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('group') / 'file'}",
                                         rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def small():
    torch.manual_seed(0)
    return models.create_model("lab_vit_student", dim=32, depth=2, num_heads=2).eval()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_wrappers_put_into_names_is_taken_off(prefix):
    model = small()
    named = models.create_model("lab_vit_student").state_dict()
    found = checkpoint.import_official({prefix + name: value for name, value in named.items()}, "lab_vit_student")
    assert all(torch.equal(value, named[name]) for name, value in found.state_dict().items())
    wrapped = {name: value for name, value in WRAPPERS["DataParallel of compile"](model).state_dict().items()}
    assert all(name.startswith("module._orig_mod.") for name in wrapped)


def test_blocks_that_were_compiled_one_by_one_are_read():
    model = models.create_model("lab_vit_student")
    named = {name: value.clone() for name, value in model.state_dict().items()}
    for place, block in enumerate(model.blocks):
        model.blocks[place] = torch.compile(block)
    assert "blocks.0._orig_mod.attn.qkv.weight" in model.state_dict()
    found = checkpoint.import_official(model.state_dict(), "lab_vit_student").state_dict()
    assert all(torch.equal(value, named[name]) for name, value in found.items())


@pytest.mark.parametrize("change", [lambda model: None, lambda model: setattr(model.blocks[1], "mlp", model.blocks[0].mlp)],
                         ids=["apart", "sharing"])
def test_a_model_whose_blocks_were_compiled_one_by_one_is_saved_by_its_plain_names(change, tmp_path):
    model = small()
    change(model)
    named, wanted, count = dict(model.state_dict()), model(INPUTS), len(list(model.parameters()))
    for place, block in enumerate(model.blocks):
        model.blocks[place] = torch.compile(block)
    checkpoint.save(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(named)
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded(INPUTS), wanted) and len(list(loaded.parameters())) == count


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_public_functions_work_with_the_model_inside_a_wrapper(wrap, tmp_path):
    model = small()
    wrapped = WRAPPERS[wrap](model)
    assert training.evaluate(wrapped, P) == training.evaluate(model, P)
    assert profiling.count(wrapped, (3, 32, 32)) == profiling.count(model, (3, 32, 32))
    assert torch.equal(explain.relevance_map(wrapped, INPUTS), explain.relevance_map(model, INPUTS))
    checkpoint.save(wrapped, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    store_logits(wrapped, P, tmp_path / "logits.safetensors", **{key: QUICK[key] for key in ("steps", "batch_size", "progress")},
                 teacher_precision="float32")
    assert StoredLogits(tmp_path / "logits.safetensors").identity


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_training_a_wrapper_trains_the_model_inside_and_its_checkpoint_is_the_same(wrap, tmp_path):
    plain, model = small(), small()
    expected = training.fit(plain, P, checkpoint=tmp_path / "run.pt", **QUICK).loss
    again = training.fit(WRAPPERS[wrap](model), P, checkpoint=tmp_path / "run.pt", **QUICK)     # taken up at its end
    assert again.loss == expected
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    student, teacher = small(), small()
    distill(WRAPPERS[wrap](student), WRAPPERS[wrap](teacher), P, {"soft": SoftTargets()}, teacher_precision="float32", **QUICK)
    assert not torch.equal(student.head.weight, teacher.head.weight) and not student.training


@pytest.mark.parametrize("change", [
    lambda model: prune_mlp(model, 0.5), lambda model: factorize(model, rank=2), lambda model: prune_weights(model, 0.5),
    lambda model: merge_tokens(model, r=2), lambda model: reduce_tokens(model, 1, 1), lambda model: add_exits(model, layers=[0]),
    lambda model: prune_embedding(model, 0.5), lambda model: prune_heads(model, 0.5),
    lambda model: prune_tokens(model, 0.5, layers=[1]), lambda model: movement_prune(model, P, 0.5, 10, **{
        key: value for key, value in QUICK.items() if key != "steps"}),
])
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_transforms_refuse_a_wrapper_in_a_sentence(change, wrap):
    with pytest.raises(LabError, match="(is compiled|is wrapped in (DataParallel|DistributedDataParallel)).*; give the model"):
        change(WRAPPERS[wrap](small()))


def exits():
    torch.manual_seed(0)
    return add_exits(small(), layers=[0], rule=Confidence(0.11)).eval()


def halting():
    torch.manual_seed(0)
    return add_halting(small()).eval()


READING = {     # name -> (the model, what is read of it)
    "collect_outputs": (small, lambda model: collect_outputs(model, INPUTS, features=[0], attention=[1]).features[0]),
    "every_logit": (exits, lambda model: every_logit(model, P)),
    "trade_off": (exits, lambda model: torch.tensor([point.mean_macs for point in trade_off(model, P)])),
    "exit_report": (exits, lambda model: exit_report(model, P).confidence),
    "exit_macs": (exits, lambda model: torch.tensor(exit_macs(model, (3, 32, 32)))),
    "tokens_kept": (halting, lambda model: adaptive_depth.tokens_kept(model, P)),
    "block_macs": (small, lambda model: torch.tensor(adaptive_depth.block_macs(model, 10))),
}


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_is_read_of_a_wrapped_model_is_what_is_read_of_the_model_inside(wrap, name):
    make, read = READING[name]
    assert torch.equal(read(WRAPPERS[wrap](make())), read(make()))


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_exits_and_halting_are_trained_inside_a_wrapper_and_calibrating_copies_refuses_it(wrap):
    for make, train in ((exits, train_exits), (halting, train_halting)):
        model, plain = make(), make()
        assert train(WRAPPERS[wrap](model), P, **QUICK).loss == train(plain, P, **QUICK).loss
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(LabError, match="calibrate_confidence: this model is (compiled|wrapped)"):
        calibrate_confidence(WRAPPERS[wrap](exits()), P)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_the_teacher_of_fine_tune_may_be_wrapped(wrap):
    found = []
    for around in (WRAPPERS[wrap], lambda model: model):
        torch.manual_seed(0)
        student = prune_tokens(small(), 0.5, layers=[1], method="dynamicvit")
        found.append(fine_tune(student, around(small()), P, **QUICK).loss)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["resnet18", "lab_cnn", "lab_cct", "lab_lightvit", "convnext_atto", "levit_128s",
                                  "mobilenetv3_small_050", "deit_tiny_distilled_patch16_224", "squeezenet1_0", "densenet121"])
def test_the_number_of_classes_is_that_of_the_weights_whatever_the_head_is_called(name):
    if name not in (*models.names(), *models.timm.list_models()):
        pytest.skip("this timm does not have it")
    weights = models.create_model(name, num_classes=7).state_dict()
    found = checkpoint.import_official(weights, name)
    assert all(torch.equal(value, weights[key]) for key, value in found.state_dict().items())
    assert getattr(found, "num_classes", 7) == 7


def tied(parts=("fc1", "fc2")):
    model = small()
    for part in parts:
        getattr(model.blocks[1].mlp, part).weight = getattr(model.blocks[0].mlp, part).weight
    return model


TEARING = {
    "prune_mlp": lambda model: prune_mlp(model, 0.5), "prune_heads": lambda model: prune_heads(model, 0.5),
    "prune_head_width": lambda model: prune_head_width(model, 0.5),
    "prune_embedding": lambda model: prune_embedding(model, 0.5), "prune_blocks": lambda model: prune_blocks(model, 0.5),
    "prune_weights": lambda model: prune_weights(model, 0.5), "factorize": lambda model: factorize(model, rank=2),
    "movement_prune": lambda model: movement_prune(model, P, 0.5, 10),
}


@pytest.mark.parametrize("parts", [("fc1",), ("fc1", "fc2")])
@pytest.mark.parametrize("change", TEARING)
def test_shared_weights_are_never_copied_apart(change, parts):
    model = tied(parts)
    with pytest.raises(LabError, match=r"blocks.*mlp.fc1.weight.*nn.Parameter\(layer.weight.detach\(\).clone\(\)\)"):
        TEARING[change](model)
    assert model.blocks[0].mlp.fc1.weight is model.blocks[1].mlp.fc1.weight


@pytest.mark.parametrize("parts", [("fc1",), ("fc1", "fc2")])
def test_what_is_shared_is_shared_again_when_it_is_loaded(parts, tmp_path):
    model = tied(parts)
    checkpoint.save(model, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    for part in ("fc1", "fc2"):
        one, other = (getattr(block.mlp, part).weight for block in loaded.blocks)
        assert (one is other) == (part in parts)
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    assert torch.equal(loaded(INPUTS), model(INPUTS)) and "plans" not in model.recipe
    checkpoint.save(loaded, tmp_path / "again.safetensors")
    assert checkpoint.load(tmp_path / "again.safetensors").recipe == loaded.recipe


def test_merging_keeps_the_sharing():
    model = tied()
    merged = merge_tokens(model, r=2)
    assert len(list(merged.parameters())) == len(list(model.parameters()))


def test_a_module_that_stands_in_two_places_is_pruned_once_and_stays_shared():
    model = small()
    model.blocks[1].mlp = model.blocks[0].mlp
    pruned = prune_mlp(model, 0.5)
    assert pruned.blocks[1].mlp is pruned.blocks[0].mlp and pruned.blocks[0].mlp.fc1.out_features == 64
    assert pruned(INPUTS).shape == (4, 10)


@pytest.mark.parametrize("kind, layer", [("mlp", "fc1"), ("mlp", "fc2"), ("attn", "qkv"), ("attn", "proj")])
def test_a_layer_that_two_modules_hold_is_never_cut_twice_or_replaced_in_one_alone(kind, layer):
    model = small()
    setattr(getattr(model.blocks[1], kind), layer, getattr(getattr(model.blocks[0], kind), layer))
    for change in (lambda: prune_mlp(model, 0.5), lambda: prune_heads(model, 0.5), lambda: prune_head_width(model, 0.5),
                   lambda: factorize(model, rank=4)):
        with pytest.raises(LabError, match=rf"blocks.1.{kind}.{layer} is the same layer as blocks.0.{kind}.{layer}"):
            change()
    smaller = prune_embedding(model, 0.5)              # by one choice of channels: it stays one layer
    one, other = (getattr(getattr(block, kind), layer) for block in smaller.blocks)
    assert one is other and 16 in one.weight.shape and smaller(INPUTS).shape == (4, 10)


@torch.no_grad()
@pytest.mark.parametrize("share", [
    lambda blocks: setattr(blocks[1], "norm1", blocks[0].norm1), lambda blocks: setattr(blocks[1], "mlp", blocks[0].mlp),
    lambda blocks: blocks.__setitem__(1, blocks[0])], ids=["norm", "mlp", "block"])
def test_an_embedding_is_pruned_once_in_what_stands_in_two_places(share):
    model, apart = small(), small()
    share(model.blocks)
    apart.load_state_dict(model.state_dict())                          # the same numbers, nothing shared
    plan = {"transform": "prune", "part": "embedding", "kept": list(range(0, 32, 2))}
    smaller, wanted = (transformed(one, plan, apply_pruning) for one in (model, apart))
    assert torch.allclose(smaller(INPUTS), wanted(INPUTS), atol=1e-6)
    assert len(list(smaller.parameters())) == len(list(model.parameters()))


def test_a_module_that_stands_in_two_places_shares_its_weights_when_it_is_loaded(tmp_path):
    model = small()
    model.blocks[1].mlp = model.blocks[0].mlp
    checkpoint.save(model, tmp_path / "model.safetensors")
    assert len(list(checkpoint.load(tmp_path / "model.safetensors").parameters())) == len(list(model.parameters()))


def test_a_tilde_is_the_home_of_the_user_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = small()
    checkpoint.save(model, "~/model.safetensors")
    assert (tmp_path / "model.safetensors").is_file()
    assert torch.equal(checkpoint.load("~/model.safetensors").head.weight, model.head.weight)
    torch.save(models.create_model("lab_vit_student").state_dict(), tmp_path / "weights.pth")
    assert checkpoint.import_official("~/weights.pth", "lab_vit_student") is not None
    training.fit(copy.deepcopy(model), P, checkpoint="~/run.pt", **QUICK)
    store_logits(model, P, "~/logits.safetensors", steps=1, batch_size=8, progress=False, teacher_precision="float32")
    assert (tmp_path / "run.pt").is_file() and StoredLogits("~/logits.safetensors").path == tmp_path / "logits.safetensors"
