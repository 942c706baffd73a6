"""Rooflines against cases worked by hand: known sizes, a clock that only the modules move, peaks that were made up."""

import sys

import pytest
import torch
from torch import nn

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError

PEAKS = profiling.Peaks(flops_s=1000.0, bytes_s=100.0, dtype="float32", threads=1, device="on paper")


class Clock:
    """Stands still unless a module moves it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow(nn.Module):
    """Takes `seconds` itself, beside what its parts take, which run in the order given."""

    def __init__(self, clock, seconds, *parts):
        super().__init__()
        self.clock, self.seconds, self.parts = clock, seconds, nn.ModuleList(parts)

    def forward(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        self.clock.now += self.seconds
        return inputs


class Squared(Slow):
    """Multiplies what its parts give by itself: products that belong to no child."""

    def forward(self, inputs):
        inputs = super().forward(inputs)
        return inputs @ inputs.transpose(-1, -2)


@pytest.fixture
def clock(monkeypatch):
    """The clock of `roofline`, in place of the machine's; the function of that name hides the file from imports."""
    clock = Clock()
    monkeypatch.setattr(sys.modules["lightvit_lab.profiling.roofline"], "device_clock", lambda: clock)
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    return clock


@pytest.mark.parametrize("batch", [1, 8])
def test_weights_are_read_once_and_results_once_for_each_image(batch):
    work, = profiling.roofline(nn.Linear(30, 20, bias=False), torch.rand(batch, 30), PEAKS, rounds=1).modules
    assert work.macs == batch * 30 * 20
    assert work.moved_bytes == 4 * (30 * 20 + batch * 30 + batch * 20)
    assert work.intensity == pytest.approx(2 * batch * 600 / work.moved_bytes)


def test_a_convolution_at_a_batch_matches_its_closed_form():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    work, = profiling.roofline(conv, torch.rand(4, 3, 10, 12), PEAKS, rounds=1).modules
    assert work.macs == 4 * 10 * 12 * 8 * 27
    assert work.moved_bytes == 4 * (4 * 3 * 120 + 8 * 27 + 4 * 8 * 120)


def test_each_module_gets_its_own_time_and_products_without_its_childrens(clock):
    linear = nn.Sequential(nn.Linear(6, 5, bias=False), Slow(clock, 0.004))
    model = Slow(clock, 0.001, Squared(clock, 0.002, linear))
    found = profiling.roofline(model, torch.rand(3, 6), PEAKS, rounds=3)
    assert [work.name for work in found.modules] == ["parts.0", "parts.0.parts.0.0"]
    outer, inner = found.modules
    assert (outer.macs, inner.macs) == (3 * 3 * 5, 3 * 6 * 5)
    assert outer.moved_bytes == 4 * (3 * 5 + 3 * 5 + 9)          # both factors are read, the square is written
    assert outer.time_ms == pytest.approx(2) and inner.time_ms == 0
    assert found.other_ms == pytest.approx(4 + 1)                # what waits inside, and the model's own
    assert found.other_share == pytest.approx(5 / 7)
    assert found.whole.time_ms == pytest.approx(7) and found.slowdown == pytest.approx(1)
    assert found.whole.macs == 45 + 90


def test_a_module_in_two_places_and_one_called_past_its_parent_are_counted_and_timed_once_each_call(clock):
    class Reaching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Slow(clock, 0.001, Squared(clock, 0.002))
            self.second = nn.ModuleList([self.first.parts[0]])

        def forward(self, inputs):
            return self.first.parts[0](self.second[0](self.first(inputs)))

    work, = profiling.roofline(Reaching(), torch.rand(4, 4), PEAKS, rounds=1).modules
    assert (work.name, work.macs) == ("first.parts.0", 3 * 64)
    assert work.time_ms == pytest.approx(3 * 2)


def test_the_median_of_the_rounds_counts_and_not_the_warm_up(clock):
    class Uneven(nn.Linear):
        seconds = iter([9, 9, 9, 9] + [0.001, 0.001, 0.002, 0.002, 0.9, 0.9])      # plain and hooked, in turns

        def forward(self, inputs):
            if inputs.device.type != "meta":
                clock.now += next(self.seconds)
            return super().forward(inputs)

        def __deepcopy__(self, memo):
            return Uneven(2, 2, device="meta")

    found = profiling.roofline(Uneven(2, 2), torch.rand(1, 2), PEAKS, rounds=3)
    assert found.whole.time_ms == pytest.approx(2) and found.modules[0].time_ms == pytest.approx(2)


def test_what_the_hooks_take_is_no_modules_time():
    from lightvit_lab.profiling.splitting import splitting

    ticks = iter(range(1000))
    model = nn.Sequential(nn.Identity(), nn.Identity())
    with splitting(model, lambda: next(ticks)) as own:           # every reading takes one tick, and nothing else does
        model(torch.zeros(1))
    assert own == {"0": 1, "1": 1, "": 3}                        # between two readings; around each child, one more


