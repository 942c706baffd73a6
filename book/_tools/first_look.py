"""The picture of the introduction, and the one that a shared link shows.

    python book/_tools/first_look.py

writes book/_static/diagrams/first_look.svg and book/_static/preview.jpg. The zoo's teacher reads a
picture of the `shapes` whole, then with fewer patches after its first block; the words below each
panel are counted and measured here.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import diagrams
from torch import Tensor
from torch.nn.functional import max_pool2d

from lightvit_lab import checkpoint, data, profiling, training
from lightvit_lab.dynamic import token_pruning
from lightvit_lab.errors import LabError
from lightvit_lab.figures.pictures import to_bytes

PREVIEW = ROOT / "book" / "_static" / "preview.jpg"
NAME, MODEL, PICTURE, COUNT = "first_look", "zoo:lab_vit_teacher/shapes", 8, 1000
GRID, KEPT = 8, (64, 16, 4)          # patches a side; patches that stay after the first block
SIDE, FAINT, GREY = 288, 60, 128     # pixels of a panel; opacity and grey of what is left out
WIDTH, PANEL = 480, 146              # of the drawing and of a panel in it
TITLE = "The same picture with fewer and fewer patches"


class Panel(NamedTuple):
    """One panel: the patches that stay and how many of them touch the object; work and score.

    `work` is the share of the MACs, `right` the accuracy on the test pictures.
    """

    kept: tuple[int, ...]
    touching: int
    work: float
    right: float

    @property
    def words(self) -> tuple[str, str, str]:
        """The three lines below it."""
        count = len(self.kept)
        return (f"{'all ' if count == GRID**2 else ''}{count} patches",
                f"{self.work:.0%} of the work", f"{self.right:.1%} right")


def panels() -> list[Panel]:
    """Measure: the whole model, then what is left of it.

    Raises LabError if the model is wrong about the picture: it would show another thing than said.
    """
    whole, test = checkpoint.load(MODEL).eval(), data.load("shapes", "test", count=COUNT)
    picture, found = test.inputs[PICTURE:PICTURE + 1], []
    on_object = max_pool2d(test.masks[PICTURE][None].float(), 32 // GRID) > 0     # (1, 8, 8)
    for count in KEPT:
        model, kept = whole, range(GRID**2)
        if count < GRID**2:
            model = token_pruning.prune_tokens(whole, count / GRID**2, layers=(0,), fuse=False)
            kept = sorted(token_pruning.kept_patches(model, picture)[-1][0].tolist())
        if model(picture).argmax() != test.labels[PICTURE]:
            raise LabError(f"first_look: with {count} patches the model does not know picture "
                           f"{PICTURE}; choose another")
        work = profiling.count(model, (3, 32, 32)).macs / profiling.count(whole, (3, 32, 32)).macs
        touching = int(on_object.flatten()[list(kept)].sum())
        found.append(Panel(tuple(kept), touching, work, training.evaluate(model, test).accuracy))
    return found


def drawn(image: Tensor, kept: Sequence[int]) -> Image.Image:
    """A picture cut into patches; those that are left out are faint, so that the page shows."""
    pixels, size = to_bytes(image), SIDE // GRID
    out = numpy.zeros((SIDE, SIDE, 4), dtype=numpy.uint8)
    for place in range(GRID**2):
        top, left = (size * at + 1 for at in divmod(place, GRID))
        patch = numpy.s_[top:top + size - 2, left:left + size - 2]
        out[patch] = (GREY, GREY, GREY, FAINT)
        if place in kept:
            out[patch] = numpy.dstack([pixels[patch], numpy.full((size - 2, size - 2), 255)])
    return Image.fromarray(out)


def drawing(found: Sequence[Panel], pictures: Sequence[Image.Image]) -> str:
    """The SVG, in the style of the other drawings."""
    style = re.search(r"  <style>.*?</style>\n", _another(), re.DOTALL)[0]
    step, height = (WIDTH - PANEL - 8) / (len(found) - 1), PANEL + 74
    body = []
    for index, (panel, picture) in enumerate(zip(found, pictures)):
        left, middle = 4 + round(index * step), 4 + round(index * step) + PANEL // 2
        body.append(f'  <image x="{left}" y="4" width="{PANEL}" height="{PANEL}" '
                    f'href="{_uri(picture)}"/>\n')
        for line, words in enumerate(panel.words):
            bold = ' class="bold"' if line == 0 else ""
            body.append(f'  <text{bold} x="{middle}" y="{PANEL + 24 + 20 * line}">'
                        f'{escape(words)}</text>\n')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="lab-diagram" role="img" '
            f'width="{WIDTH}" height="{height}"\n     viewBox="0 0 {WIDTH} {height}" '
            f'aria-labelledby="{NAME}-title {NAME}-desc">\n'
            f'  <title id="{NAME}-title">{TITLE}</title>\n'
            f'  <desc id="{NAME}-desc">{escape(description(found))}</desc>\n'
            f'{style}{"".join(body)}</svg>\n')


def description(found: Sequence[Panel]) -> str:
    """What is to be seen, for who cannot see it."""
    few = "; ".join(f"with {len(panel.kept)} of them it does {panel.work:.0%} of the work and is "
                    f"right for {panel.right:.1%}" for panel in found[1:])
    where = ", ".join(f"{panel.touching} of {len(panel.kept)}" for panel in found[1:])
    return (f"Three times the picture of a yellow striped triangle, cut into {GRID} by {GRID} "
            f"patches. With all {GRID**2} patches a trained model is right for "
            f"{found[0].right:.1%} of {COUNT:,} test pictures; {few}. Of the patches that stay in "
            f"this picture, {where} touch the triangle.")


def preview(found: Sequence[Panel], pictures: Sequence[Image.Image]) -> Image.Image:
    """The picture of a shared link, 1200 x 630: the book's name and the panels."""
    card = Image.new("RGB", (1200, 630), "white")
    pen, middle = ImageDraw.Draw(card), 600
    for text, size, y in (("LightViT Lab", 68, 66),
                          ("Make Vision Transformers lighter, and measure what it costs", 34, 132)):
        pen.text((middle, y), text, "#222222", ImageFont.load_default(size), anchor="mm")
    for index, (panel, picture) in enumerate(zip(found, pictures)):
        left = 96 + 360 * index
        card.paste(picture, (left, 180), picture)
        for line, words in enumerate(panel.words):
            pen.text((left + SIDE // 2, 502 + 40 * line), words, "#222222" if line else "#0072B2",
                     ImageFont.load_default(32), anchor="mm")
    return card


def _another() -> str:
    return (diagrams.FOLDER / "vision_transformer.svg").read_text(encoding="utf-8")


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def main() -> int:
    """Write both files."""
    image = data.load("shapes", "test", count=PICTURE + 1, image_size=SIDE).images[PICTURE]
    found = panels()
    pictures = [drawn(image, panel.kept) for panel in found]
    path = diagrams.FOLDER / f"{NAME}.svg"
    path.write_text(drawing(found, pictures), encoding="utf-8")
    preview(found, pictures).save(PREVIEW, quality=88)
    for panel in found:
        print(", ".join(panel.words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
