"""What test_distilling.py launches: a student beside its teacher, and one from stored logits; writes what came out."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from lightvit_lab import data, training
from lightvit_lab.distillation import distill, store_logits
from lightvit_lab.distillation.feature_distillation.mimicking import Hint
from lightvit_lab.distillation.response_distillation.objectives import Labels, SoftTargets
from lightvit_lab.training.processes import Team

RUN = {"steps": 9, "batch_size": 16, "augment": ("flip", "mixup"), "lr": 5e-3, "threads": 1, "precision": "float32",
       "progress": False}


def pictures(count: int = 50) -> data.Pictures:
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 80, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    pixels = (noise + 80 * labels.view(-1, 1, 1, 1)).byte()
    return data.Pictures("made up", "train", pixels, labels, tuple("abc"), torch.full((3,), 0.5), torch.full((3,), 0.3))


class Net(nn.Module):
    """Two blocks and a head; a batch norm and dropout if it is to be a teacher that train mode would change."""

    def __init__(self, seed: int = 0, width: int = 4, restless: bool = False, classes: int = 3):
        super().__init__()
        torch.manual_seed(seed)
        more = [nn.BatchNorm2d(width), nn.Dropout(0.5)] if restless else []
        self.blocks = nn.ModuleList([nn.Conv2d(3, width, 3), nn.Sequential(*more, nn.GELU())])
        self.head = nn.Linear(36 * width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs.flatten(1))


def teacher() -> Net:
    return Net(7, 8, restless=True).eval()


LOGITS = {"labels": Labels(), "soft": SoftTargets(2.0, weight=0.5)}
HINT = {"hint": Hint(student_layer=0, teacher_layer=0)}        # a projector beside the student


def run(student: nn.Module, guide: object, objectives: dict = LOGITS, **changes) -> training.History:
    """Nine steps, by default with soft targets beside the labels."""
    live = {"teacher_precision": "float32"} if isinstance(guide, nn.Module) else {}
    return distill(student, guide, pictures(), objectives, **{**RUN, **live, **changes})


def main(folder: Path) -> None:
    found = {}
    stored = store_logits(teacher(), pictures(), folder / "said", progress=False, teacher_precision="float32",
                          **{name: RUN[name] for name in ("steps", "batch_size", "augment")})
    for label, guide, objectives in (("live", teacher(), LOGITS), ("stored", stored, LOGITS),
                                     ("hint", teacher(), {**LOGITS, **HINT}), ("hint alone", teacher(), HINT)):
        student = Net()
        history = run(student, guide, objectives)
        found[label] = {"terms": history.terms, "weights": student.state_dict(),
                        "processes": history.choices["processes"]}
    if Team().is_main:
        torch.save(found, folder / "found.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
