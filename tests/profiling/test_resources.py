import sys
import warnings

import pytest
import torch
from torch import nn

from lightvit_lab import profiling
from lightvit_lab.profiling import resources


class Takes(nn.Module):
    """Holds `held` MiB of weights and fills `added` MiB more in a call, in two pieces of which one goes at once."""

    def __init__(self, held, added):
        super().__init__()
        self.weights, self.added = nn.Parameter(torch.zeros(held, 2**18)), added

    def forward(self, inputs):
        for _ in range(2):
            kept = torch.ones(self.added, 2**18)
        return kept.sum()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident set is read on Linux")
def test_peak_memory_is_the_weights_and_what_a_call_adds_at_most():
    found = resources.peak_memory_mib(Takes(held=16, added=64), torch.zeros(1))
    if found is None:
        pytest.skip("this container does not let a process set back its own high-water mark")
    assert 16 + 120 <= found <= 16 + 140             # the second piece is made while the first still stands


def test_packed_weights_are_weights_too(monkeypatch):
    monkeypatch.setattr(resources, "_added_to_resident_set", lambda call: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(1024, 1024)), {nn.Linear}, torch.qint8)
    assert 1 <= resources.peak_memory_mib(packed, torch.zeros(1, 1024)) < 1.02      # a byte for each weight


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert resources.peak_memory_mib(nn.Identity(), torch.zeros(1)) is None
    found = profiling.measure({"a": nn.Identity()}, torch.zeros(1), budget_s=0)
    assert found["a"].peak_memory_mib is None and found.table().splitlines()[1].endswith(" ?")


def test_the_attention_kernels_of_a_gpu_are_named_by_their_switches(monkeypatch):
    monkeypatch.setattr(resources, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cuda, "flash_sdp_enabled", lambda: False)
    assert "flash" not in resources.attention_backend() and "math" in resources.attention_backend()
