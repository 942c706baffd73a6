"""DeiT's losses of distillation, against the official code."""

from torch import Tensor

from lightvit_lab.distillation.response_distillation import deit_loss, smooth_labels

from ..cases import Case
from . import Found, NotCovered, adapter


@adapter(
    "a loss of DeiT",
    lambda case: case.source == "facebookresearch/deit" and "cases" in case.facts,
    settings=("base_criterion", "distillation_type", "alpha", "tau"),
)
def run(case: Case) -> Found:
    """The loss and its gradients, for every setting. "none" is the loss with nothing for the
    teacher.
    """
    teacher = case.tensor("teacher")
    for place, one in enumerate(case.facts["cases"]):
        taught = one["distillation_type"] != "none"
        student, token = (
            case.tensor(name).clone().requires_grad_() for name in ("student_cls", "student_dist")
        )
        loss = deit_loss(
            student,
            token,
            teacher,
            _labels(case, one["base_criterion"]),
            one["distillation_type"] if taught else "hard",
            one["alpha"] if taught else 0.0,
            one["tau"],
        )
        loss.backward()
        yield f"cases.{place}.loss", loss.item()
        yield f"cases.{place}.grad_cls_l2", student.grad.norm().item()
        yield f"cases.{place}.grad_dist_l2", token.grad.norm().item()
        yield f"cases.{place}.grad_dist_first8", token.grad.flatten()[:8] if taught else None


def _labels(case: Case, criterion: str) -> Tensor:
    """Classes, smoothed or soft labels, as the base criterion takes them."""
    classes, soft = case.tensor("labels"), case.tensor("soft_labels")
    if criterion == "ce":
        return classes
    if criterion == "soft_target":
        return soft
    name, _, smoothing = criterion.rpartition("_")
    if name != "label_smoothing":
        raise NotCovered(f"the base criterion {criterion}")
    return smooth_labels(classes, soft.shape[1], float(smoothing))
