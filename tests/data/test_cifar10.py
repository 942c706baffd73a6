import hashlib
import io
import os
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile

import numpy
import pytest
import torch
from PIL import Image

from lightvit_lab import data
from lightvit_lab.data import cifar10
from lightvit_lab.data.download import Remote
from lightvit_lab.errors import LabError

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture
def batches():
    """Six batches of 10 pictures: pixels (10, 3072) of random bytes, and each label once."""
    random = numpy.random.default_rng(0)
    return {name: (random.integers(0, 256, (10, 3072), dtype=numpy.uint8), random.permutation(10)) for name in BATCHES}


def expected(batches, names):
    """The pictures as a set of (label, bytes)."""
    return {(int(label), row.tobytes()) for name in names for row, label in zip(*batches[name])}


def found(*pictures):
    return {(int(label), row.numpy().tobytes()) for part in pictures for row, label in zip(part.pixels, part.labels)}


def check_against(batches):
    test, train, val = (data.load("cifar10", split) for split in ("test", "train", "val"))
    assert found(test) == expected(batches, BATCHES[5:])
    assert found(train, val) == expected(batches, BATCHES[:5]) and (len(train), len(val)) == (45, 5)
    assert train.title == "CIFAR-10" and train.class_names[0] == "airplane" and train.pixels.shape[1:] == (3, 32, 32)


@pytest.fixture
def torchvisions(batches, tmp_path, monkeypatch):
    """torchvision's layout in LIGHTVIT_DATA."""
    folder = tmp_path / "sets" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches.items():
        batch = {"data": pixels, "labels": labels.tolist(), "batch_label": name, "filenames": ["a.png"] * 10}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path / "sets"))
    return folder


def test_torchvisions_pickles_are_read(torchvisions, batches):
    check_against(batches)


def test_pickles_with_the_old_name_of_numpys_module_are_read(torchvisions, batches):
    for file in torchvisions.iterdir():
        file.write_bytes(file.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    check_against(batches)


def test_a_pickle_that_would_run_a_command_is_refused(torchvisions, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (torchvisions / "data_batch_3").write_bytes(pickle.dumps({"data": Trap(), "labels": []}))
    with pytest.raises(LabError, match="data_batch_3 cannot be read .*system, which no array needs"):
        data.load("cifar10")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content, words", [
    (b"", "EOFError"), (b"<html>", "cannot be read"), (pickle.dumps([1]), "TypeError"),
    (pickle.dumps({"data": [1, 2], "labels": [1]}), "cannot reshape array of size 2"),
])
def test_a_broken_batch_is_named(torchvisions, content, words):
    (torchvisions / "test_batch").write_bytes(content)
    with pytest.raises(LabError, match=f"test_batch cannot be read .*{words}|test_batch {words}"):
        data.load("cifar10", "test")


def test_a_missing_batch_is_named(torchvisions):
    (torchvisions / "data_batch_2").unlink()
    with pytest.raises(LabError, match="data_batch_2 is missing"):
        data.load("cifar10")


def test_labels_beyond_the_ten_classes_are_refused(torchvisions, batches):
    batch = {"data": batches["test_batch"][0], "labels": [10] * 5 + [0] * 5}
    (torchvisions / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(LabError, match="labels from 0 to 10, its 10 classes are 0 to 9"):
        data.load("cifar10")


@pytest.fixture
def archive(batches, cache, monkeypatch):
    """The official binary archive, as small as the batches, in the cache."""
    path = cache / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, (pixels, labels) in batches.items():
            content = numpy.concatenate([labels.astype(numpy.uint8)[:, None], pixels], 1).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE", Remote(path.name, (), digest, path.stat().st_size))
    return path


def test_the_official_archive_is_read(archive, batches):
    check_against(batches)


def test_an_archive_of_another_hash_is_refused_and_the_mend_said(archive):
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(LabError, match="is not the published cifar-10-binary.tar.gz .*delete it"):
        data.load("cifar10")


def test_what_is_nowhere_and_cannot_be_downloaded_says_where_to_put_it(cache):
    words = r"cifar-10-binary.tar.gz \(162.2 MiB\).*cs.toronto.edu.*cache/cifar10/cifar-10-binary"
    with pytest.raises(LabError, match=words):
        data.load("cifar10")


@pytest.fixture
def copy(batches, tmp_path, monkeypatch):
    """The copy as JPEG files in LIGHTVIT_DATA; pictures are flat, so that JPEG keeps them."""
    folder = tmp_path / "sets" / "cifar10_jpeg"
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("test", 20)):
        files = [io.BytesIO() for _ in range(count)]
        for number, file in enumerate(files):
            Image.new("RGB", (32, 32), (number, number, number)).save(file, "JPEG")
        contents = [numpy.frombuffer(file.getvalue(), dtype=numpy.uint8) for file in files]
        ends = numpy.cumsum([0, *(len(content) for content in contents)])
        numpy.savez(folder / f"cifar10_{part}_jpeg.npz", data=numpy.concatenate(contents), offsets=ends,
                    labels=(numpy.arange(count) % 10).astype(numpy.uint8), numbers=numpy.arange(count))
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path / "sets"))
    return folder


