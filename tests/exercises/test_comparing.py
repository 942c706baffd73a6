"""What counts as the same single value, whatever type it comes in."""

from decimal import Decimal
from fractions import Fraction

import numpy
import pytest
import torch

from lightvit_lab.exercises.comparison import difference
from lightvit_lab.exercises.conversion import remark

THREE, HALF, YES = torch.tensor(3), torch.tensor(0.5), torch.tensor(True)


@pytest.mark.parametrize("given", [
    3, 3.0, numpy.int32(3), numpy.uint8(3), numpy.float64(3.0), numpy.array(3), torch.tensor(3),
    torch.tensor(3, dtype=torch.int32), torch.tensor(3, dtype=torch.uint8), torch.tensor([3]), torch.tensor([[3.0]]),
    numpy.array([3]), Fraction(3), Decimal(3), 3 + 0j])
def test_a_whole_number_of_any_kind_is_the_integer_that_is_expected(given):
    assert difference(given, THREE, 1e-5) is None
    assert difference(given, 3, 1e-5) is None and difference(given, numpy.int64(3), 1e-5) is None


@pytest.mark.parametrize("given", [
    3.7, 3.2, 2.999999, numpy.float32(3.5), 4, numpy.int64(2), torch.tensor(4, dtype=torch.int32), float("nan"),
    float("inf"), 2**70])
def test_a_fraction_or_another_number_is_not_the_integer_that_is_expected(given):
    found = difference(given, THREE, 1e-5)
    assert found is not None and ("expected 3" in found.text or "NaN" in found.text)


@pytest.mark.parametrize("expected", [torch.tensor(1), torch.tensor(1.0), 1, 1.0, numpy.int64(1), numpy.float32(1)])
@pytest.mark.parametrize("given", [True, numpy.True_, torch.tensor(True)])
def test_true_is_not_the_number_1(given, expected):
    assert "bool" in difference(given, expected, 1e-5).text


def test_a_truth_value_is_a_bool_and_no_number():
    assert difference(True, YES, 0.0) is difference(numpy.True_, YES, 0.0) is difference(YES, YES, 0.0) is None
    assert difference(False, YES, 0.0) and difference(numpy.False_, YES, 0.0)
    for number in (1, 7, 1.0, numpy.int64(1), torch.tensor(1)):
        assert difference(number, YES, 0.0) is not None


@pytest.mark.parametrize("given", [0.5, numpy.float64(0.5), numpy.float32(0.5), numpy.array(0.5), 0.5000001])
def test_a_fraction_of_python_or_numpy_is_the_single_float_that_is_expected(given):
    assert difference(given, HALF, 1e-5) is None and difference(given, 0.5, 1e-5) is None
    assert difference(given, torch.tensor(0.6), 1e-5) is not None


@pytest.mark.parametrize("given", [None, "3", [3], (3,), torch.tensor([3, 3]), torch.tensor([]), torch.tensor(3, device="meta")])
def test_what_holds_no_single_number_is_refused_where_one_is_expected(given):
    assert difference(given, THREE, 1e-5) is not None


ROW, WHOLE, MASK = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0, 1, 1]), torch.tensor([False, True, True])


@pytest.mark.parametrize("expected", [ROW, ROW.double(), WHOLE, WHOLE.int(), MASK])
@pytest.mark.parametrize("given", [ROW, ROW.double(), ROW.half(), WHOLE, WHOLE.int(), MASK, ROW.numpy(), MASK.numpy(),
                                   [0, 1, 1], (0.0, 1.0, 1.0), list(ROW), ROW.to_sparse(), ROW.to(torch.complex64)])
def test_equal_numbers_agree_whatever_types_hold_them_and_others_never(given, expected):
    assert difference(given, expected, 1e-5) is None
    assert difference(given, 1 - expected.to(torch.uint8), 1e-5) is not None
    assert difference(given, expected[:2], 1e-5) is not None
    typed = isinstance(given, torch.Tensor) and given.dtype == expected.dtype
    assert (remark(given, expected) == "") is typed


def test_rows_stand_for_the_parts_of_a_list_and_are_remarked():
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    assert difference(torch.stack(parts), parts, 1e-5) is None and difference(torch.ones(2), (1.0, 1), 1e-5) is None
    assert difference(torch.stack(parts[::-1]), parts, 1e-5) is not None
    assert "list" in remark(torch.stack(parts), parts)


@pytest.mark.parametrize("given", [2.5, "words", [1.0, "x", 1.0], [[0.0, 1.0], [1.0]], numpy.array(["a", "b", "c"]),
                                   {0: 1.0}, 2**2000, [object()] * 3, torch.tensor([float("nan"), 1, 1]), 2j], ids=lambda given: type(given).__name__)
def test_what_cannot_be_numbers_of_that_shape_is_refused_in_words(given):
    assert difference(given, ROW, 1e-5).text and difference(given, 2.0, 1e-5).text


def test_imaginary_parts_count():
    assert difference(ROW.to(torch.complex64) + 1j, ROW, 1e-5) is not None


def test_words_agree_whatever_their_capitals():
    assert difference({"A": " No Scale"}, {"A": "no scale"}, 0.0) is None
    assert difference({"A": "no scales"}, {"A": "no scale"}, 0.0) is not None
