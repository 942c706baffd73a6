import dataclasses
import math
import re
import time

import pytest
import torch
from torch import nn

from lightvit_lab import data, models, training
from lightvit_lab.errors import LabError


def _pictures(count: int = 64, size: int = 8) -> data.Pictures:
    labels = torch.arange(count) % 2
    pixels = (labels * 200).byte().view(-1, 1, 1, 1).expand(-1, 1, size, size).contiguous()
    return data.Pictures("made up", "train", pixels, labels, ("dark", "bright"), torch.full((3,), 0.4), torch.full((3,), 0.4))


class _Untouched(nn.Sequential):
    """A model that fails the test if it is ever trained a step."""
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(192, 2))
        self[1].weight.register_hook(lambda _: pytest.fail("a step was taken"))


def _require_refused(words: str, pictures: data.Pictures | None = None, model: nn.Module | None = None,
                     **arguments):
    arguments = {"threads": 1, "precision": "float32", "progress": False, **arguments}
    with pytest.raises(LabError, match=words):
        training.fit(model or _Untouched(), _pictures() if pictures is None else pictures, **arguments)


@pytest.mark.parametrize("change, words", [
    (dict(pixels=torch.zeros(0, 1, 8, 8, dtype=torch.uint8), labels=torch.zeros(0, dtype=torch.long)), "of 0 pictures"),
    (dict(pixels=torch.zeros(64, 1, 0, 0, dtype=torch.uint8)), r"shape \(64, 1, 0, 0\)"),
    (dict(pixels=torch.rand(64, 3, 8, 8)), "pixels are torch.float32.*give bytes"),
    (dict(pixels=torch.zeros(64, 8, 8, 3, dtype=torch.uint8)), r"of shape \(pictures, 1 or 3, height, width\)"),
    (dict(labels=torch.zeros(64, dtype=torch.long)), "all 64 pictures are of class 0"),
    (dict(labels=torch.arange(60) % 2), "64 pictures have 60 labels"),
    (dict(labels=torch.arange(64) % 3), "labels run from 0 to 2, and _Untouched makes 2 logits.*num_classes=3"),
    (dict(labels=torch.arange(64) % 2 - 1), "the lowest label is -1; labels count from 0"),
    (dict(mean=torch.full((3,), math.nan)), "the inputs have mean nan"),
    (dict(std=torch.zeros(3)), "the inputs have mean .*std > 0"),
    (dict(mean=torch.zeros(3), std=torch.full((3,), 1 / 255)), "the inputs have mean [0-9.]+ and.*fractions of 255"),
])
def test_pictures_that_cannot_teach_are_refused_before_the_first_step(change, words):
    _require_refused(words, dataclasses.replace(_pictures(), **change), batch_size=16)


@pytest.mark.parametrize("arguments, words", [
    (dict(batch_size=65), "batch_size=65 is more than the 64 pictures of the set; give batch_size <= 64"),
    (dict(augment=("flip", "mixupp")), 'augment=\'mixupp\' is unknown. Did you mean "mixup"'),
    (dict(augment="croop"), 'Did you mean "crop"'),
    (dict(optimizer="adam"), 'optimizer=\'adam\' is unknown. Did you mean "adamw"'),
    (dict(schedule="cosin"), 'Did you mean "cosine"'),
    (dict(precision="bf16"), "precision='bf16' is unknown.*auto, float32, bfloat16"),
    (dict(attention="flash"), "attention='flash' is unknown"),
    (dict(clip=0), "clip=0"), (dict(warmup=1.5), "warmup=1.5"), (dict(seed=-1), "seed=-1"),
    (dict(threads=0), "threads=0"), (dict(checkpoint="run.pt", save_every=0), "save_every=0"),
    (dict(label_smoothing=0.1, objective=lambda model, batch: 0), "belongs to the built-in objective"),
])
def test_arguments_out_of_range_and_unknown_names_are_refused(arguments, words):
    _require_refused(words, **arguments)


@pytest.mark.parametrize("name", ["lab_vit_student", "vit_tiny_patch16_224"])
def test_pictures_of_a_size_that_the_model_refuses(name):
    model = models.create_model(name, num_classes=2, **({"depth": 1} if "tiny" in name else {}))
    _require_refused("(the model takes 32 x 32|takes no inputs of shape .2, 3, 24, 24)", _pictures(size=24), model)


def test_a_model_without_a_trained_parameter_is_refused():
    _require_refused(r"no parameter of Linear is to be trained; model.requires_grad_.True.",
                     model=nn.Linear(8, 2).requires_grad_(False))


def test_a_loss_that_turns_nan_is_refused_at_its_step_with_its_rate():
    def objective(model, batch):
        objective.calls += 1
        return training.label_loss(model(batch.inputs), batch) * (math.nan if objective.calls == 6 else 1)
    objective.calls = 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    rate = 1e-2 * 0.5 * (1 + math.cos(math.pi * (5 - 1) / 9))      # ten steps, one of them to warm up
    _require_refused(re.escape(f"the loss is nan at step 6, where the learning rate was {rate:g}") + ".*Try lr=0.0025",
                     model=model, steps=10, lr=1e-2, objective=objective)


def test_losses_read_in_blocks_still_name_the_step(monkeypatch):
    monkeypatch.setattr("lightvit_lab.training.loop._Run._reads_now", lambda self, file: self.done == 10)
    test_a_loss_that_turns_nan_is_refused_at_its_step_with_its_rate()


def test_no_pictures_have_no_score():
    empty = dataclasses.replace(_pictures(), pixels=_pictures().pixels[:0], labels=_pictures().labels[:0])
    with pytest.raises(LabError, match="0 pictures have no score"):
        training.evaluate(_Untouched(), empty)


def test_flip_scores_the_mean_of_a_picture_and_its_mirror_image():
    class LeftMinusRight(nn.Module):
        """Sees brightness on one side only, unless it is shown the other as well."""
        def forward(self, inputs):
            side = inputs[:, :, :, :4].mean((1, 2, 3)) + 0.6 * inputs[:, :, :, 4:].mean((1, 2, 3))
            return torch.stack([0 * side, side], 1)
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    pixels[0, :, :, :4], pixels[1, :, :, 4:] = 240, 240      # normalised by hand: 0.882 on one side, -1 on the other
    pair = data.Pictures("pair", "test", pixels, torch.tensor([1, 1]), ("dark", "bright"), torch.full((3,), 0.5),
                         torch.full((3,), 0.5))
    assert training.evaluate(LeftMinusRight(), pair).accuracy == 0.5
    assert training.evaluate(LeftMinusRight(), pair, flip=True).accuracy == 0.0


def test_the_bar_is_silent_while_a_book_is_built(monkeypatch, capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))

    def slowly(model, batch):
        time.sleep(0.06)      # the bar is drawn ten times a second at most
        logits = model(batch.inputs)
        return training.label_loss(logits, batch), logits
    training.fit(model, _pictures(), steps=4, threads=1, precision="float32", objective=slowly)
    shown = capsys.readouterr().err
    assert "images" in shown and "loss" in shown and "right" in shown
    monkeypatch.setenv("LIGHTVIT_BOOK", "1")
    training.fit(model, _pictures(), steps=2, threads=1, precision="float32")
    assert capsys.readouterr().err == ""
