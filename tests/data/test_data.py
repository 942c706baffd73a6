import gzip
import hashlib

import numpy
import pytest
import torch

from lightvit_lab import data
from lightvit_lab.errors import LabError


def test_digits_are_scikit_learns_and_no_picture_is_in_two_splits():
    from sklearn.datasets import load_digits

    splits = {split: data.load("digits", split, image_size=8) for split in data.SPLITS}
    seen = torch.cat([pictures.pixels for pictures in splits.values()]).flatten(1).numpy()
    known = (load_digits().images.reshape(-1, 64) * (255 / 16)).round().astype("uint8")
    assert sorted(map(bytes, seen)) == sorted(map(bytes, known))
    assert {split: len(pictures) for split, pictures in splits.items()} == {"train": 1295, "val": 143, "test": 359}


def test_inputs_are_images_normalised_by_the_training_pictures():
    train = data.load("digits", image_size=8)
    assert train.images.shape == (1295, 3, 8, 8)
    assert 0 <= train.images.min() and train.images.max() == 1
    assert train.inputs.mean().abs() < 1e-3 and abs(train.inputs.std() - 1) < 1e-3
    assert torch.equal(data.load("digits", "test", image_size=8).mean, train.mean)


def test_batch_gives_the_same_as_the_whole():
    train = data.load("digits")
    inputs, labels = train.batch(torch.tensor([5, 2]))
    assert torch.equal(inputs, train.inputs[[5, 2]]) and torch.equal(labels, train.labels[[5, 2]])


def test_the_first_pictures_do_not_depend_on_the_count_but_on_the_seed():
    assert torch.equal(data.load("digits", count=10).pixels, data.load("digits").pixels[:10])
    assert not torch.equal(data.load("digits", count=10, seed=1).pixels, data.load("digits", count=10).pixels)


def test_pictures_of_the_same_seed_are_the_same_bytes_as_ever():
    digest = hashlib.sha256(data.load("digits", image_size=8, count=100).pixels.numpy().tobytes()).hexdigest()
    assert digest == "d6365fafae55dcab01d4233cc98ebb16216042abd300df2362b0f9d9c6eb5944"


def test_resizing_keeps_a_flat_picture_flat_and_the_mean_of_any():
    pixels = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    assert data._resize(pixels, 32).unique().tolist() == [77]
    small = data.load("digits", image_size=8)
    assert abs(data.load("digits", image_size=32).images.mean() - small.images.mean()) < 0.01


@pytest.mark.parametrize("arguments, words", [
    (dict(name="digit"), 'Did you mean "digits"'),
    (dict(name="digits", split="validation"), "Give one of: train, val, test"),
    (dict(name="digits", image_size=0), "4 <= image_size"),
    (dict(name="digits", count=10**6), "count <= 1295"),
])
def test_unknown_names_and_impossible_sizes_are_refused(arguments, words):
    with pytest.raises(LabError, match=words):
        data.load(**arguments)


def test_dataset_of_a_page_comes_from_the_environment_and_is_checked(monkeypatch):
    assert data.chosen("digits") == "digits"
    monkeypatch.setenv("LIGHTVIT_DATASET", "fashion_mnist")
    assert data.chosen("digits") == "fashion_mnist"
    monkeypatch.setenv("LIGHTVIT_DATASET", "fashion_mnits")
    with pytest.raises(LabError, match='LIGHTVIT_DATASET.*Did you mean "fashion_mnist"'):
        data.chosen("digits")


def test_a_missing_data_folder_is_an_error_that_prints_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTVIT_DATA", "nowhere")
    with pytest.raises(LabError, match=f"LIGHTVIT_DATA=nowhere is no folder .resolved: {tmp_path / 'nowhere'}"):
        data.load("digits")


def test_missing_files_name_file_and_places(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path))
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LabError, match=r"train-images-idx3-ubyte.*cache.*data.load\(\"digits\"\) needs no download"):
        data.load("fashion_mnist")


def _write_idx(path, values, zip_it=True):
    raw = b"\x00\x00\x08" + bytes([values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(raw) if zip_it else raw)


@pytest.fixture
def tiny_fashion(monkeypatch, tmp_path):
    """A Fashion-MNIST of 40 + 10 pictures in torchvision's layout, in the user's cache."""
    folder = tmp_path / "cache" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = numpy.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=numpy.uint8)
    labels = numpy.arange(50, dtype=numpy.uint8) % 10
    _write_idx(folder / "train-images-idx3-ubyte", pixels[:40], zip_it=False)
    _write_idx(folder / "train-labels-idx1-ubyte.gz", labels[:40])
    _write_idx(folder / "t10k-images-idx3-ubyte.gz", pixels[40:])
    _write_idx(folder / "t10k-labels-idx1-ubyte.gz", labels[40:])
    monkeypatch.delenv("LIGHTVIT_DATA", raising=False)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "cache"))
    data._split.cache_clear()
    yield folder, pixels
    data._split.cache_clear()


def test_idx_files_are_read_zipped_or_not_from_torchvisions_layout(tiny_fashion):
    test = data.load("fashion_mnist", "test", image_size=28)
    assert len(data.load("fashion_mnist", "train")) == 36 and len(data.load("fashion_mnist", "val")) == 4
    assert sorted(map(bytes, test.pixels.numpy())) == sorted(map(bytes, tiny_fashion[1][40:]))


def test_a_cut_file_is_named_and_the_mend_said(tiny_fashion):
    file = tiny_fashion[0] / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LabError, match="train-images-idx3-ubyte is no whole IDX file.*fresh copy"):
        data.load("fashion_mnist")


def test_real_fashion_mnist_is_the_official_one(real_pictures):
    from lightvit_lab.data import fashion_mnist

    train, _, test, labels, names = fashion_mnist.read(real_pictures)
    header = b"".join(number.to_bytes(4, "big") for number in (2051, 60000, 28, 28))
    official = "f4a8712d7a061bf5bd6d2ca38dc4d50a"      # of the unzipped file, as its authors publish it
    assert hashlib.md5(header + train.numpy().tobytes()).hexdigest() == official
    assert train.shape == (60000, 1, 28, 28) and test.shape == (10000, 1, 28, 28)
    assert labels.bincount().tolist() == [1000] * 10 and names[9] == "Ankle boot"
