"""What crosses between grader and notebook arrives as it was, and nothing sent can harm who reads it."""

import json
import socket
import struct
import time
from fractions import Fraction

import numpy
import pytest
import torch

from lightvit_grader.wire import LIMIT, Channel, Closed, Late, decode, encode
from lightvit_lab.exercises import all_exercises
from lightvit_lab.exercises.comparison import difference


def there_and_back(value):
    tensors = {}
    return decode(json.loads(json.dumps(encode(value, tensors))), tensors)


@pytest.mark.parametrize("exercise", [each for each in all_exercises() if each.cases], ids=lambda each: each.id)
def test_the_cases_of_every_exercise_cross_unchanged(exercise):
    for case in exercise.cases(torch.Generator().manual_seed(1)):
        arrived = there_and_back(case)
        assert type(arrived) is tuple and difference(arrived, case, 0.0) is None
        assert [type(part) for part in arrived] == [type(part) for part in case]


@pytest.mark.parametrize("value", [
    1, -2.5, float("inf"), True, None, "text", ..., [1, (2, [3])], {"a": (1,), 3: None},
    torch.tensor(3), torch.zeros(0, 2), torch.randn(2, 3).T, torch.tensor([True, False]),
    torch.ones(3, dtype=torch.bfloat16), torch.ones(2, 2).expand(3, 2, 2), torch.randn(3, requires_grad=True)])
def test_values_of_all_kinds_cross_with_type_shape_and_dtype(value):
    arrived = there_and_back(value)
    assert type(arrived) is type(value) and getattr(arrived, "dtype", None) == getattr(value, "dtype", None)
    assert arrived is value if value is ... else difference(arrived, value, 0.0) is None


@pytest.mark.parametrize("value, name", [
    (object(), "object"), (torch.nn.Linear(1, 1), "Linear"), ({1, 2}, "set"),
    (torch.zeros(2, device="meta"), "Tensor"), (torch.eye(2).to_sparse(), "Tensor")])
def test_what_cannot_cross_arrives_as_an_empty_thing_of_its_name(value, name):
    assert type(there_and_back(value)).__name__ == name


def test_numbers_of_numpy_cross_as_numbers():
    assert there_and_back(numpy.float32(2.5)) == 2.5 == there_and_back(numpy.float64(2.5)) and there_and_back(numpy.array(4)) == 4
    assert there_and_back(Fraction(5, 2)) == 2.5


def test_arrays_of_numpy_cross_as_tensors_with_shape_and_dtype():
    arrived = there_and_back((numpy.array([4]), numpy.eye(3)[::-1]))
    assert [part.dtype for part in arrived] == [torch.int64, torch.float64]
    assert arrived[0].tolist() == [4] and torch.equal(arrived[1], torch.eye(3).flip(0).double())


def test_a_list_in_itself_is_cut_off_instead_of_followed_for_ever():
    endless = []
    endless.append(endless)
    assert there_and_back(endless)


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    yield one, Channel(other, time.monotonic() + 0.5)
    one.close()
    other.close()


HEAD = struct.Struct(">II")


@pytest.mark.parametrize("sent", [
    HEAD.pack(LIMIT + 1, 0), HEAD.pack(2, 0) + b"[]", HEAD.pack(1, 0) + b"{", HEAD.pack(1, 0) + b"\xff",
    HEAD.pack(18, 0) + b'{"a": 1, "b": [2]}', HEAD.pack(15, 0) + b'{"tensor": "0"}', HEAD.pack(2, 4) + b"{}abcd",
    HEAD.pack(3, 0) + b"577", HEAD.pack(LIMIT, 0)[:4], HEAD.pack(100_000, 0) + b"[" * 100_000,
    HEAD.pack(5001, 0) + b"1" * 5001, HEAD.pack(20, 0) + b'{"dict": [[[1], 2]]}'])
def test_garbage_on_the_channel_is_an_end_and_no_exception_of_another_kind(ends, sent):
    raw, channel = ends
    raw.sendall(sent)
    raw.shutdown(socket.SHUT_WR)
    with pytest.raises(Closed):
        channel.receive()


def test_silence_and_a_reader_that_never_reads_end_at_the_deadline(ends):
    with pytest.raises(Late):
        ends[1].receive()
    ends[1].deadline = time.monotonic() + 0.2
    with pytest.raises(Late):
        ends[1].send({"cells": ["x" * 10**7]})


def test_a_message_crosses(ends):
    Channel(ends[0]).send({"check": "a.b", "value": torch.arange(3)})
    message = ends[1].receive()
    assert message["check"] == "a.b" and message["value"].tolist() == [0, 1, 2]
