"""The linear model to which the shapes are compared: by hand, and as scikit-learn's ridge regression."""

import numpy
import torch
from sklearn.linear_model import Ridge

from lightvit_lab import data
from lightvit_lab.experiments.difficulty import linear_accuracy


def grey(values, labels):
    """Pictures of one grey each."""
    pixels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    return data.Pictures("made up", "train", pixels, torch.tensor(labels), ("dark", "bright"), mean, std)


def test_a_linear_model_tells_bright_from_dark_and_is_wrong_where_the_label_is():
    train = grey([10, 20, 30, 230, 240, 250] * 8, [0, 0, 0, 1, 1, 1] * 8)
    assert linear_accuracy(train, grey([0, 60, 200, 255], [0, 0, 1, 1])) == 1.0
    assert linear_accuracy(train, grey([0, 60, 200, 255], [0, 1, 1, 1])) == 0.75


def test_its_accuracy_is_that_of_the_best_of_scikit_learns_three_ridges():
    train, test = (data.load("digits", split, image_size=8) for split in ("train", "test"))
    classes = numpy.eye(10)[train.labels.numpy()]
    rows, held_out = (part.inputs.flatten(1).double().numpy() for part in (train, test))
    found = []
    for ridge in (1e2, 1e4, 1e5):
        model = Ridge(alpha=ridge, fit_intercept=False).fit(rows, classes - classes.mean(0))
        found.append((model.predict(held_out).argmax(1) == test.labels.numpy()).mean())
    assert abs(linear_accuracy(train, test) - max(found)) < 2.1 / len(test)        # float32: a picture or two on a border
    assert 0.8 < max(found) < 1
