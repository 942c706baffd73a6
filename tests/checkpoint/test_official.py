import collections
import pickle

import pytest
import torch

from lightvit_lab import models
from lightvit_lab.checkpoint import import_official
from lightvit_lab.errors import LabError


@pytest.fixture(scope="module")
def tiny():
    """Stands for what the authors publish: their names and shapes, drawn at random."""
    torch.manual_seed(0)
    return models.create_model("lightvit_tiny").eval()


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"model": state, "epoch": 299},
    lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "optimizer": {"lr": 0.1}},
    lambda state: {"model": {"state_dict": state}},
], ids=["bare", "model", "state_dict with module.", "nested"])
@torch.inference_mode()
def test_published_weights_are_found_in_every_wrapping(tiny, tmp_path, wrap):
    torch.save(wrap(tiny.state_dict()), tmp_path / "weights.pth")
    loaded = import_official(tmp_path / "weights.pth")
    images = torch.randn(1, 3, 64, 64)
    assert not loaded.training and torch.equal(loaded(images), tiny(images))


@pytest.mark.parametrize("name", models.PUBLISHED)
def test_the_variant_and_its_classes_are_told_by_the_shapes(name):
    with torch.device("meta"):
        given = models.create_model(name, num_classes=7).state_dict()
    loaded = import_official({key: torch.zeros(value.shape, dtype=value.dtype) for key, value in given.items()})
    assert loaded.num_classes == 7 and loaded.num_features == models.create_model(name).num_features


def test_a_named_model_of_timm_takes_its_weights():
    torch.manual_seed(1)
    reference = models.create_model("test_vit", num_classes=9)
    loaded = import_official({"model": reference.state_dict()}, "test_vit")
    assert all(torch.equal(value, reference.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_what_is_missing_unexpected_and_of_another_shape_is_named(tiny):
    state = dict(tiny.state_dict())
    state["neck.2.weight"] = state.pop("norm.weight")
    state["norm.bias"] = torch.zeros(255)
    with pytest.raises(LabError, match=r"no weights of lightvit_tiny.*1 missing: norm.weight; "
                                       r"1 unexpected: neck.2.weight; 1 of another shape: norm.bias floats \(255,\) instead of floats \(256,\)"):
        import_official(state)
    with pytest.raises(LabError, match=r"lightvit_small.*of another shape: global_token floats \(1, 8, 64\) instead of "
                                       r"floats \(1, 16, 96\).* and \d+ more.*lightvit_base"):
        import_official(tiny.state_dict(), "lightvit_small")


def test_weights_of_another_model_say_which_are_possible():
    with pytest.raises(LabError, match="no global_token, but .*none of lightvit_tiny, lightvit_small, lightvit_base"):
        import_official(models.create_model("lab_cnn").state_dict())
    with pytest.raises(LabError, match=r"global_token of shape \(1, 4, 64\)"):
        import_official(models.create_model("lab_lightvit").state_dict())


@pytest.mark.parametrize("content, words", [
    ({"ema": {"head.weight": torch.zeros(2, 2)}}, "a dict with ema"),
    ({}, "nothing in it"),
    ([torch.zeros(1)], "found a list"),
])
def test_what_is_no_dict_of_tensors_is_named(content, words):
    with pytest.raises(LabError, match=words):
        import_official(content)


class _Harm:
    """Unpickled, it would make a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"model": collections.OrderedDict(), "harm": _Harm(str(tmp_path / "harm"))}, tmp_path / "weights.pth")
    with pytest.raises(LabError, match="would run code.*weights_only=False"):
        import_official(tmp_path / "weights.pth")
    assert not (tmp_path / "harm").exists()


def test_damaged_and_missing_files_end_in_a_sentence(tmp_path):
    (tmp_path / "broken.pth").write_bytes(pickle.dumps("weights", protocol=2)[:-3])
    with pytest.raises(LabError, match="broken.pth is no file of weights alone"):
        import_official(tmp_path / "broken.pth")
    with pytest.raises(LabError, match="there is no file .*absent.pth.*nothing is downloaded"):
        import_official(tmp_path / "absent.pth")
