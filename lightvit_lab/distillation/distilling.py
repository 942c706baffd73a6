"""The training loop of distillation: `fit` with a teacher beside the student, and objectives that
are added up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError, require_range
from ..runtime.running import as_input, cast, in_mode, on_device
from ..runtime.wrapped import unwrapped
from ..training import Batch, History, fit
from ..training.processes import Team
from ..training.randomness import same_states_afterwards
from ..training.settings import require_length, require_pictures
from .model_outputs import ModelOutputs, collect_outputs
from .teachers import LiveTeacher

FEW = 4   # pictures on which all is tried before a run; angles between pictures need three


def _settings(train: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a training loop, with their defaults, but for those that `distill` gives
    itself.
    """
    found = inspect.signature(train).parameters
    return {name: value.default for name, value in found.items() if name not in ("model", "data")}


_DEFAULTS = _settings(fit)
_OURS = {"objective": "give `objectives`", "label_smoothing": "smooth in the objective: Labels(smoothing=0.1)"}


class Objective(Protocol):
    """One term of the loss: a frozen dataclass of its parameters, so that a checkpoint knows it,
    called as below.

    It may say which layers it needs: `student_features`, `teacher_features`, `student_attention`,
    `teacher_attention`, tuples of 0-based blocks. With a method `build(student, teacher) ->
    nn.Module`, given what both showed of a few pictures, the module is trained along with the
    student and called in the objective's place.
    """

    weight: float

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor: ...


def distill(student: nn.Module, teacher: nn.Module | Any, data: Pictures,
            objectives: Mapping[str, Objective], *, teacher_precision: str = "auto",
            **settings: Any) -> History:
    """Train `student` in place on `data` to do what the labels and `teacher` say: `fit` with
    several objectives.

    `teacher` is a model in eval mode, or `StoredLogits`, for which it ran before. The loss is the
    sum of `objectives`, a dict of name -> term, each times its `weight`; `History.terms` and the
    bar show every one. What objectives train beside the student (projectors) is dropped at the end.
    Student and teacher are on `runtime.device()` meanwhile and back where they were at the end, the
    student in eval mode. `settings` are those of `training.fit`, but for `objective` and
    `label_smoothing`: smooth in the objective `Labels`. Raises LabError, before the first step,
    where teacher, student and objectives do not fit together.
    """
    _require(objectives, settings)
    student = unwrapped(student)
    teacher = unwrapped(teacher) if isinstance(teacher, nn.Module) else teacher
    run = {**_DEFAULTS, **settings}
    require_length(run["epochs"], run["steps"], run["batch_size"], len(data), Team().count)
    require_pictures(data)
    _require_apart(student, teacher)
    live = LiveTeacher(teacher, teacher_precision) if isinstance(teacher, nn.Module) else teacher
    both = (student, live.model) if isinstance(live, LiveTeacher) else (student,)
    with on_device(*both, train=None, grad=True) as place:
        first = _first_batch(data, run, place)
        live.prepare(first.inputs, data, run)
        parts = _build(student, live, first, objectives, run["seed"])
        objective = _Sum(tuple(objectives.items()), live.identity, teacher_precision, live)
        history = fit(_Pair(student, parts), data, objective=objective, **settings)
    student.eval()
    return history


class _Pair(nn.Module):
    """The student, and what objectives train beside it; called as the student."""

    def __init__(self, student: nn.Module, parts: dict[str, nn.Module]):
        super().__init__()
        self.student, self.parts = student, nn.ModuleDict(parts)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.student(inputs)


@dataclass
class _Sum:
    """The objective that `fit` sees: the sum of all, known to checkpoints by their parameters and
    by the teacher.
    """

    objectives: tuple[tuple[str, Objective], ...]
    teacher: str
    teacher_precision: str
    live: Any = field(repr=False)

    @property
    def choices(self) -> dict[str, Any]:
        """What was tried out before the run; set again where a checkpoint is taken up, for the same
        bits.
        """
        return {"teacher_precision": self.live.precision} if isinstance(self.live, LiveTeacher) else {}

    @choices.setter
    def choices(self, found: dict[str, Any]) -> None:
        """Take over what a checkpoint says was chosen."""
        if isinstance(self.live, LiveTeacher):
            self.live.precision = found["teacher_precision"]

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        needs = _needs(value for _, value in self.objectives)
        teacher = self.live.outputs(batch, *needs["teacher"])
        student = collect_outputs(model.student, batch.inputs, *needs["student"])
        terms = {}
        with cast("float32", batch.inputs.device):     # what was seen is float32: losses too
            for place, (name, objective) in enumerate(self.objectives):
                term = model.parts[str(place)] if str(place) in model.parts else objective
                terms[name] = objective.weight * term(student, teacher, batch)
        logits = student.logits if student.token_logits is None else (student.logits + student.token_logits) / 2
        return sum(terms.values()), logits, terms


