"""The second device itself: it fails where a GPU does, and computes what the processor does."""

import pytest
import torch
import torch.nn.functional as F
from given_back import faults
from torch import nn

from lightvit_lab import models


@pytest.fixture
def x(lab):
    return torch.arange(12.0).view(3, 4).to("lab")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + torch.ones(3, 4),
        lambda x: torch.ones(3, 4).add_(x),
        lambda x: torch.ones(2, 3) @ x,
        lambda x: torch.cat([x, torch.ones(1, 4)]),
        lambda x: torch.where(x > 1, torch.ones(3, 4), x),
        lambda x: F.linear(x, torch.ones(2, 4)),
        lambda x: F.layer_norm(x, (4,), torch.ones(4), torch.ones(4)),
        lambda x: F.conv2d(x[None, None], torch.ones(1, 1, 2, 2)),
        lambda x: F.conv2d(torch.ones(1, 1, 3, 4), x[None, None]),
        lambda x: F.embedding(torch.tensor([1]), x),
        lambda x: F.cross_entropy(x, torch.tensor([1, 2, 3])),
        lambda x: torch.ones(4)[torch.tensor([1], device="lab")],
        lambda x: torch.ones(3, 4)[x > 1],
        lambda x: torch.ones(3, 4).gather(1, x.long()[:, :1]),
    ],
    ids=range(14),
)
def test_a_call_that_mixes_devices_raises_in_either_order(x, call):
    with pytest.raises(RuntimeError, match="device|Input type"):
        call(x)


def test_numbers_and_places_of_the_processor_are_welcome_as_on_a_gpu(x):
    assert (x * torch.tensor(2.0)).sum().item() == 132
    assert x[torch.tensor([0, 2])].sum().item() == 6 + 38


def test_a_device_tensor_is_no_numpy_array(x):
    with pytest.raises(TypeError, match="lab"):
        x.numpy()
    assert x.cpu().numpy().sum() == 66


def test_a_generator_of_the_processor_draws_nothing_on_the_device(lab):
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="lab", generator=torch.Generator())
    torch.manual_seed(5)
    drawn = torch.rand(3, device="lab")
    torch.rand(3)  # the processor's, which is another one
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3, device="lab"))
    assert not torch.equal(drawn, torch.rand(3, device="lab"))


def test_moved_parameters_stay_the_same_objects_but_moved_in_inference_mode_are_lost_for_training(
    lab,
):
    model = nn.Linear(2, 2)
    weight = model.weight
    model.to("lab")
    assert model.weight is weight and weight.device.type == "lab" and not weight.is_inference()
    assert faults({"model": model}) == ["model.weight is on lab:0"]
    with torch.inference_mode():
        model.to("cpu")
    assert weight.is_inference() and faults({"model": [model]}) == [
        "model[0].weight became an inference tensor"
    ]
    with pytest.raises(RuntimeError, match="does not require grad"):
        weight.square().sum().backward()


@pytest.mark.parametrize("name", ["lab_vit", "lab_cnn", "lab_lightvit", "lab_cct"])
def test_a_step_of_training_changes_the_weights_as_on_the_processor(lab, name):
    results = []
    for device in ("cpu", "lab"):
        torch.manual_seed(0)
        model, inputs = models.create_model(name), torch.randn(2, 3, 32, 32)
        model.to(device).eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        F.cross_entropy(model(inputs.to(device)), torch.tensor([3, 1]).to(device)).backward()
        optimizer.step()
        results.append([value.detach().cpu() for value in model.parameters()])
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(*results))


def test_float64_is_refused_when_asked_for_and_only_there(lab, x):
    assert x.double().dtype == torch.float64
    lab.refuse_float64(True)
    for call in (
        x.double,
        lambda: x.sum(dtype=torch.float64),
        lambda: torch.ones(2, dtype=torch.float64).to("lab"),
        lambda: torch.zeros(2, dtype=torch.float64, device="lab"),
    ):
        with pytest.raises(TypeError, match="float64"):
            call()
    assert x.to("cpu").double().sum() == 66


def test_work_is_pending_until_somebody_waits(lab, x):
    x + 1
    assert lab.pending()
    before = lab.synchronized()
    torch.accelerator.synchronize()
    assert not lab.pending() and lab.synchronized() == before + 1
    (x + 1).sum().item()  # reading a number waits
    assert not lab.pending()


def test_what_is_left_is_found_in_every_container(lab, x):
    assert faults({"found": {"maps": [{"a": (torch.ones(1), x)}]}}) == [
        "found['maps'][0]['a'][1] is on lab:0"
    ]
    assert faults({"found": [torch.ones(1)], "_hidden": x}) == []
