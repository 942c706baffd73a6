"""1,797 handwritten digits, 8 x 8 pixels, that come with scikit-learn and need no download.

Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC
BY 4.0.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from ..errors import LabError
from .decoded import Parts, Source


def find() -> Source:
    """The package of scikit-learn in place of the file in it: importing it would take long.

    Raises LabError if it is not installed.
    """
    package = find_spec("sklearn")
    if package is None:
        raise LabError("data.load: digits come with scikit-learn; pip install scikit-learn")
    return Source("digits", (Path(package.origin),), _read)


def _read() -> Parts:
    """The set has no official split: a fifth, drawn with a fixed seed, is the test part.

    The same 13 people wrote both parts, so the figures say nothing about new hands.
    """
    from sklearn.datasets import load_digits
    digits = load_digits()
    pixels = torch.from_numpy(digits.images * (255 / 16)).round().byte().unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1797))
    test, train = order.tensor_split([len(order) // 5])
    return Parts(pixels[train], labels[train], pixels[test], labels[test], tuple("0123456789"),
                 "Digits")
