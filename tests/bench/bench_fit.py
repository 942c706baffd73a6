"""`fit` beside a plain PyTorch loop over a DataLoader of torchvision transforms, and what checkpoints cost it.

Same model, same pictures in the same order, same augmentation (reflected crop, flip), same AdamW, taking turns in
stretches of a few steps. `make bench` prints images a second and the ratio with its interval over the turns.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from lightvit_lab import data, models, training
from lightvit_lab.runtime import device_name, ensure_torchvision
from lightvit_lab.training.augment import batch_order
from lightvit_lab.training.probing import choose_settings

ensure_torchvision()
from torchvision import transforms  # noqa: E402

BATCH, STEPS, TURNS = 128, 8, 7
THREADS = int(os.environ.get("LIGHTVIT_BENCH_THREADS", "1"))   # the same for both; beside a busy neighbour, two are no help
MODELS = {"lab_vit_student, 17 tokens": ("lab_vit_student", {"patch_size": 8}), "lab_vit": ("lab_vit", {})}


class PlainPictures(Dataset):
    """As torchvision's CIFAR10: arrays in memory, a PIL image and a chain of transforms for each picture asked for."""

    def __init__(self, pictures: data.Pictures):
        self.arrays, self.labels = pictures.pixels.permute(0, 2, 3, 1).numpy(), pictures.labels.tolist()
        self.transform = transforms.Compose([
            transforms.ToPILImage(), transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(), transforms.ToTensor(),
            transforms.Normalize(pictures.mean.tolist(), pictures.std.tolist())])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.arrays[index]), self.labels[index]


def plain_loop(model: torch.nn.Module, pictures: data.Pictures) -> float:
    """Seconds of STEPS steps of the loop of PyTorch's tutorial, workers as its default has them."""
    order = [batch_order(len(pictures), BATCH, step, 0).tolist() for step in range(1, STEPS + 1)]
    loader = DataLoader(PlainPictures(pictures), batch_sampler=order)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    model.train()
    start = time.perf_counter()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
    return time.perf_counter() - start


def lab_loop(model: torch.nn.Module, pictures: data.Pictures, choices: dict, **kwargs) -> float:
    """Seconds of the same steps by `fit`, with what it had chosen when it was first called."""
    history = training.fit(model, pictures, steps=STEPS, batch_size=BATCH, augment=("crop", "flip"), progress=False,
                           threads=choices["threads"], precision=choices["precision"],
                           attention=choices["attention"] or "auto", **kwargs)
    return history.seconds


def compare(label: str, name: str, arguments: dict, pictures: data.Pictures) -> None:
    """Print images a second of both and their ratio, the median over turns with the second lowest and highest."""
    model = models.create_model(name, **arguments)
    choices = training.fit(model, pictures, steps=2, batch_size=BATCH, threads=THREADS, progress=False).choices
    turns = [(plain_loop(model, pictures), lab_loop(model, pictures, choices)) for _ in range(TURNS)]
    plain, lab = (BATCH * STEPS / statistics.median(column) for column in zip(*turns))
    ratios = sorted(slow / fast for slow, fast in turns)
    print(f"{label}: fit {lab:,.0f} images/s, plain loop {plain:,.0f}; ratio {statistics.median(ratios):.2f} "
          f"({ratios[1]:.2f} to {ratios[-2]:.2f} over {TURNS} turns; goal 1.5); {choices}")


def checkpoint_cost(pictures: data.Pictures, steps: int = 150) -> None:
    """Print the share of a run's time that saving took, in the run's own account."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        model = models.create_model("lab_vit_student", patch_size=8)
        seconds = {}
        for label, place in (("without", None), ("with", path), ("without again", None)):
            start = time.process_time()
            training.fit(model, pictures, steps=steps, batch_size=BATCH, checkpoint=place, progress=False, threads=1,
                         precision="float32", attention="written")
            seconds[label] = time.process_time() - start
        size = path.stat().st_size / 2**20
    base = statistics.mean([seconds["without"], seconds["without again"]])
    print(f"checkpoint of {size:.1f} MiB, saved as often as `fit` likes in {steps} steps: {seconds['with'] / base - 1:+.1%} "
          f"of CPU time (two runs without differ by {seconds['without again'] / seconds['without'] - 1:+.1%})")


def probe_cost(pictures: data.Pictures) -> None:
    """Print how long `fit` takes to try threads, precision and attention (goal: under 2 s), and what it finds."""
    for name, size in (("lab_vit", 32), ("lab_cct", 32), ("vit_tiny_patch16_224", 224)):
        inputs = F.interpolate(pictures.inputs[:64], size=size)
        start = time.perf_counter()
        choices = choose_settings(models.create_model(name), inputs)
        print(f"probe of {name} at {size} px: {time.perf_counter() - start:.1f} s, the model's making counted; {choices}")


def main() -> None:
    """Print one line per model, one for checkpoints, and one for each probe, these with all threads to choose from."""
    torch.manual_seed(0)
    all_threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    print(device_name())
    pictures = data.load("shapes", count=BATCH * STEPS)
    for label, (name, arguments) in MODELS.items():
        compare(label, name, arguments, pictures)
    checkpoint_cost(pictures)
    torch.set_num_threads(all_threads)
    probe_cost(pictures)


if __name__ == "__main__":
    main()
