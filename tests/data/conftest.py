"""An empty cache for every test of this folder, no network, and pictures made up on the spot."""

import io

import numpy
import pytest
from PIL import Image

from lightvit_lab import data


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path, request):
    """The user's cache of this test: a folder that does not exist yet. LIGHTVIT_DATA is for `real_pictures` alone."""
    data._read.cache_clear()
    if "real_pictures" not in request.fixturenames:
        monkeypatch.delenv("LIGHTVIT_DATA", raising=False)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIGHTVIT_OFFLINE", "1")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "cache"
    data._read.cache_clear()


@pytest.fixture
def picture():
    """`picture(colour, width, height, kind)`: the bytes of a picture file of one colour."""
    def make(colour=(200, 30, 30), width=24, height=16, kind="PNG"):
        file = io.BytesIO()
        Image.fromarray(numpy.full((height, width, 3), colour, dtype=numpy.uint8)).save(file, kind)
        return file.getvalue()
    return make


@pytest.fixture
def pets(tmp_path, picture):
    """A folder of 12 training and 4 test pictures in two classes: cats are red, dogs are blue."""
    colours = {"cat": (250, 0, 0), "dog": (0, 0, 250)}
    for split, count in (("train", 6), ("test", 2)):
        for name, colour in colours.items():
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "pets" / split / name / f"{number}.png").write_bytes(picture(colour))
    return tmp_path / "pets"
