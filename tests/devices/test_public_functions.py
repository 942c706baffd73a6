"""Every public function that takes a model, on the second device: all comes back as it was."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re

import public_calls
import pytest
import shorten
import torch
from given_back import State, faults, settings
from public_calls import CALLS, PARTS, Given
from torch import nn

from lightvit_lab import data, explain
from lightvit_lab.data import Pictures
from lightvit_lab.experiments import compression, early_exit, reading_attention, results
from lightvit_lab.runtime import running

ROOMS = (
    "training",
    "profiling",
    "explain",
    "dynamic",
    "distillation",
    "compression",
    "checkpoint",
    "widgets",
    "experiments",
    "figures",
    "data",
    "exercises",
)
TAKES_A_MODEL = re.compile(r"\bModule\b|\w+ViT\b|CoarseToFine|\bPictures\b")


def public_functions() -> set[str]:
    """room.name of every public function of the rooms whose signature names a model or Pictures."""
    found = set()
    for room in ROOMS:
        package = importlib.import_module(f"lightvit_lab.{room}")
        names = [
            name
            for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if not name.endswith("__main__")
        ]
        for module in (package, *map(importlib.import_module, names)):
            for name, value in vars(module).items():
                own = (
                    inspect.isfunction(value)
                    and value.__module__ == module.__name__
                    and not name.startswith("_")
                )
                if own and any(
                    TAKES_A_MODEL.search(str(part.annotation))
                    for part in inspect.signature(value).parameters.values()
                ):
                    found.add(f"{room}.{name}")
    return found


def test_every_public_function_that_takes_a_model_has_a_call_here():
    found, called = public_functions(), {name.split(" ")[0] for name in CALLS}
    assert found - called - PARTS == set(), "give each a small call in CALLS of calls_<stem>.py"
    assert PARTS - found == set() and called - found == set(), "gone from the library: take them out"
    assert not PARTS & called


def test_a_page_brings_its_calls_in_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code = "from public_calls import Call, vit\nCALLS = {'dynamic.mine': Call(vit)}\nPARTS = {'dynamic.named'}\n"
    (tmp_path / "calls_mine.py").write_text(code)
    calls, parts = public_calls.of_pages(tmp_path)
    assert list(calls) == ["dynamic.mine"] and parts == {"dynamic.named"}


@pytest.fixture
def given(lab, tmp_path, monkeypatch):
    """Pictures, a teacher; and studies on few of the former, cut short."""
    torch.manual_seed(0)
    pictures = some_pictures()
    monkeypatch.setattr(data, "load", lambda *name, count=None, **how: first(pictures, count))
    monkeypatch.setattr(compression, "calibration", lambda seed: pictures.batch(torch.arange(4)))
    monkeypatch.setattr(reading_attention, "PICTURES", 4)
    monkeypatch.setattr(reading_attention, "CHECKED", 2)
    monkeypatch.setattr(
        reading_attention,
        "EXPLAINERS",
        {"relevance": explain.relevance_map, "Grad-CAM": explain.grad_cam},
    )
    monkeypatch.setattr(early_exit, "TIMED", {1: 2, 4: 4})
    monkeypatch.setattr(early_exit, "_pictures", lambda split, count: first(pictures, count))
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "cache"))
    shorten.shorten(monkeypatch.setattr)
    inputs, labels = pictures.batch(torch.arange(4))
    return Given(
        first(pictures, 12), pictures, inputs, labels, public_calls.vit(dim=48).eval(), tmp_path
    )


@functools.cache
def some_pictures() -> Pictures:
    """As many as the studies' batches hold."""
    return data.load("shapes", "test", count=128)


def first(pictures: Pictures, count: int | None) -> Pictures:
    """The first `count` of them; all for None."""
    return dataclasses.replace(
        pictures,
        pixels=pictures.pixels[:count].clone(),
        labels=pictures.labels[:count].clone(),
        masks=None if pictures.masks is None else pictures.masks[:count].clone(),
    )


def half_in_train_mode(model: nn.Module) -> nn.Module:
    """In train mode but for every third part, whose weights are frozen, as readers may do."""
    for position, part in enumerate(model.train().modules()):
        if position % 3 == 1:
            part.training = False
            for value in part.parameters(recurse=False):
                value.requires_grad_(False)
    return model


# name -> (context of the call, is half of the model in train mode, does the device know float64)
WAYS = {
    "eval mode": (torch.enable_grad, False, True),
    "half in train mode, inside no_grad": (torch.no_grad, True, True),
    "half in train mode, inside inference_mode": (torch.inference_mode, True, True),
    "no float64": (torch.enable_grad, False, False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CALLS)
def test_the_call_leaves_nothing_on_the_device_and_changes_nothing_it_was_given(
    name, way, given, lab, monkeypatch
):
    context, mixed, has_float64 = WAYS[way]
    if not has_float64:
        monkeypatch.setattr(running, "WITHOUT_FLOAT64", {"lab"})  # as Apple's mps
        lab.refuse_float64(True)
    call = CALLS[name]
    model = (call.make or public_calls.vit)().eval()
    model = half_in_train_mode(model) if mixed and not call.refuses_train_mode else model
    before, teacher, global_before = State.of(model), State.of(given.teacher), settings()
    pixels, operators = given.pictures.pixels.clone(), lab.operators()
    with context():
        result = call.run(model, given)
        inside = settings()
    after = settings()
    left = {
        "model": model,
        "teacher": given.teacher,
        "pictures": given.pictures,
        "inputs": given.inputs,
        "result": result,
    }
    found = faults(left)
    found += [f"the model: {fault}" for fault in before.differs(model, call.trains)]
    found += [f"the teacher: {fault}" for fault in teacher.differs(given.teacher, trained=False)]
    found += [
        f"torch's {part} are {after[part]}" for part in after if after[part] != global_before[part]
    ]
    found += (
        [f"torch's threads after the call: {inside['threads']}"]
        if inside["threads"] != global_before["threads"]
        else []
    )
    found += [] if torch.equal(pixels, given.pictures.pixels) else ["the pictures changed"]
    found += (
        []
        if lab.operators() > operators or name in public_calls.ON_THE_PROCESSOR
        else ["nothing ran on the device"]
    )
    if found:
        pytest.fail("; ".join(found), pytrace=False)