def test_the_jpeg_copy_is_read_and_says_what_it_is(copy):
    test = data.load("cifar10", "test")
    assert test.title == "CIFAR-10 (JPEG copy)" and len(test) == 20
    assert torch.equal(test.pixels[:, 0, 5, 5] % 10, test.labels.byte())


def test_a_cut_copy_is_named(copy):
    file = copy / "cifar10_train_jpeg.npz"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(LabError, match="cifar10_train_jpeg.npz cannot be read"):
        data.load("cifar10")


def test_a_broken_picture_of_the_copy_is_named(copy):
    file = copy / "cifar10_test_jpeg.npz"
    held = dict(numpy.load(file))
    held["data"][held["offsets"][7] : held["offsets"][8]] = 0
    numpy.savez(file, **held)
    with pytest.raises(LabError, match="picture 7 in .*cifar10_test_jpeg.npz is no picture"):
        data.load("cifar10", "test")


def hostile(values, shape=None, kind="|u1", version=b"\1\0"):
    """The bytes of an npy file whose header says what it likes."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape or (len(values),)}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + bytes(values)


HOSTILE = {     # what is wrong -> (member of the file, its bytes)
    "a bomb": ("data", hostile(bytes(2**22))),
    "terabytes in a header": ("data", hostile(bytes(4), (2**42,))),
    "another version": ("data", hostile(bytes(4), version=b"\2\0")),
    "a pickle": ("data", hostile(pickle.dumps([1]), (1,), "|O")),
    "a square": ("labels", hostile(bytes(4), (2, 2))),
    "millions of pictures": ("labels", hostile(bytes(10**6))),
    "offsets that run back": ("offsets", hostile(struct.pack("<21q", *range(20), 3), (21,), "<i8")),
    "an offset too far": ("offsets", hostile(struct.pack("<21q", *range(20), 10**9), (21,), "<i8")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_copy_is_refused_in_a_sentence_and_takes_no_memory(copy, what, monkeypatch):
    file, (name, content) = copy / "cifar10_test_jpeg.npz", HOSTILE[what]
    with zipfile.ZipFile(file) as archive:
        held = {member: archive.read(member) for member in archive.namelist()} | {f"{name}.npy": content}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, bytes_of in held.items():
            archive.writestr(member, bytes_of)
    monkeypatch.setattr(cifar10, "LARGEST", 2**20)
    tracemalloc.start()
    with pytest.raises(LabError, match="cifar10_test_jpeg.npz cannot be read .*; put a whole copy there"):
        data.load("cifar10", "test")
    assert tracemalloc.get_traced_memory()[1] < 3 * 2**20, "the bomb unpacks to 4 MiB"
    tracemalloc.stop()


def test_a_batch_that_names_more_than_its_file_holds_is_refused(torchvisions):
    class Endless:
        def __reduce__(self):
            return numpy.ndarray, ((2**13, 3072), numpy.dtype("u1"))

    (torchvisions / "test_batch").write_bytes(pickle.dumps({"data": Endless(), "labels": [0] * 2**13}))
    with pytest.raises(LabError, match="test_batch cannot be read .*25,165,824 bytes, more than"):
        data.load("cifar10", "test")


def test_exact_pictures_go_before_the_lossy_copy(copy, torchvisions):
    assert data.load("cifar10").title == "CIFAR-10"


def test_all_real_pictures_are_decoded_once_and_the_next_load_takes_under_a_second(real_pictures):
    train = data.load("cifar10")
    test = data.load("cifar10", "test")
    assert (len(train), len(data.load("cifar10", "val")), len(test)) == (45000, 5000, 10000)
    assert test.labels.bincount().tolist() == [1000] * 10
    published = torch.tensor([0.4914, 0.4822, 0.4465])      # of the original training pictures, as is often quoted
    assert torch.allclose(train.mean, published, atol=0.002)
    data._read.cache_clear()
    started = time.perf_counter()
    again = data.load("cifar10")
    assert time.perf_counter() - started < 10, "ten times what it takes"
    assert torch.equal(again.pixels, train.pixels) and torch.equal(again.mean, train.mean)