def _needs(objectives: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Layers whose features and attention are needed, of student and of teacher, each once, in
    order.
    """
    objectives = list(objectives)

    def of(name: str) -> tuple[int, ...]:
        return tuple(sorted({layer for value in objectives for layer in getattr(value, name, ())}))

    return {who: (of(f"{who}_features"), of(f"{who}_attention")) for who in ("student", "teacher")}


def _build(student: nn.Module, live: Any, first: Batch, objectives: Mapping[str, Objective],
           seed: int) -> dict[str, nn.Module]:
    """What objectives train, by their place; drawn by `seed`. Also tries all that is asked for on a
    few pictures.
    """
    count = min(FEW, len(first.labels))
    few = Batch(first.inputs[:count], first.labels[:count], first.index[:count], step=first.step,
                places=torch.arange(count))
    needs = _needs(objectives.values())
    with torch.no_grad(), same_states_afterwards(), in_mode(student):
        torch.manual_seed(seed)
        shown = collect_outputs(student, as_input(student, few.inputs), *needs["student"])
        taught = live.outputs(few, *needs["teacher"])
        _require_classes(shown.logits, taught.logits)
        _require_both_heads(student, objectives, shown, taught, few)
        parts = {str(place): value.build(shown, taught).to(few.inputs.device)
                 for place, value in enumerate(objectives.values()) if hasattr(value, "build")}
        for place, value in enumerate(objectives.values()):
            # what does not fit is refused now, not after the teacher's first step
            if any(_needs([value])["student"]):
                parts.get(str(place), value)(shown, taught, few)
    return parts


def _first_batch(data: Pictures, run: dict[str, Any], target: torch.device) -> Batch:
    """The pictures of the first step, as they come, for choices and checks; `fit` refuses what
    makes no run.
    """
    count = min(len(data), run["batch_size"])
    inputs, labels = (tensor.to(target) for tensor in data.batch(torch.arange(count)))
    return Batch(inputs, labels, torch.arange(count), step=1, places=torch.arange(count))


def _require(objectives: Any, settings: dict[str, Any]) -> None:
    if not isinstance(objectives, Mapping) or not objectives:
        raise LabError(f"distill: objectives={objectives!r}; give a dict of name -> objective, for example "
                       '{"labels": Labels(), "soft targets": SoftTargets(temperature=4)}')
    for name, objective in objectives.items():
        if not hasattr(objective, "weight"):
            raise LabError(f"distill: the objective {name!r} is a {type(objective).__name__} without a weight; "
                           "those of distillation.response_distillation and .feature_distillation have one")
        require_range("distill", f"the weight of {name!r}", objective.weight, 0)
    for name in settings:
        if name in _OURS or name not in _DEFAULTS:
            known = ", ".join(one for one in _DEFAULTS if one not in _OURS)
            raise LabError(f"distill: {name} is no setting here; {_OURS.get(name, f'settings are: {known}')}")


def _require_apart(student: nn.Module, teacher: nn.Module | Any) -> None:
    if not isinstance(teacher, nn.Module) and not hasattr(teacher, "outputs"):
        raise LabError(f"distill: the teacher is a {type(teacher).__name__}; give a model in eval mode, or "
                       "StoredLogits(path)")
    own = {id(value) for value in student.parameters()}
    if isinstance(teacher, nn.Module) and any(id(value) in own for value in teacher.parameters()):
        raise LabError("distill: student and teacher share parameters, so the teacher would change as the student "
                       "learns; give a copy, copy.deepcopy(student).eval()")


def _require_both_heads(student: nn.Module, objectives: Mapping[str, Objective], shown: ModelOutputs,
                        taught: ModelOutputs, few: Batch) -> None:
    """Raise LabError if the head of a distillation token would learn nothing: half of what such a
    student says.
    """
    if getattr(student, "head_dist", None) is None:
        return
    with torch.enable_grad():
        token = shown.logits.clone().requires_grad_()
        both = replace(shown, token_logits=token)
        terms = [value(both, taught, few) for value in objectives.values() if not hasattr(value, "build")]
    if not any(term.requires_grad for term in terms):
        raise LabError("distill: the student has a distillation token, and no objective teaches its head; add one on "
                       "the teacher's logits, DistillationToken() or SoftTargets(), or create it with distilled=False")


def _require_classes(student: Tensor, teacher: Tensor) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise LabError(f"distill: the student makes {student.shape[1]} logits and the teacher {teacher.shape[1]}, so "
                       "they speak of other classes; create both with the same num_classes, trained on the same set")
