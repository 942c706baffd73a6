"""The training loop of distillation: `fit` with a teacher, and objectives that are added up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError, require_range, require_whole
from ..runtime.running import as_input, cast, in_mode, on_device
from ..runtime.wrapped import unwrapped
from ..training import Batch, History, fit
from ..training.processes import Team
from ..training.randomness import same_states_afterwards
from ..training.settings import require_length, require_pictures
from .model_outputs import LiveTeacher, ModelOutputs, collect_outputs

FEW = 32   # pictures at most on which everything is tried before a run


def _settings(train: Callable[..., Any]) -> dict[str, Any]:
    """Parameters of a training loop with their defaults, without those that `distill` gives."""
    parameters = inspect.signature(train).parameters.values()
    return {one.name: one.default for one in parameters if one.name not in ("model", "data")}


_DEFAULTS = _settings(fit)
_REPLACED = {"objective": "give `objectives`",
             "label_smoothing": "smooth in the objective: Labels(smoothing=0.1)"}


class DistillationObjective(Protocol):
    """One term of the loss: a frozen dataclass, by whose parameters a checkpoint knows it.

    It may name the layers it needs: `student_features`, `student_attention`, `student_values`, and
    the same of the teacher, tuples of 0-based blocks. If it has a method `build(student, teacher)
    -> nn.Module`, which takes the outputs of both for a few pictures, the module is trained along
    with the student and called in the objective's place.
    """

    weight: float

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor: ...


def distill(student: nn.Module, teacher: nn.Module | Any, data: Pictures,
            objectives: Mapping[str, DistillationObjective], *, teacher_precision: str = "auto",
            **settings: Any) -> History:
    """Train `student` in place on `data`, by labels and teacher: `fit` with several objectives.

    `teacher` is a model in eval mode, or `StoredLogits`, for which it ran before. The loss is the
    sum of `objectives`, a dict of name -> term, each times its `weight`; `History.terms` and the
    bar have each of them. What is trained along for objectives (projectors) is dropped at the end.
    Student and teacher are on `runtime.device()` meanwhile and back where they were at the end, the
    student in eval mode. `settings` are those of `training.fit`, but for `objective` and
    `label_smoothing`: smooth in the objective `Labels`. Raises LabError, before the first step,
    where teacher, student and objectives do not fit together.
    """
    _require(objectives, settings)
    student, run = unwrapped(student), {**_DEFAULTS, **settings}
    length = run["epochs"], run["steps"], run["batch_size"], len(data), Team().count
    run["steps"], run["batch_size"] = require_length(*length), int(run["batch_size"])
    run["seed"] = require_whole("distill", "seed", run["seed"], 0, 2**63)
    require_pictures(data)
    live = LiveTeacher(teacher, teacher_precision) if isinstance(teacher, nn.Module) else teacher
    _require_apart(student, live)
    with on_device(student, *live.models, train=None, grad=True) as place:
        few = _first_batch(data, min(len(data), run["batch_size"], FEW), place)
        live.prepare(few.inputs, data, run)
        parts = _build(student, live, few, list(objectives.values()), run["seed"])
        objective = _Sum(tuple(objectives.items()), live.identity, teacher_precision, live)
        history = fit(_Pair(student, parts), data, objective=objective, **settings)
    student.eval()
    return history


class _Pair(nn.Module):
    """The student, and what is trained along with it; called as the student."""

    def __init__(self, student: nn.Module, parts: dict[str, nn.Module]):
        super().__init__()
        self.student, self.parts = student, nn.ModuleDict(parts)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.student(inputs)


@dataclass
class _Sum:
    """The sum of all objectives, which checkpoints know by their parameters and the teacher."""

    objectives: tuple[tuple[str, DistillationObjective], ...]
    teacher: str
    teacher_precision: str
    live: Any = field(repr=False)

    @property
    def choices(self) -> dict[str, Any]:
        """What was tried before the run; `fit` sets it again when it resumes, for the same bits."""
        return self.live.choices

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        teacher, student = _outputs(model.student, self.live, batch, dict(self.objectives).values())
        terms = {}
        with cast("float32", batch.inputs.device):     # outputs are float32: losses too
            for place, (name, objective) in enumerate(self.objectives):
                term = model.parts[str(place)] if str(place) in model.parts else objective
                terms[name] = objective.weight * term(student, teacher, batch)
        both = student.logits + student.taught_logits       # their mean is what the student answers
        return sum(terms.values()), both / 2, terms


def _outputs(student: nn.Module, live: Any, batch: Batch,
             objectives: Iterable[DistillationObjective]) -> tuple[ModelOutputs, ModelOutputs]:
    """The teacher's outputs and the student's, with the layers that objectives need."""
    teacher = live.outputs(batch, *_layers(objectives, "teacher"))
    layers = _layers(objectives, "student")
    return teacher, collect_outputs(student, as_input(student, batch.inputs), *layers)


def _layers(objectives: Iterable[DistillationObjective], model: str) -> tuple[tuple, ...]:
    """Layers of the "student" or "teacher" whose features, attention and values are needed."""
    def needed(what: str) -> tuple[int, ...]:
        layers = chain.from_iterable(getattr(value, f"{model}_{what}", ()) for value in objectives)
        return tuple(sorted(set(layers)))

    return needed("features"), needed("attention"), needed("values")


def _first_batch(data: Pictures, count: int, place: torch.device) -> Batch:
    """The first `count` pictures as they are, as rows of step 1."""
    index = torch.arange(count)
    inputs, labels = (tensor.to(place) for tensor in data.batch(index))
    return Batch(inputs, labels, index, step=1, places=index)


def _build(student: nn.Module, live: Any, few: Batch, objectives: Sequence[DistillationObjective],
           seed: int) -> dict[str, nn.Module]:
    """What is trained along, by the number of its objective; `seed` draws the first weights.

    Objectives on layers are tried, so that a misfit is refused before the teacher's first step.
    """
    with torch.no_grad(), same_states_afterwards(), in_mode(student):
        torch.manual_seed(seed)
        theirs, ours = _outputs(student, live, few, objectives)
        own, others = ours.logits.shape[1], theirs.logits.shape[1]
        if own != others:
            raise LabError(f"distill: the student makes {own} logits and the teacher {others}; "
                           "create both with the same num_classes")
        _require_both_heads(student, objectives, ours, theirs, few)
        parts = {str(place): value.build(ours, theirs).to(few.inputs.device)
                 for place, value in enumerate(objectives) if hasattr(value, "build")}
        for place, value in enumerate(objectives):
            if any(_layers([value], "student")):
                parts.get(str(place), value)(ours, theirs, few)
    return parts


def _require(objectives: Any, settings: dict[str, Any]) -> None:
    """Raise LabError on objectives without a weight, and on settings that are not fit's."""
    if not isinstance(objectives, Mapping) or not objectives:
        raise LabError(f"distill: objectives={objectives!r}; give a dict of name -> objective, "
                       'such as {"labels": Labels(), "soft targets": SoftTargets(temperature=4)}')
    for name, objective in objectives.items():
        if not hasattr(objective, "weight"):
            raise LabError(f"distill: the objective {name!r} is a {type(objective).__name__} "
                           "without a weight; those of response_distillation have one")
        require_range("distill", f"the weight of {name!r}", objective.weight, 0)
    known = [name for name in _DEFAULTS if name not in _REPLACED]
    for name in settings:
        if name not in known:
            mend = _REPLACED.get(name, f"settings are: {', '.join(known)}")
            raise LabError(f"distill: {name} is no setting here; {mend}")


def _require_apart(student: nn.Module, live: Any) -> None:
    """Raise LabError unless this is a teacher, and learns nothing as the student does."""
    if not hasattr(live, "outputs"):
        raise LabError(f"distill: the teacher is a {type(live).__name__}; give a model in eval "
                       "mode, or StoredLogits(path)")
    own = {id(value) for value in student.parameters()}
    if any(id(value) in own for model in live.models for value in model.parameters()):
        raise LabError("distill: student and teacher share parameters, so the teacher would change "
                       "with the student; give a copy, copy.deepcopy(student).eval()")


def _require_both_heads(student: nn.Module, objectives: Sequence[DistillationObjective],
                        ours: ModelOutputs, theirs: ModelOutputs, few: Batch) -> None:
    """Raise LabError if nothing teaches the head of a student's distillation token."""
    if getattr(student, "head_dist", None) is None:
        return
    with torch.enable_grad():
        ours = replace(ours, token_logits=ours.logits.clone().requires_grad_())
        terms = [value(ours, theirs, few) for value in objectives if not hasattr(value, "build")]
    if not any(term.requires_grad for term in terms):
        raise LabError("distill: the student has a distillation token, and no objective teaches "
                       "its head; add SoftTargets(), or create it with distilled=False")
