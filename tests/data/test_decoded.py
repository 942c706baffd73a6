import errno
import multiprocessing
import os
import time
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lightvit_lab import data
from lightvit_lab.data import decoded, images
from lightvit_lab.errors import LabError


def copies(cache: Path) -> list[Path]:
    return sorted((cache / "decoded").glob("*.safetensors"))


def load_afresh(*arguments, **keywords) -> data.Pictures:
    """What a new process would get."""
    data._read.cache_clear()
    return data.load(*arguments, **keywords)


def same(one: data.Pictures, other: data.Pictures) -> bool:
    return torch.equal(one.pixels, other.pixels) and torch.equal(one.inputs, other.inputs) and one.title == other.title


def test_pictures_are_decoded_once_and_the_copy_gives_the_same(pets, cache, monkeypatch):
    first = data.load(pets, image_size=8)
    monkeypatch.setattr(images, "_decode", lambda *arguments: pytest.fail("decoded again"))
    assert same(load_afresh(pets, image_size=8), first) and len(copies(cache)) == 1
    assert os.stat(copies(cache)[0]).st_mode & 0o444 == 0o444, "others cannot read a shared cache"


@pytest.mark.parametrize("damage", [
    lambda raw: raw[:-100], lambda raw: raw[:40], lambda raw: b"",
    lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], lambda raw: raw.replace(b"dog", b"dag"),
], ids=["cut", "cut in the header", "empty", "one bit in the tensors", "one letter in the header"])
def test_a_damaged_copy_is_noticed_and_made_anew(pets, cache, damage):
    first = data.load(pets, image_size=8)
    copy = copies(cache)[0]
    copy.write_bytes(damage(copy.read_bytes()))
    assert decoded._open(copy) is None
    again = load_afresh(pets, image_size=8)
    assert same(again, first) and again.class_names == ("cat", "dog") and decoded._open(copy) is not None


def test_the_copy_follows_the_files_and_leaves_no_outdated_one(pets, cache, picture):
    data.load(pets, image_size=8)
    for number in range(6):
        (pets / "train" / "cat" / f"{number}.png").write_bytes(picture((0, 250, 0)))
    assert load_afresh(pets, image_size=8).pixels[:, 1].max() == 250
    assert len(copies(cache)) == 1


def test_other_sizes_and_other_folders_have_their_own_copies(pets, cache):
    data.load(pets, image_size=8), data.load(pets, image_size=16), data.load(pets / "train", image_size=8)
    assert len(copies(cache)) == 3


def refuse_write(*arguments, **keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("spoil, why", [
    (lambda patch, cache: cache.write_text("in the way"), "exists|Not a directory"),
    (lambda patch, cache: patch.setattr(decoded, "acquire", lambda path: (_ for _ in ()).throw(
        PermissionError(errno.EROFS, "Read-only file system"))), "Read-only file system"),
    (lambda patch, cache: patch.setattr("safetensors.torch.save_file", refuse_write), "No space left"),
    (lambda patch, cache: patch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 10})),
     "No space left"),
], ids=["file in the way", "read-only", "full while writing", "full before"])
def test_a_cache_that_cannot_be_written_costs_only_the_copy_and_one_warning(pets, cache, monkeypatch, spoil, why):
    spoil(monkeypatch, cache)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(data.load(pets, "test", image_size=8)) == 4
    assert len(caught) == 1 and "set LIGHTVIT_CACHE" in str(caught[0].message)
    with pytest.warns(UserWarning, match=why):
        load_afresh(pets, image_size=8)
    assert cache.is_file() or not list(cache.glob("decoded/*.partial")) and not copies(cache)


@pytest.mark.parametrize("labels, words", [
    ([0, 2], "labels from 0 to 2, its 2 classes are 0 to 1"), ([-1, 0], "labels from -1"),
    ([0], "2 pictures with 1 labels"), ([1, 1], "made up has 2 pictures in a part, all of class 'b'"),
])
def test_labels_that_do_not_fit_the_pictures_are_refused(labels, words):
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    parts = decoded.Parts(pixels, torch.tensor([0, 1]), pixels, torch.tensor(labels), ("a", "b"), "Made up")
    with pytest.raises(LabError, match=words):
        decoded.read(decoded.Source("made up", (), lambda: parts), "")


def test_moments_are_those_of_the_pixels_as_floats():
    pixels = torch.randint(0, 256, (700, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = decoded.moments(pixels, torch.arange(600))
    assert decoded.moments(torch.full((9, 1, 2, 2), 7, dtype=torch.uint8), torch.arange(9))[1].min() > 0
    values = pixels[:600].transpose(0, 1).flatten(1).double() / 255
    assert torch.allclose(mean.double(), values.mean(1), atol=1e-7)
    assert torch.allclose(std.double(), values.std(1), atol=1e-7)


def decode_and_hang(folder: Path, module, name: str, after: bool) -> None:
    """Load in this process, but hang for ever in the function `name`, before or after it does its work."""
    real = getattr(module, name)

    def hanging(*arguments, **keywords):
        if after:
            real(*arguments, **keywords)
        (folder.parent / "reached").touch()
        time.sleep(600)

    setattr(module, name, hanging)
    data.load(folder, image_size=8)


@pytest.mark.parametrize("module, name, after", [(images, "_decode", False), (safetensors.torch, "save_file", True)])
def test_a_kill_in_the_middle_of_a_decode_heals_at_the_next_call(pets, cache, module, name, after):
    child = multiprocessing.get_context("fork").Process(target=decode_and_hang, args=(pets, module, name, after))
    child.start()
    deadline = time.time() + 20
    while not (pets.parent / "reached").exists():
        assert time.time() < deadline
        time.sleep(0.01)
    child.kill()                                            # SIGKILL
    child.join()
    assert not copies(cache) and bool(list(cache.glob("decoded/*.partial"))) == after
    started = time.time()
    assert len(data.load(pets, "test", image_size=8)) == 4 and time.time() - started < 10, "waits for a dead process"
    assert len(copies(cache)) == 1 and not list(cache.glob("decoded/*.partial"))
