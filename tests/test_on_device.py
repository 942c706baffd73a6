"""The rule by which a model is run, without a second device; tests/devices has the others."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightvit_lab.errors import LabError
from lightvit_lab.runtime.hooks import Hook, hooked
from lightvit_lab.runtime.running import (
    as_input,
    double,
    float64_place,
    home_of,
    native_bfloat16,
    on_device,
    synchronize,
    to_device,
)


def mixed_model():
    """Frozen parts in eval mode inside a model in train mode."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)), nn.Linear(4, 2))
    model.train()
    model[1].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("train", [True, False, None])
def test_every_module_gets_its_own_mode_back_also_after_an_exception(train):
    model = mixed_model()
    before = modes(model)
    with pytest.raises(ZeroDivisionError), on_device(model, train=train):
        assert train is None or set(modes(model)) == {train}
        1 / 0
    assert modes(model) == before


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("grad", [True, False])
def test_gradients_are_as_asked_for_whatever_is_set_outside_and_given_back(outside, grad):
    model = nn.Linear(3, 2)
    with outside():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with on_device(model, grad=grad):
            assert torch.is_grad_enabled() is grad and not torch.is_inference_mode_enabled()
            assert model(torch.ones(1, 3)).requires_grad is grad
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert not any(value.is_inference() for value in model.parameters())


def test_checkpointing_is_off_outside_of_training_and_on_again_afterwards():
    model = nn.Linear(3, 2)
    model.grad_checkpointing = True
    with on_device(model, train=True):
        assert model.grad_checkpointing
    with on_device(model):
        assert not model.grad_checkpointing
    assert model.grad_checkpointing


def test_a_model_is_fetched_and_brought_home_also_after_an_exception():
    class Traveller(nn.Linear):
        places = []

        def to(self, place):
            self.places.append(str(place))
            return self

    model = Traveller(3, 3)
    with pytest.raises(ZeroDivisionError), on_device(model, place="cuda"):
        assert model.places == ["cuda"]
        1 / 0
    assert model.places == ["cuda", "cpu"]


def test_bfloat16_that_a_gpu_only_emulates_is_not_native(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not native_bfloat16(torch.device("cuda")) and not native_bfloat16(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert native_bfloat16(torch.device("cuda"))


def test_a_model_in_float64_runs_on_the_cpu_where_the_device_has_none(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "mps")
    with on_device(nn.Linear(3, 2).double()) as place:
        assert place.type == "cpu"


def test_what_needs_float64_goes_to_the_cpu_where_the_device_has_none():
    assert float64_place(torch.device("mps")).type == "cpu" and float64_place(torch.device("cuda")).type == "cuda"
    assert double(torch.ones(2, dtype=torch.half)).dtype == torch.float64


def test_threads_and_autocast_are_given_back():
    model, threads = nn.Linear(3, 2), torch.get_num_threads()
    with on_device(model, threads=threads + 1, precision="bfloat16"):
        assert torch.get_num_threads() == threads + 1 and model(torch.ones(1, 3)).dtype == torch.bfloat16
    assert torch.get_num_threads() == threads and model(torch.ones(1, 3)).dtype == torch.float32


def test_float32_holds_under_autocast_outside():
    model = nn.Linear(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with on_device(model, precision="float32"):
            assert model(torch.ones(1, 3)).dtype == torch.float32
        with on_device(model):
            assert model(torch.ones(1, 3)).dtype == torch.bfloat16


def test_inputs_take_the_type_of_the_weights_and_labels_keep_theirs():
    model = nn.Linear(3, 2).bfloat16()
    assert as_input(model, torch.ones(1, 3)).dtype == torch.bfloat16
    assert as_input(model, torch.ones(1, dtype=torch.long)).dtype == torch.long
    assert as_input(nn.Identity(), torch.ones(1, dtype=torch.half)).dtype == torch.half


def test_weights_on_several_devices_or_without_values_are_refused_by_name():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).to("meta"))
    with pytest.raises(LabError, match="Sequential: its weights lie on cpu, meta; put it on one device"):
        home_of(model)
    with pytest.raises(LabError, match="Linear: its weights lie on meta, where they have no values"), on_device(model[1]):
        pass


def test_weights_made_in_inference_mode_are_refused_where_gradients_are_needed():
    with torch.inference_mode():
        model = nn.Linear(3, 2)
    with on_device(model):
        model(torch.ones(1, 3))
    with pytest.raises(LabError, match="made inside torch.inference_mode"), on_device(model, grad=True):
        pass


def test_a_device_that_cannot_be_waited_for_is_refused_by_name():
    with pytest.raises(LabError, match="LIGHTVIT_DEVICE=meta: torch.meta has no synchronize"):
        synchronize(torch.device("meta"))


def test_hooks_are_gone_after_an_exception_also_where_placing_them_fails():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with pytest.raises(ZeroDivisionError), hooked([Hook(model[0], "input", lambda *_: 1 / 0)]):
        model(torch.ones(1, 3))
    with pytest.raises(AttributeError), hooked([Hook(model[0], "input", print), Hook(None, "input", print)]):
        pass
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())


class Checkpointed(nn.Module):
    """Runs `inner` again in the backward pass, in place of keeping what it made."""

    def __init__(self, inner, reentrant):
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, inputs):
        return checkpoint(self.inner, inputs, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_hooks_are_silent_while_a_checkpointed_forward_is_recomputed(reentrant):
    inner = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3))
    calls, seen = [], []
    inner[1].register_forward_hook(lambda *_: calls.append(1))      # an ordinary hook fires twice
    with hooked([Hook(inner[1], "output", lambda _module, _given, _keywords, output: seen.append(output))]):
        Checkpointed(inner, reentrant)(torch.ones(1, 3, requires_grad=True)).sum().backward()
    assert len(calls) == 2 and len(seen) == 1


def test_hooks_see_inputs_keywords_and_outputs_and_may_change_the_output():
    class Scale(nn.Module):
        def forward(self, values, by=1):
            return values * by

    model, seen = Scale(), []
    with hooked([Hook(model, "input", lambda _module, given, keywords: seen.append((given[0].item(), keywords["by"]))),
                 Hook(model, "output", lambda _module, _given, _keywords, output: output + 1)]):
        assert model(torch.tensor(2.0), by=3).item() == 7
    assert seen == [(2.0, 3)]


def test_tensors_move_wherever_they_stand_and_nothing_else_changes():
    @dataclass(frozen=True)
    class Pair:
        one: torch.Tensor
        name: str

    value = {"a": [torch.ones(2), 3], "b": (Pair(torch.zeros(1), "x"), None)}
    moved = to_device(value, torch.device("meta"))
    assert moved["a"][0].device.type == moved["b"][0].one.device.type == "meta"
    assert moved["a"][1] == 3 and moved["b"][0].name == "x" and moved["b"][1] is None
    assert value["a"][0].device.type == "cpu"
