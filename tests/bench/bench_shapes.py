"""How fast the default pictures are drawn, on one core: `make bench` prints pictures a second for each level and size."""

import time

from lightvit_lab.data import shapes
from lightvit_lab.runtime import cpu_name


def seconds(level: str, image_size: int, count: int, rounds: int = 3) -> float:
    """Least time of a few rounds, in seconds of processor time: the drawing runs in one thread."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        shapes.read("train", image_size, count, level=level)
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Print one line per level and size."""
    print(f"shapes on one core of {cpu_name()}")
    for level in shapes.LEVELS:
        took = seconds(level, 32, 10_000)
        print(f"    {level}: 10,000 pictures of 32 px in {took:.1f} s, {10_000 / took:,.0f} a second (goal: under 5 s)")
    for image_size in (64, 224):
        took = seconds("standard", image_size, 200)
        print(f"    standard, {image_size} px: {200 / took:,.0f} a second")


if __name__ == "__main__":
    main()
