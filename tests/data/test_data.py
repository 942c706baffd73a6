import hashlib
import time

import numpy
import pytest
import torch

from lightvit_lab import data
from lightvit_lab.data import pictures
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
    written_out = (train.pixels[5].float() / 255 - train.mean[0]) / train.std[0]
    assert torch.allclose(inputs[0, 2], written_out[0], atol=1e-5)
    assert torch.allclose(train.normalize(train.images), train.inputs, atol=1e-5)
    assert torch.equal(inputs, train.inputs[[5, 2]]) and torch.equal(labels, train.labels[[5, 2]])


def test_a_batch_of_256_costs_little_beside_a_training_step():
    train, index = data.load("shapes", count=512), torch.arange(0, 512, 2)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        train.batch(index)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02, "ten times what it takes"


def test_shapes_are_what_is_loaded_unless_something_else_is_asked_for():
    train = data.load(count=20)
    assert data.chosen() == "shapes" and (train.name, train.title) == ("shapes", "Shapes (standard)")
    assert train.pixels.shape == (20, 3, 32, 32) and train.pixels.dtype == torch.uint8
    assert train.masks.shape == (20, 32, 32) and train.masks.dtype == torch.bool
    assert not torch.equal(train.pixels, data.load(count=20, level="hard").pixels)
    assert not torch.equal(train.pixels, data.load(split="val", count=20).pixels)
    assert torch.equal(data.load(count=30, seed=3).pixels[:20], data.load(count=20, seed=3).pixels)


def test_the_first_pictures_do_not_depend_on_the_count_but_on_the_seed():
    assert torch.equal(data.load("digits", count=10).pixels, data.load("digits").pixels[:10])
    assert not torch.equal(data.load("digits", count=10, seed=1).pixels, data.load("digits", count=10).pixels)


def test_pictures_of_the_same_seed_are_the_same_bytes_as_ever():
    digest = hashlib.sha256(data.load("digits", image_size=8, count=100).pixels.numpy().tobytes()).hexdigest()
    assert digest == "d6365fafae55dcab01d4233cc98ebb16216042abd300df2362b0f9d9c6eb5944"


@pytest.mark.parametrize("size", [7, 12, 50])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_pillows_bilinear_with_antialiasing_to_a_step_of_rounding(size, channels):
    from PIL import Image

    noise = torch.randint(0, 256, (2, channels, 32, 41), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = pictures.resize(noise, size)
    wanted = [[Image.fromarray(channel.numpy()).resize((size, size), Image.Resampling.BILINEAR) for channel in picture]
              for picture in noise]
    wanted = torch.stack([torch.stack([torch.tensor(numpy.asarray(channel)).int() for channel in picture])
                          for picture in wanted])
    assert found.shape == wanted.shape and (found.int() - wanted).abs().max() <= 1


def test_resizing_keeps_a_flat_picture_flat_and_the_mean_of_any():
    pixels = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    assert pictures.resize(pixels, 32).unique().tolist() == [77]
    small = data.load("digits", image_size=8)
    assert abs(data.load("digits", image_size=32).images.mean() - small.images.mean()) < 0.01


@pytest.mark.parametrize("arguments, words", [
    (dict(name="digit"), 'Did you mean "digits"'),
    (dict(name="digits", split="validation"), "Give one of: train, val, test"),
    (dict(name="digits", image_size=0), "4 <= image_size"),
    (dict(name="digits", count=10**6), "count <= 1295"),
    (dict(name="digits", count=0), "1 <= count"),
    (dict(name=""), "Give one of: shapes, digits, fashion_mnist, cifar10, flowers"),
    (dict(name=7), "name=7 is unknown"),
    (dict(name="digits", level="hard"), "digits has no levels"),
    (dict(name="shapes", level="harder"), 'Did you mean "hard"'),
    (dict(name="shapes", split="all"), "Give one of: train, val, test"),
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
