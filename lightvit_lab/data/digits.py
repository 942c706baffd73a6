"""Handwritten digits, 8 x 8 pixels, 1,797 of them, that come with scikit-learn and need no download.

Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import LabError


def read(folder: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Train pixels (N, 1, 8, 8) and labels, test pixels and labels, class names; `folder` is not needed.

    The set has no official split: a fifth, drawn with a fixed seed, is the test split. The same 13 people wrote both
    parts, so the figures say nothing about new hands.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise LabError('data.load("digits"): the digits come with scikit-learn; pip install scikit-learn') from error
    found = load_digits()
    pixels = torch.from_numpy(found.images * (255 / 16)).round().byte().unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1797))
    test, train = order.tensor_split([len(order) // 5])
    return pixels[train], labels[train], pixels[test], labels[test], tuple(str(digit) for digit in range(10))
