import pytest
import torch
from torch import nn

from lightvit_lab import profiling
from lightvit_lab.errors import LabError
from lightvit_lab.profiling import batches
from lightvit_lab.runtime import device_name


def search(speeds, **limits):
    def speed(batch):
        if isinstance(speeds.get(batch), Exception):
            raise speeds[batch]
        return speeds[batch]

    return batches._search(speed, **{"largest": 64, "budget_s": 60.0} | limits)


def test_doubling_goes_on_over_one_batch_that_does_not_pay():
    found = search({1: 10, 2: 18, 4: 18, 8: 30, 16: 30.1, 32: 29})
    assert (found.batch, found.throughput_img_s) == (16, 30.1) and found.stopped == "doubling no longer pays"
    assert list(found.tried) == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")])
def test_memory_that_ends_ends_the_search(error):
    found = search({1: 10, 2: 18, 4: error})
    assert (found.batch, found.stopped) == (2, "memory ended at a batch of 4")


def test_another_error_is_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="broken"):
        search({1: 10, 2: RuntimeError("broken")})


def test_memory_that_is_too_small_for_one_image_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        search({1: torch.OutOfMemoryError("CUDA out of memory")})


def test_the_largest_batch_and_the_budget_end_the_search():
    rising = {2**power: 2.0**power for power in range(10)}
    assert search(rising, largest=8).batch == 8
    assert search(rising, budget_s=0.0).tried == {1: 1.0}


def test_a_real_model_is_fed_copies_of_the_image_and_left_as_it_was():
    seen = []
    model = nn.Linear(4, 4)
    model.register_forward_pre_hook(lambda _, arguments: seen.append(tuple(arguments[0].shape)))
    found = profiling.best_batch(model, torch.zeros(1, 3, 4, 4), largest=4, rounds=2)
    assert set(seen) <= {(1, 3, 4, 4), (2, 3, 4, 4), (4, 3, 4, 4)} and set(found.tried) == {shape[0] for shape in seen}
    assert model.training


def test_more_than_one_image_is_refused():
    with pytest.raises(LabError, match=r"\(2, 3, 4, 4\); give one image"):
        profiling.best_batch(nn.Identity(), torch.zeros(2, 3, 4, 4))


def test_a_search_names_the_machine_and_its_threads():
    found = profiling.best_batch(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4), largest=2, rounds=1)
    assert found.machine == device_name() and "thread" in found.machine
