"""What counts as the same single value, whatever type it comes in."""

import numpy
import pytest
import torch

from lightvit_lab.exercises.comparison import difference

THREE, HALF, YES = torch.tensor(3), torch.tensor(0.5), torch.tensor(True)


@pytest.mark.parametrize("given", [
    3, 3.0, numpy.int32(3), numpy.uint8(3), numpy.float64(3.0), numpy.array(3), torch.tensor(3),
    torch.tensor(3, dtype=torch.int32), torch.tensor(3, dtype=torch.uint8)])
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


@pytest.mark.parametrize("given", [None, "3", [3], (3,), torch.tensor([3]), torch.tensor(3, device="meta")])
def test_what_holds_no_single_number_is_refused_where_one_is_expected(given):
    assert difference(given, THREE, 1e-5) is not None
