import json

import pytest
import timm
import torch
from forging import forged, parts
from safetensors.torch import save as encode
from torch import nn

from lightvit_lab import checkpoint, models
from lightvit_lab.errors import LabError


def small(**changes):
    torch.manual_seed(0)
    return models.create_model("lab_vit_student", **{"dim": 16, "depth": 2, "num_heads": 2, **changes}).eval()


@pytest.mark.parametrize("name, arguments, size", [
    ("lab_vit_student", {"dim": 16, "depth": 1, "num_heads": 2, "distilled": True}, 32),
    ("lab_cnn", {"widths": (4, 8), "blocks": 1}, 32),
    ("lab_lightvit", {}, 32),
    ("lab_cct", {"depth": 1}, 32),
    ("deit_tiny_patch16_224", {"num_classes": 7, "img_size": 32, "depth": 1}, 32),
])
@torch.inference_mode()
def test_what_is_loaded_gives_the_logits_of_what_was_saved_bit_for_bit(tmp_path, name, arguments, size):
    torch.manual_seed(0)
    model = models.create_model(name, **arguments).eval()
    checkpoint.save(model, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    inputs = torch.randn(2, 3, size, size)
    assert not loaded.training and type(loaded) is type(model) and torch.equal(loaded(inputs), model(inputs))


def test_half_precision_halves_the_file_and_rounds_each_number_once(tmp_path):
    model = small()
    for precision in ("as it is", "float16"):
        checkpoint.save(model, tmp_path / precision, precision)
    whole, half = ((tmp_path / name).stat().st_size for name in ("as it is", "float16"))
    numbers = sum(value.numel() for value in model.state_dict().values())
    assert 2 * numbers <= whole - half + 16 * len(model.state_dict()) and half < 0.6 * whole
    loaded = checkpoint.load(tmp_path / "float16")
    for name, value in model.state_dict().items():
        given = loaded.state_dict()[name]
        assert given.dtype == value.dtype
        assert torch.equal(given, value.half().to(value.dtype) if value.is_floating_point() else value), name


def test_a_model_that_create_model_did_not_make_is_refused_with_the_call_that_would(tmp_path):
    with pytest.raises(LabError, match="Linear has no recipe.*models.create_model"):
        checkpoint.save(nn.Linear(2, 2), tmp_path / "model.safetensors")
    with pytest.raises(LabError, match="has no recipe"):
        checkpoint.save(timm.create_model("resnet10t"), tmp_path / "model.safetensors")


def test_arguments_that_are_no_data_are_refused(tmp_path):
    model = models.create_model("vit_tiny_patch16_224", img_size=32, depth=1, norm_layer=nn.LayerNorm)
    with pytest.raises(LabError, match="the arguments of vit_tiny_patch16_224.*numbers, text, lists"):
        checkpoint.save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(LabError, match="nowhere/model.safetensors cannot be written"):
        checkpoint.save(small(), tmp_path / "nowhere" / "model.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LabError, match="there is no file .*gone.safetensors"):
        checkpoint.load(tmp_path / "gone.safetensors")


def test_every_changed_byte_and_every_cut_is_refused_by_a_lab_error(tmp_path):
    path, bad = tmp_path / "model.safetensors", tmp_path / "bad.safetensors"
    checkpoint.save(small(), path)
    content = path.read_bytes()
    for place in [*range(0, 400, 7), *range(400, len(content), len(content) // 60), len(content) - 1]:
        bad.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        with pytest.raises(LabError, match="bad.safetensors"):
            checkpoint.load(bad)
        bad.write_bytes(content[:place])
        with pytest.raises(LabError, match="bad.safetensors"):
            checkpoint.load(bad)


def rewritten(path, change):
    """The file with another recipe, its sha256 honestly made anew."""
    about, tensors = parts(path)
    recipe = json.loads(about["recipe"])
    change(recipe)
    path.write_bytes(forged(about, tensors, recipe))


@pytest.mark.parametrize("change, words", [
    (lambda recipe: recipe.update(name="lab_vit_studemt"), "lab_vit_student"),
    (lambda recipe: recipe["arguments"].update(depth=3), "not those of lab_vit.*: 12 missing: blocks.2.* and 8 more"),
    (lambda recipe: recipe["arguments"].update(dim=32), r"not those of lab_vit_student: .* instead of floats \(.*32"),
    (lambda recipe: recipe["arguments"].update(colour="red"), "colour"),
    (lambda recipe: recipe.pop("arguments"), "its recipe is no"),
])
def test_a_recipe_that_does_not_fit_the_tensors_is_refused(tmp_path, change, words):
    path = tmp_path / "model.safetensors"
    checkpoint.save(small(), path)
    rewritten(path, change)
    with pytest.raises(LabError, match=words):
        checkpoint.load(path)


def test_a_file_of_other_tensors_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(encode({"weight": torch.zeros(3)}))
    with pytest.raises(LabError, match="its format is None, not one of"):
        checkpoint.load(path)


def test_a_file_of_a_newer_version_says_that_the_lab_is_to_be_updated(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(small(), path)
    about, tensors = parts(path)
    path.write_bytes(encode(tensors, {"lightvit_lab": json.dumps({**about, "format": "lightvit_lab model 3"})}))
    with pytest.raises(LabError, match="'lightvit_lab model 3', of a newer version of the lab .*update the lab"):
        checkpoint.load(path)


def test_a_model_that_was_changed_by_hand_is_refused_when_it_is_saved(tmp_path):
    model = small()
    model.head = nn.Linear(16, 3)
    with pytest.raises(LabError, match=r"make this model anew.*head.* floats \(3.*instead of floats \(10"):
        checkpoint.save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_numbers_too_large_for_float16_are_named_instead_of_becoming_infinite(tmp_path):
    model = small()
    with torch.no_grad():
        model.head.bias[0] = 7e4
    with pytest.raises(LabError, match="head.bias reaches 7e.04, and float16 ends at 65504.*as it is"):
        checkpoint.save(model, tmp_path / "model.safetensors", "float16")
    checkpoint.save(model, tmp_path / "model.safetensors")
    assert checkpoint.load(tmp_path / "model.safetensors").head.bias[0] == 7e4


@torch.inference_mode()
def test_tied_turned_and_double_weights_are_saved_each_for_itself(tmp_path):
    model = small()
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight                    # two names, one tensor
    model.head.weight = nn.Parameter(model.head.weight.detach().T.contiguous().T)
    assert not model.head.weight.is_contiguous()
    checkpoint.save(model, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    checkpoint.save(model.double(), tmp_path / "model.safetensors")
    assert {value.dtype for value in checkpoint.load(tmp_path / "model.safetensors").parameters()} == {torch.float32}


@torch.inference_mode()
def test_buffers_that_no_file_holds_are_made_anew(tmp_path):
    torch.manual_seed(0)
    model = models.create_model("levit_128s", num_classes=3).eval()
    kept = dict(model.state_dict())
    assert any(name not in kept for name, _ in model.named_buffers())
    checkpoint.save(model, tmp_path / "model.safetensors")
    inputs = torch.randn(1, 3, *model.default_cfg["input_size"][1:])
    assert torch.equal(checkpoint.load(tmp_path / "model.safetensors")(inputs), model(inputs))


def test_where_weights_came_from_is_no_part_of_what_a_model_is(tmp_path):
    model = models.create_model("vit_tiny_patch16_224", img_size=32, depth=1, cache_dir=str(tmp_path / "cache"))
    assert model.recipe == {"name": "vit_tiny_patch16_224", "arguments": {"img_size": 32, "depth": 1}}
    with pytest.raises(LabError, match="argument 'pretrained_cfg', by which models fetch or read"):
        checkpoint.save(models.create_model("vit_tiny_patch16_224", img_size=32, depth=1, pretrained_cfg={"file": "x"}),
                        tmp_path / "model.safetensors")
