"""The training loop: `fit(model, data)`, also on a GPU and under `accelerate launch`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from ..data import Pictures
from ..errors import LabError, plain_numbers, require_range
from ..runtime import device_name
from ..runtime.running import cast, float_dtype, on_device
from ..runtime.wrapped import unwrapped
from .augment import Batch, Batches, require_augment
from .objectives import Objective, label_objective, share_right
from .optimizers import create_optimizers, schedule_factor, step_all
from .probing import applied, choose_settings
from .processes import LossParts, Team
from .randomness import same_states_afterwards, seed_step
from .saving import Checkpoint, describe_model, describe_pictures, not_finite
from .scores import Score, evaluate
from .settings import (checked_settings, require_length, require_model, require_normalised,
                       require_pictures)

# steps between two reads of the losses where reading makes a GPU, or other processes, wait
READ_EVERY = 20


@dataclass
class History:
    """What `fit` returns: loss of every step, scores on `validation`, seconds of training alone.

    `choices` are how it ran: threads, precision, attention, device, machine, processes. `terms`
    has, for an objective that names them, what each term added to the loss of every step.
    """

    loss: list[float] = field(default_factory=list)
    scores: list[tuple[int, Score]] = field(default_factory=list)
    seconds: float = 0.0
    images_seen: int = 0
    choices: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, list[float]] = field(default_factory=dict)


@plain_numbers
def fit(model: nn.Module, data: Pictures, epochs: float = 1, lr: float = 1e-3, batch_size: int = 64,
        steps: int | None = None, weight_decay: float = 0.05, label_smoothing: float = 0.0,
        warmup: float = 0.1, seed: int = 0, validation: Pictures | None = None, checks: int = 1,
        threads: int | None = None, progress: bool = True, *, optimizer: str = "adamw",
        schedule: str = "cosine", clip: float | None = 1.0, augment: tuple[str, ...] = (),
        objective: Objective | None = None, precision: str = "auto", attention: str = "auto",
        checkpoint: str | os.PathLike | None = None, save_every: int | None = None,
        callback: Callable[[History, int], None] | None = None) -> History:
    """Train `model` in place on `data`: `steps`, or `epochs * len(data) / batch_size` rounded up.

    The learning rate rises linearly during `warmup`, then falls to zero by `schedule`, "cosine" or
    "linear". With `validation` the model is scored there `checks` times, evenly spread. `augment`
    takes any of "flip", "crop", "mixup", "cutmix" (a mirrored digit is no digit: we leave the
    choice to the caller). `optimizer` is "adamw" or "muon"; gradients are clipped to the norm
    `clip`. An `objective(model, batch)` returns a loss, or a loss and logits, or also a dict of the
    terms that add up to it; write it as a dataclass if it has parameters, and a checkpoint will
    know them. What it tries out itself before a run (`choices`, a dict) is stored with ours and set
    again on resuming.

    `threads=None`, `precision="auto"` and `attention="auto"` are tried for under two seconds on a
    copy of the model; threads and attention are set back at the end. `seed` decides the order of
    pictures, their views, and what the model draws (dropout, drop path, gates); the global random
    states stay as they were. The model, without torch's wrappers, and any model that is an
    attribute of `objective` (a teacher), is on `runtime.device()` meanwhile, and back where it was
    at the end; the trained one is then in eval mode. With a `checkpoint` path the run is saved
    every `save_every` steps (None: as often as costs under 2 %), and the same call resumes it.
    After each read of losses and scores, `callback(history, steps)` is called, as by
    `widgets.training_curves`. Under `accelerate launch` each process takes an equal slice of every
    batch. Raises LabError, before the first step, on what makes no run, and on a loss, or weights
    after the last step, that are not finite.
    """
    team, model = Team(), unwrapped(model)
    steps = require_length(epochs, steps, batch_size, len(data), team.count)
    settings = checked_settings(
        steps=steps, lr=lr, batch_size=batch_size, weight_decay=weight_decay, warmup=warmup,
        label_smoothing=label_smoothing, seed=seed, checks=checks, optimizer=optimizer,
        schedule=schedule, clip=clip, augment=list(require_augment("fit", augment)),
        objective=_name(objective, label_smoothing), precision=precision, attention=attention)
    require_range("fit", "threads", 1 if threads is None else threads, 1)
    require_pictures(data)
    attributes = getattr(objective, "__dict__", {}).values()
    helpers = [value for value in attributes if isinstance(value, nn.Module)]
    with on_device(model, *helpers, train=None, grad=True) as place, same_states_afterwards():
        batches = Batches(data, batch_size, seed, settings.augment, place, team.rank, team.count,
                          float_dtype(model))
        inputs = batches(1).inputs
        require_normalised(inputs, data)
        labels = data.labels if validation is None else torch.cat([data.labels, validation.labels])
        require_model(model, inputs[:2], labels, batch_size // team.count, plain=objective is None)
        file = _open(checkpoint, save_every, model, data, validation, settings, team)
        saved = file.read() if file else None
        tried = getattr(objective, "choices", {})
        choices = saved["choices"] if saved else team.same(
            {**choose_settings(model, inputs, threads, precision, attention), **tried})
        choices = {**choices, "threads": threads or choices["threads"]}
        tried.update({name: choices[name] for name in tried})
        with applied(model, choices):
            objective = objective or label_objective(label_smoothing)
            run = _Run(model, batches, settings, objective, choices, team)
            if saved:
                run.load_state(saved)
            run.go_on(validation, file, progress, callback if team.is_main else None)
    model.eval()
    return run.history


def progress_bar(images: int, visible: bool, done: int = 0) -> tqdm:
    """A bar that counts images; none while a book is built, where it would be noise on the page."""
    hidden = not visible or "LIGHTVIT_BOOK" in os.environ
    return tqdm(total=images, initial=done, unit=" images", unit_scale=True, disable=hidden,
                leave=False)


class _Run:
    """The state that a step changes, so that a run can be saved and resumed."""

    def __init__(self, model: nn.Module, batches: Batches, settings: SimpleNamespace,
                 objective: Objective, choices: dict[str, Any], team: Team):
        self.model, self.batches, self.settings = model, batches, settings
        self.objective, self.team, place = objective, team, batches.target
        self.optimizers = create_optimizers(model, settings.optimizer, settings.lr,
                                            settings.weight_decay)
        self.parameters = [value for value in model.parameters() if value.requires_grad]
        self.history = History(choices={**choices, "device": str(place), "machine": device_name(),
                                        "processes": team.count})
        self.done, self.unread, self.right, self.names = 0, [], math.nan, ()
        self.read_every = 1 if place.type == "cpu" and team.count == 1 else READ_EVERY

    def go_on(self, validation: Pictures | None, file: Checkpoint | None, progress: bool,
              callback: Callable[[History, int], None] | None = None) -> None:
        """Train until the last step, with scores and saves on the way."""
        checks, steps = self.settings.checks, self.settings.steps
        self.model.train()
        loss_of, last = self.team.loss_of(self.model, self.objective), time.perf_counter()
        for optimizer in self.optimizers:
            optimizer.zero_grad()       # gradients from before the run
        with progress_bar(steps * self.settings.batch_size, progress and self.team.is_main,
                          self.history.images_seen) as bar:
            while self.done < steps:
                self._step(loss_of)
                # true `checks` times, evenly spread, and after the last step
                scores_now = validation is not None and self.done * checks % steps < checks
                if not (self._reads_now(file) or scores_now):
                    continue
                self._read_losses(bar)
                self.history.seconds += time.perf_counter() - last
                if scores_now:
                    self.history.scores.append((self.done, evaluate(self.model, validation)))
                if callback is not None:
                    callback(self.history, steps)
                last = time.perf_counter()       # scores and `callback` are no training
                if file and self.team.same(self.done == steps or file.is_due(self.done)):
                    self._save(file)

    def _reads_now(self, file: Checkpoint | None) -> bool:
        """Whether losses are read after this step: the last, one to be saved, or every so many."""
        saves = file is not None and file.every is not None and self.done % file.every == 0
        return saves or self.done == self.settings.steps or self.done % self.read_every == 0

    def _step(self, loss_of: Callable[[Batch], LossParts]) -> None:
        """One step on the batch of its number; the loss stays on the device."""
        batch = self.batches(self.done + 1)
        seed_step(self.settings.seed, self.done + 1, self.team.rank)
        with cast(self.history.choices["precision"], batch.inputs.device):
            loss, logits, terms = loss_of(batch)
        loss.backward()
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        step_all(self.optimizers, self._rate(self.done))
        right = loss.new_full((), math.nan) if logits is None else share_right(logits, batch)
        self.names = tuple(terms)
        row = loss, right, *terms.values()
        self.unread.append(torch.stack([value.detach().float() for value in row]))
        self.done += 1

    def _rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        plan = self.settings
        return plan.lr * schedule_factor(step, plan.steps, plan.warmup, plan.schedule)

    def _read_losses(self, bar: tqdm) -> None:
        """Write down the losses since the last read; LabError at the first that is not finite."""
        values = self.team.total(torch.stack(self.unread)) / self.team.count
        self.unread = []
        for loss, right, *terms in values.tolist():
            if not math.isfinite(loss):
                self._refuse(f"the loss is {loss} at", len(self.history.loss))
            self.history.loss.append(loss)
            for name, term in zip(self.names, terms):
                self.history.terms.setdefault(name, []).append(term)
            # running accuracy
            self.right = right if math.isnan(self.right) else 0.95 * self.right + 0.05 * right
        if self.done == self.settings.steps:      # no later loss tells what the last step did
            self._require_finite_weights()
        self.history.images_seen += len(values) * self.settings.batch_size
        each = " + ".join(f"{name} {term:.3f}" for name, term in zip(self.names, terms))
        accuracy = "" if math.isnan(self.right) else f", right {self.right:.0%}"
        equals = " = " if terms else ""
        bar.set_postfix_str(f"loss {loss:.3f}{equals}{each}{accuracy}", refresh=False)
        bar.update(len(values) * self.settings.batch_size)

    def _require_finite_weights(self) -> None:
        buffers = dict(self.model.named_buffers())      # a mask may hold infinity
        weights = dict(self.model.named_parameters())
        trained = {name: value for name, value in weights.items() if value.requires_grad}
        if problem := not_finite({**trained, **buffers}, masks=buffers):
            self._refuse(f"{problem} after", self.done - 1)

    def _refuse(self, what: str, step: int) -> None:
        rate, lower = self._rate(step), self.settings.lr / 4
        raise LabError(f"fit: {what} step {step + 1}, where the learning rate was {rate:g}; the "
                       f"run diverged. Try lr={lower:g}, a longer warmup, or a smaller clip")

    def _save(self, file: Checkpoint) -> None:
        if self.team.is_main:
            states = [optimizer.state_dict() for optimizer in self.optimizers]
            file.write({"done": self.done, "model": self.model.state_dict(), "optimizer": states,
                        "history": asdict(self.history), "choices": self.history.choices})

    def load_state(self, saved: dict[str, Any]) -> None:
        """Resume after the step that `_save` saved; later draws follow from the step's number."""
        self.done = saved["done"]
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizer"], strict=True):
            optimizer.load_state_dict(state)
        scores = [(step, Score(**score)) for step, score in saved["history"]["scores"]]
        changed = {"scores": scores, "choices": self.history.choices}
        self.history = History(**{**saved["history"], **changed})


def _open(path: str | os.PathLike | None, save_every: int | None, model: nn.Module, data: Pictures,
          validation: Pictures | None, settings: SimpleNamespace, team: Team) -> Checkpoint | None:
    """The checkpoint at `path`, which knows its run by settings, data and model."""
    if path is None:
        return None
    require_range("fit", "save_every", 1 if save_every is None else save_every, 1)
    identity = {"settings": vars(settings), "data": describe_pictures(data),
                "validation": describe_pictures(validation), "model": describe_model(model)}
    return Checkpoint(path, identity, save_every, writes=team.is_main)


def _name(objective: Objective | None, label_smoothing: float) -> str:
    """The objective's name for a checkpoint; a dataclass is known with its parameters."""
    if objective is None:
        return "labels"
    if label_smoothing:
        raise LabError(f"fit: label_smoothing={label_smoothing} belongs to the built-in objective; "
                       "smooth inside yours: training.label_loss(logits, batch, label_smoothing)")
    if is_dataclass(objective):
        return repr(objective)
    return getattr(objective, "__qualname__", type(objective).__qualname__)
