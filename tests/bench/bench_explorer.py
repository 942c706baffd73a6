"""How long a reader waits in the live attention box: another block, head or patch, and a picture of their own.

    python tests/bench/bench_explorer.py [--model lab_vit] [--rounds 40]

Prints median and 90th percentile in milliseconds, updates and new pictures in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median, quantiles

import torch
from PIL import Image

from lightvit_lab import data, models
from lightvit_lab.runtime import device_name
from lightvit_lab.widgets import attention_explorer, attention_views


def own_picture(seed: int) -> dict:
    """A JPEG of 1600 x 1200 pixels, as the upload button hands it over."""
    pixels = torch.randint(0, 256, (1200, 1600, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG")
    return {"name": f"own_{seed}.jpg", "type": "image/jpeg", "size": file.tell(), "content": memoryview(file.getvalue()),
            "last_modified": datetime.now(UTC)}


def milliseconds(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):     # figures print themselves where there is no notebook
        act()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lab_vit")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, pictures = models.create_model(options.model), data.load("shapes", "test", count=4)
    box, views = attention_explorer(model, pictures), attention_views(model, pictures)
    box.class_token.value = False
    files = [own_picture(seed) for seed in range(options.rounds)]
    waits: dict[str, list[float]] = {name: [] for name in ("patch", "block", "method", "view", "own picture")}
    for turn in range(options.rounds):
        waits["patch"].append(milliseconds(lambda: setattr(box.column, "value", turn % 7)))
        waits["block"].append(milliseconds(lambda: setattr(box.block, "value", turn % 2)))
        waits["method"].append(milliseconds(lambda: setattr(box.method, "value", box.method.options[turn % 2])))
        waits["view"].append(milliseconds(lambda: setattr(views.view, "value", views.view.options[turn % 3])))
        waits["own picture"].append(milliseconds(lambda: setattr(box.upload, "value", (files[turn],))))
    print(f"{options.model}, 1 thread, {device_name()}")
    for name, times in waits.items():
        print(f"{name:12} median {median(times):6.1f} ms, 90 % within {quantiles(times, n=10)[-1]:6.1f} ms")


if __name__ == "__main__":
    main()
