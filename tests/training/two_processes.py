"""What test_processes.py launches: a run, and the same run stopped and taken up; writes what came out of both."""

import shutil
import sys
from pathlib import Path

import torch
from torch import nn

from lightvit_lab import data, training


def pictures(count: int = 50) -> data.Pictures:
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 80, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    pixels = (noise + 80 * labels.view(-1, 1, 1, 1)).byte()
    return data.Pictures("made up", "train", pixels, labels, ("a", "b", "c"), torch.full((3,), 0.5), torch.full((3,), 0.3))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 16), nn.GELU(), nn.Linear(16, 3))


def run(net: nn.Module, **more) -> training.History:
    return training.fit(net, pictures(), steps=25, batch_size=16, lr=5e-3, threads=1, precision="float32", progress=False,
                        augment=("flip", "crop", "mixup"), validation=pictures(21), checks=2, **more)


class Stop(Exception):
    pass


def stopping(net: nn.Module, batch: training.Batch) -> torch.Tensor:
    """The plain objective, until `stopping.left` steps have been taken."""
    stopping.left -= 1
    if stopping.left < 0:
        raise Stop
    return training.label_loss(net(batch.inputs), batch)


class Halved(nn.Module):
    """Two ways to the logits, of which a step takes one: the other has no gradient then, as an exit that nobody asks."""

    def __init__(self) -> None:
        super().__init__()
        self.ways, self.never, self.steps = nn.ModuleList([model(), model()]), nn.Linear(3, 3), 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        return self.ways[self.steps // 2 % 2](inputs)


def main(folder: Path) -> None:
    plain = model()
    history = run(plain)
    stopping.left = 13
    try:
        run(model(), objective=stopping, checkpoint=folder / "run.pt", save_every=5)
    except Stop:
        stopping.left = 100
    if training.processes.Team().is_main:
        shutil.copy(folder / "run.pt", folder / "half.pt")
    resumed = model()
    again = run(resumed, objective=stopping, checkpoint=folder / "run.pt", save_every=5)
    torch.manual_seed(int(training.processes.Team().rank))
    halved = Halved()
    halved_loss = run(halved).loss
    if training.processes.Team().is_main:
        torch.save({"halved_loss": halved_loss, "halved": halved.state_dict(), "loss": history.loss, "weights": plain.state_dict(), "processes": history.choices["processes"],
                    "scores": [(step, score.accuracy, score.count) for step, score in history.scores],
                    "resumed_weights": resumed.state_dict(), "resumed_loss": again.loss, "left": stopping.left},
                   folder / "found.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