def test_place_under_the_roof_matches_hand_worked_cases():
    scarce = profiling.Work("scarce", macs=100, moved_bytes=100, time_ms=2000.0, peaks=PEAKS)
    assert (scarce.intensity, scarce.achieved_flops_s, scarce.attainable_flops_s) == (2.0, 100.0, 200.0)
    assert (scarce.share, scarce.limit) == (0.5, "memory")
    dense = profiling.Work("dense", macs=1000, moved_bytes=100, time_ms=8000.0, peaks=PEAKS)
    assert (dense.attainable_flops_s, dense.share, dense.limit) == (1000.0, 0.25, "compute")
    assert PEAKS.ridge == 10 and PEAKS.attainable(10) == 1000


@pytest.mark.parametrize("name", ["lightvit_tiny", "deit_tiny_patch16_224"])
def test_modules_of_real_models_add_up_to_the_count(name):
    model = models.create_model(name)
    found = profiling.roofline(model, torch.rand(2, 3, 224, 224), PEAKS, rounds=1)
    assert sum(work.macs for work in found.modules) == found.whole.macs == 2 * profiling.count(model).macs
    assert any(work.name.endswith(".attn") for work in found.modules)
    assert found.uncounted == {}


def test_bytes_at_batch_one_are_those_of_the_count():
    model = models.create_model("deit_tiny_patch16_224")
    found = profiling.roofline(model, torch.rand(1, 3, 224, 224), PEAKS, rounds=1)
    assert found.whole.moved_bytes == profiling.count(model).moved_by_module[""]


def hooks_of(model):
    return [(dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in model.modules()]


def test_modes_and_hooks_are_as_before():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    model.train()[0].eval()
    model[2].register_forward_hook(lambda *_: None)
    before = hooks_of(model)
    profiling.roofline(model, torch.rand(2, 4), PEAKS, rounds=1)
    assert [module.training for module in model.modules()] == [True, False, True, True]
    assert hooks_of(model) == before


@pytest.mark.parametrize("good_calls", [0, 1, 2])
def test_modes_and_hooks_are_as_before_after_an_exception(good_calls):
    class Failing(nn.Linear):
        calls = 0

        def forward(self, inputs):
            if inputs.device.type != "meta":
                self.calls += 1
                if self.calls > good_calls:
                    raise KeyboardInterrupt
            return super().forward(inputs)

    model = nn.Sequential(Failing(4, 4), nn.Dropout()).train()
    with pytest.raises(KeyboardInterrupt):
        profiling.roofline(model, torch.rand(2, 4), PEAKS, rounds=1)
    assert all(module.training for module in model.modules())
    assert hooks_of(model) == [({}, {})] * 3


def test_inputs_take_the_type_of_the_weights():
    model = nn.Linear(8, 8, bias=False).bfloat16()
    work, = profiling.roofline(model, torch.rand(2, 8), PEAKS, rounds=1).modules
    assert work.moved_bytes == 2 * (64 + 16 + 16)


@pytest.mark.parametrize(("inputs", "message"), [
    (None, "inputs are NoneType; give a batch"), (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "inputs are torch.uint8"),
    (torch.rand(0, 3, 8, 8), "hold nothing"), (torch.rand(2, 4, 8, 8), r"not take inputs of \(2, 4, 8, 8\).*channels"),
])
def test_inputs_that_make_no_sense_are_refused(inputs, message):
    with pytest.raises(LabError, match=message):
        profiling.roofline(nn.Conv2d(3, 4, 3), inputs, PEAKS)


def test_a_model_without_products_and_rounds_below_one_are_refused():
    with pytest.raises(LabError, match="ReLU has no matrix products"):
        profiling.roofline(nn.ReLU(), torch.rand(1, 3, 8, 8), PEAKS)
    with pytest.raises(LabError, match="rounds=0; give a number with 1 <= rounds"):
        profiling.roofline(nn.Linear(3, 3), torch.rand(1, 3), PEAKS, rounds=0)
    with pytest.raises(LabError, match="rounds=1.5"):
        profiling.roofline(nn.Linear(3, 3), torch.rand(1, 3), PEAKS, rounds=1.5)
    with pytest.raises(LabError, match="peaks are dict.*machine_peaks"):
        profiling.roofline(nn.Linear(3, 3), torch.rand(1, 3), {"flops_s": 1})


def test_realisation_of_a_published_pruning_is_a_third():
    # Torch-Pruning's table of ViT-B/16: milliseconds and GMACs
    assert profiling.realisation(5.21 / 3.99, 17.59 / 4.61) == pytest.approx(0.342, abs=5e-4)
    assert round(profiling.realisation(1.31, 3.8), 2) == 0.34
    assert profiling.realisation(2, 2) == 1


@pytest.mark.parametrize("gains", [(0, 2), (2, 0), (-1, 2), ("fast", 2), (2, float("nan"))])
def test_gains_that_are_no_positive_numbers_are_refused(gains):
    with pytest.raises(LabError, match="realisation"):
        profiling.realisation(*gains)
