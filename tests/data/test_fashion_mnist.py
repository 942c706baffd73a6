import gzip
import hashlib
import time

import numpy
import pytest

from lightvit_lab import data
from lightvit_lab.data import fashion_mnist
from lightvit_lab.errors import LabError


def _write_idx(path, values, zip_it=True):
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    raw = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
    path.write_bytes(gzip.compress(raw) if zip_it else raw)


@pytest.fixture
def tiny_fashion(cache):
    """A Fashion-MNIST of 40 + 10 pictures in torchvision's layout, in the user's cache."""
    folder = cache / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = numpy.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=numpy.uint8)
    labels = numpy.arange(50, dtype=numpy.uint8) % 10
    _write_idx(folder / "train-images-idx3-ubyte", pixels[:40], zip_it=False)
    _write_idx(folder / "train-labels-idx1-ubyte.gz", labels[:40])
    _write_idx(folder / "t10k-images-idx3-ubyte.gz", pixels[40:])
    _write_idx(folder / "t10k-labels-idx1-ubyte.gz", labels[40:])
    return folder, pixels


def test_idx_files_are_read_zipped_or_not_from_torchvisions_layout(tiny_fashion):
    test = data.load("fashion_mnist", "test", image_size=28)
    assert len(data.load("fashion_mnist", "train")) == 36 and len(data.load("fashion_mnist", "val")) == 4
    assert sorted(map(bytes, test.pixels.numpy())) == sorted(map(bytes, tiny_fashion[1][40:]))


def test_a_cut_file_is_named_and_the_mend_said(tiny_fashion):
    file = tiny_fashion[0] / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LabError, match="train-images-idx3-ubyte is no whole IDX file.*fresh copy"):
        data.load("fashion_mnist")


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"])
def test_a_cut_zipped_file_is_named(tiny_fashion, name):
    file = tiny_fashion[0] / name
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(LabError, match=f"{name} is no whole IDX file"):
        data.load("fashion_mnist")


def test_a_zipped_file_that_unpacks_to_gigabytes_is_refused_at_a_bound(tiny_fashion):
    part = gzip.compress(bytes(2**24))
    (tiny_fashion[0] / "train-labels-idx1-ubyte.gz").write_bytes(part * 1000)       # 16 GiB in 16 MB
    started = time.process_time()
    with pytest.raises(LabError, match="train-labels-idx1-ubyte.gz is no whole IDX file"):
        data.load("fashion_mnist")
    assert time.process_time() - started < 5


def test_images_in_place_of_labels_are_refused(tiny_fashion):
    folder = tiny_fashion[0]
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(LabError, match="t10k-labels-idx1-ubyte.gz is no whole IDX file"):
        data.load("fashion_mnist")


def test_labels_of_another_count_or_beyond_the_ten_classes_are_refused(tiny_fashion):
    labels = tiny_fashion[0] / "t10k-labels-idx1-ubyte.gz"
    _write_idx(labels, numpy.arange(9, dtype=numpy.uint8))
    with pytest.raises(LabError, match="10 pictures with 9 labels"):
        data.load("fashion_mnist")
    _write_idx(labels, numpy.arange(1, 11, dtype=numpy.uint8))
    with pytest.raises(LabError, match="labels from 1 to 10, its 10 classes are 0 to 9"):
        data.load("fashion_mnist")


def test_a_file_that_lies_nowhere_is_named_with_where_to_put_it(tiny_fashion, cache):
    (tiny_fashion[0] / "train-labels-idx1-ubyte.gz").unlink()
    words = f"train-labels-idx1-ubyte.gz.*{cache}/fashion_mnist/train-labels.*needs no download"
    with pytest.raises(LabError, match=words):
        data.load("fashion_mnist")


def test_real_fashion_mnist_is_the_official_one(real_pictures):
    parts = fashion_mnist.find().read()
    header = b"".join(number.to_bytes(4, "big") for number in (2051, 60000, 28, 28))
    official = "f4a8712d7a061bf5bd6d2ca38dc4d50a"      # of the unzipped file, as its authors publish it
    assert hashlib.md5(header + parts.train_pixels.numpy().tobytes()).hexdigest() == official
    assert parts.train_pixels.shape == (60000, 1, 28, 28) and parts.test_pixels.shape == (10000, 1, 28, 28)
    assert parts.test_labels.bincount().tolist() == [1000] * 10 and parts.class_names[9] == "Ankle boot"


def test_real_files_have_the_hashes_that_downloads_are_verified_by(real_pictures):
    for file in fashion_mnist.find().files:
        assert hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest() == fashion_mnist.FILES[file.name.split("-idx")[0]][0]


def test_the_next_load_of_the_real_set_takes_under_a_second(real_pictures):
    first = data.load("fashion_mnist", image_size=28)
    data._read.cache_clear()
    started = time.perf_counter()
    assert data.load("fashion_mnist", image_size=28).pixels.equal(first.pixels)
    assert time.perf_counter() - started < 10, "ten times what it takes"
