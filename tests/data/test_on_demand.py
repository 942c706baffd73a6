"""Inputs and images are made as they are used: a slice costs what it holds, and all else is as with any tensor."""

import copy
import io
import pickle

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lightvit_lab import data
from lightvit_lab.data.on_demand import OnDemand
from lightvit_lab.errors import LabError

PIXELS = torch.randint(0, 256, (100, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
PLAIN = (PIXELS / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)


def pictures(channels=3):
    return data.Pictures("made up", "train", PIXELS[:, :channels], torch.arange(100) % 10, tuple("0123456789"), MEAN, STD)


class Largest(TorchDispatchMode):
    """The most numbers in any floating-point tensor made meanwhile."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.is_floating_point():
            self.numbers = max(self.numbers, found.numel())
        return found


HALF = torch.arange(100) % 2 == 0
FEW = [(slice(8), 8), (slice(-3, None), 3), (slice(None, None, 10), 10), (slice(90, 200), 10), (slice(5, 2), 0), (3, 1),
       (-1, 1), (numpy.int64(4), 1), (torch.tensor(7), 1), ([5, 2, 5], 3), (range(4), 4), (torch.tensor([5, -1]), 2),
       (numpy.array([9, 8]), 2), (HALF, 50), ([True] + 99 * [False], 1), ((slice(8), 0), 8), ((3, 1, slice(4)), 1),
       ((slice(8), None, ..., 0), 8), ((), 100), (..., 100), (None, 100), (([1, 2], [0, 2]), 100),
       (torch.tensor([[0, 1], [2, 3]]), 100), ((slice(None), 0), 100)]


@pytest.mark.parametrize("index, rows", FEW, ids=[str(index)[:30] for index, _ in FEW])
@pytest.mark.parametrize("kind", ["inputs", "images"])
def test_an_index_gives_what_it_gives_of_a_tensor_and_makes_only_its_rows(kind, index, rows):
    whole, values = getattr(pictures(), kind), PLAIN if kind == "inputs" else PIXELS / 255
    with Largest() as largest:
        found = whole[index]
    assert type(found) is torch.Tensor and torch.allclose(found, values[index], atol=1e-5)
    assert largest.numbers <= max(rows, 1) * 3 * 8 * 8


@pytest.mark.parametrize("index", [slice(8), 3, [1, 2]])
def test_pictures_taken_out_keep_no_others_alive(index):
    found = pictures().inputs[index]
    assert found.untyped_storage().nbytes() == found.numel() * 4


def test_sizes_and_kind_are_told_without_making_anything():
    with Largest() as largest:
        inputs = pictures(channels=1).inputs
        assert (inputs.shape, inputs.ndim, len(inputs), inputs.size(0)) == ((100, 3, 8, 8), 4, 100, 100)
        assert (inputs.dtype, inputs.device.type, inputs.numel()) == (torch.float32, "cpu", 19200)
        assert isinstance(inputs, torch.Tensor) and inputs.is_floating_point() and not inputs.requires_grad
    assert largest.numbers <= 3


def _saved(inputs):
    file = io.BytesIO()
    torch.save(inputs, file)
    file.seek(0)
    return torch.load(file)


USES = {"sum": lambda x: x + 1, "convolution": lambda x: F.conv2d(x, torch.ones(2, 3, 3, 3, requires_grad=True)),
        "cat": lambda x: torch.cat([x, x[:2]]), "numpy": lambda x: torch.from_numpy(x.numpy()),
        "asarray": lambda x: torch.from_numpy(numpy.asarray(x)), "iteration": lambda x: torch.stack(list(x)),
        "split": lambda x: x.split(30)[3], "to": lambda x: x.to("cpu", torch.float64), "copy": copy.deepcopy,
        "pickle": lambda x: pickle.loads(pickle.dumps(x)), "file": _saved, "as_tensor": lambda x: torch.as_tensor(x),
        "vmap": lambda x: torch.vmap(torch.sum)(x), "compiled": torch.compile(lambda x: 2 * x, backend="eager")}


@pytest.mark.parametrize("use", USES.values(), ids=[*USES])
def test_used_as_a_whole_it_is_a_tensor_like_any(use):
    assert torch.allclose(use(pictures().inputs), use(PLAIN.clone()), atol=1e-4)


def test_all_rows_are_made_once_and_can_be_written_into():
    inputs = pictures().inputs
    with Largest() as largest:
        inputs[0] = 0
        inputs[1:3] += 1
        inputs[:, 0].clamp_(min=0)
    wanted = PLAIN.clone()
    wanted[0] = 0
    wanted[1:3] += 1
    wanted[:, 0].clamp_(min=0)
    assert torch.allclose(inputs, wanted, atol=1e-5) and largest.numbers == PLAIN.numel()
    assert torch.allclose(pictures().inputs, PLAIN, atol=1e-5)                         # another one starts afresh


def test_gradients_reach_the_inputs_however_they_are_asked_for():
    asked, set_ = pictures().inputs.requires_grad_(), pictures().inputs
    set_.requires_grad = True
    for inputs in (asked, set_):
        (3 * inputs).sum().backward()
        assert inputs.is_leaf and inputs.requires_grad and inputs.grad.unique().tolist() == [3]


def test_what_was_first_looked_at_in_inference_mode_can_be_trained_on():
    inputs, layer = pictures().inputs, torch.nn.Conv2d(3, 2, 3)
    with torch.inference_mode():
        few = inputs[:3]
        layer(inputs)
    for batch in (few, inputs):
        layer(batch).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_an_exported_model_takes_other_pictures_and_a_trace_is_refused_with_the_call_that_mends_it():
    layer, inputs = torch.nn.Conv2d(3, 2, 3), pictures().inputs
    exported = torch.export.export(layer, (inputs,), strict=False).module()
    assert torch.allclose(exported(PLAIN.flip(0)), layer(PLAIN.flip(0)), atol=1e-5)
    assert torch.allclose(inputs, PLAIN, atol=1e-5)
    with pytest.raises(LabError, match=r"pictures.inputs\[:8\]"):
        torch.jit.trace(layer, pictures().inputs)
    assert torch.allclose(torch.jit.trace(layer, inputs[:8])(PLAIN), layer(PLAIN), atol=1e-5)


def test_an_index_out_of_range_is_refused_as_for_any_tensor():
    for index in (100, [3, 100], "a", 1.5):
        with pytest.raises((IndexError, TypeError)):
            pictures().inputs[index]
    assert isinstance(pictures().inputs, OnDemand)
