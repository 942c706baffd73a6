import random
import time

import numpy
import pytest
import torch
from torch import nn

from lightvit_lab import data, models, training
from lightvit_lab.training import probing


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 2))


def _pictures(count: int = 64) -> data.Pictures:
    labels = torch.arange(count) % 2
    pixels = (labels * 200).byte().view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    return data.Pictures("made up", "train", pixels, labels, ("dark", "bright"), torch.full((3,), 0.4), torch.full((3,), 0.4))


class _Slow(nn.Module):
    """Attention whose fused form takes 20 ms longer; records how often each form ran."""
    def __init__(self, slow: str):
        super().__init__()
        self.fused, self.slow, self.head = True, slow, nn.Linear(192, 2)

    def forward(self, inputs):
        if self.fused == (self.slow == "fused"):
            time.sleep(0.02)
        return self.head(inputs.flatten(1))


@pytest.mark.parametrize("slow, chosen", [("fused", "written"), ("written", "fused")])
def test_the_faster_attention_is_chosen(slow, chosen):
    assert probing.choose_settings(_Slow(slow), torch.randn(8, 3, 8, 8), 1, "float32")["attention"] == chosen


def test_half_precision_is_chosen_only_where_it_gains(monkeypatch):
    def seconds(model, inputs, choices):
        return 1.0 if choices["precision"] == "float32" else cost
    monkeypatch.setattr(probing, "_seconds_of_step", seconds)
    monkeypatch.setattr(probing.time, "perf_counter", lambda: 0.0)
    for cost, chosen in ((0.95, "float32"), (2.8, "float32"), (0.5, "bfloat16")):
        assert probing.choose_settings(_model(), torch.randn(8, 3, 8, 8), 1, seconds=1e3)["precision"] == chosen


def test_two_threads_are_chosen_only_where_they_gain(monkeypatch):
    monkeypatch.setattr(probing, "_seconds_of_step", lambda model, inputs, choices: cost if choices["threads"] > 1 else 1.0)
    monkeypatch.setattr(probing.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(probing, "_threads_lose", lambda threads: False)
    monkeypatch.setattr(probing.time, "perf_counter", lambda: 0.0)
    for cost, threads in ((16.0, 1), (0.97, 1), (0.6, 2)):
        assert probing.choose_settings(_model(), torch.randn(8, 3, 8, 8), None, "float32", seconds=1e3)["threads"] == threads


def test_no_step_of_the_model_is_tried_with_threads_that_lose_on_short_passes(monkeypatch):
    tried = []
    monkeypatch.setattr(probing, "_seconds_of_step", lambda model, inputs, choices: tried.append(choices["threads"]) or 1.0)
    monkeypatch.setattr(probing.torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(probing, "_threads_lose", lambda threads: True)
    assert probing.choose_settings(_model(), torch.randn(8, 3, 8, 8))["threads"] == 1
    assert set(tried) == {1}


@pytest.mark.parametrize("cost, loses", [(16.0, True), (1.1, False), (0.6, False)])
def test_threads_lose_where_passes_take_much_longer(monkeypatch, cost, loses):
    clock, threads = [0.0], [2]
    monkeypatch.setattr(probing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(probing.torch, "set_num_threads", lambda count: threads.append(count))

    def work(values):
        clock[0] += 1e-3 * (cost if threads[-1] > 1 else 1)
    monkeypatch.setattr(probing.F, "gelu", work)
    assert probing._threads_lose(2) is loses
    assert threads[-1] == 2 and clock[0] < 0.6


def test_one_stumble_does_not_cost_a_thread(monkeypatch):
    clock, threads, calls = [0.0], [2], []
    monkeypatch.setattr(probing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(probing.torch, "set_num_threads", lambda count: threads.append(count))

    def work(values):
        calls.append(threads[-1])
        clock[0] += 0.1 if calls.count(2) == 7 and threads[-1] == 2 else 1e-3      # once, as long as a hundred passes
    monkeypatch.setattr(probing.F, "gelu", work)
    assert probing._threads_lose(2) is False


def test_probing_touches_neither_weights_nor_statistics_nor_gradients_nor_random_states():
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
    probing.choose_settings(model, torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)), seconds=0.5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert (numpy.random.get_state()[1] == states[2]).all()


def test_a_model_whose_answer_does_not_learn_is_probed_by_its_forward_pass():
    model = _Slow("fused").requires_grad_(False)             # as exits that are trained beside a frozen end
    assert probing.choose_settings(model, torch.randn(8, 3, 8, 8), seconds=2.0)["attention"] == "written"


def test_a_probed_run_ends_with_the_bits_of_one_told_the_same():
    torch.manual_seed(5)
    probed, told = _model(), _model()
    choices = training.fit(probed, _pictures(), steps=4, batch_size=16, progress=False).choices
    torch.manual_seed(0)
    told = _model()
    training.fit(told, _pictures(), steps=4, batch_size=16, threads=choices["threads"], precision=choices["precision"],
                 attention="auto" if choices["attention"] is None else choices["attention"], progress=False)
    for one, other in zip(probed.state_dict().values(), told.state_dict().values()):
        assert torch.equal(one, other)


def test_a_model_of_slow_steps_is_not_probed_beyond_the_deadline():
    class Sleepy(_Slow):
        def forward(self, inputs):
            time.sleep(0.1)
            return super().forward(inputs)
    start = time.perf_counter()
    probing.choose_settings(Sleepy("fused"), torch.randn(64, 3, 8, 8), seconds=0.5)
    assert time.perf_counter() - start < 2.0


def test_a_model_whose_copy_takes_all_the_time_keeps_the_defaults(monkeypatch):
    choices = probing.choose_settings(_model(), torch.randn(8, 3, 8, 8), 1, seconds=0.0)
    assert choices == {"threads": 1, "precision": "float32", "attention": None}


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_models_of_several_outputs_are_probed_too(kind):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 2)

        def forward(self, inputs):
            logits = self.head(inputs.flatten(1))
            return {"one": logits, "two": logits} if kind is dict else kind([logits, logits])
    assert probing.choose_settings(Two(), torch.randn(8, 3, 8, 8), 1, seconds=0.3)["attention"] is None


def test_threads_and_attention_are_set_back_also_after_an_error():
    model = models.create_model("lab_vit_student", num_classes=2)
    threads = torch.get_num_threads()

    def fails(model, batch):
        assert torch.get_num_threads() == 3 and not model.blocks[0].attn.fused
        raise KeyboardInterrupt
    pictures = _pictures()
    pictures = data.Pictures(pictures.name, "train", pictures.pixels.repeat(1, 1, 4, 4), *list(vars(pictures).values())[3:])
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, pictures, batch_size=4, threads=3, attention="written", objective=fails, progress=False)
    assert torch.get_num_threads() == threads and all(block.attn.fused for block in model.blocks)


def test_timms_switch_is_found():
    model = models.create_model("vit_tiny_patch16_224", depth=1)
    assert [name for _, name in probing.attention_switches(model)] == ["fused_attn"]
    with probing.applied(model, {"threads": 1, "attention": "written"}):
        assert model.blocks[0].attn.fused_attn is False


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights():
    kinds = []

    def objective(model, batch):
        logits = model(batch.inputs)
        kinds.append(logits.dtype)
        return training.label_loss(logits, batch)
    model = _model()
    history = training.fit(model, _pictures(), steps=2, batch_size=8, threads=1, precision="bfloat16",
                           objective=objective, progress=False)
    assert kinds == [torch.bfloat16] * 2 and history.choices["precision"] == "bfloat16"
    assert model[0].weight.dtype == torch.float32
