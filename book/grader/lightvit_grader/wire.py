"""Messages between grader and notebook: JSON and safetensors, never a pickle.

One end cannot be trusted, and a pickle can run code.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

import numpy
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lightvit_lab.errors import LabError
from lightvit_lab.exercises.conversion import item

LIMIT = 64 * 2**20   # bytes of one message; the largest answer of the book is below one MiB
DEPTH = 20           # lists in lists
_HEAD = struct.Struct(">II")
_PLAIN = (bool, int, float, str, type(None))


class Closed(BaseException):
    """The other end is gone, or its message is unintelligible.

    No Exception, so that it passes any `except Exception` between.
    """


class Late(BaseException):
    """The deadline has come; passes as Closed does."""


class Channel:
    """Messages over a socket; sending and receiving give up at `deadline` (time.monotonic())."""

    def __init__(self, connection: socket.socket, deadline: float | None = None) -> None:
        self.connection, self.deadline = connection, deadline

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. Raises Late at the deadline and Closed where nobody listens."""
        tensors: dict[str, Tensor] = {}
        text = json.dumps(encode(message, tensors)).encode()
        body = safetensors.torch.save(tensors) if tensors else b""
        if max(len(text), len(body)) > LIMIT:
            size = len(text) + len(body)
            raise LabError(f"a message of {size >> 20} MiB; at most {LIMIT >> 20} are passed on")
        self._wait()
        try:
            self.connection.sendall(_HEAD.pack(len(text), len(body)) + text + body)
        except TimeoutError as error:
            raise Late from error
        except ConnectionError as error:
            raise Closed("nobody listens") from error

    def receive(self) -> dict[str, Any]:
        """The next message. Raises Late at the deadline, Closed at the end or if unintelligible."""
        sizes = _HEAD.unpack(self._read(_HEAD.size))
        if max(sizes) > LIMIT:
            raise Closed("a message larger than allowed")
        text, body = (self._read(size) for size in sizes)
        try:
            tensors = safetensors.torch.load(body) if body else {}
            message = decode(json.loads(text), tensors)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError,
                safetensors.SafetensorError) as error:
            raise Closed(f"an unintelligible message ({type(error).__name__})") from error
        if not isinstance(message, dict):
            raise Closed("an unintelligible message")
        return message

    def _read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            self._wait()
            try:
                part = self.connection.recv(min(missing, 2**20))
            except TimeoutError as error:
                raise Late from error
            except ConnectionError as error:
                raise Closed("the connection broke") from error
            if not part:
                raise Closed("the other end is gone")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _wait(self) -> None:
        """Let the next call of the socket wait no longer than to the deadline."""
        if self.deadline is not None:
            seconds = self.deadline - time.monotonic()
            if seconds <= 0:
                raise Late
            self.connection.settimeout(seconds)


def encode(value: Any, tensors: dict[str, Tensor], depth: int = 0) -> Any:
    """A value as JSON, its tensors put into `tensors`; of any other object only its type."""
    if isinstance(value, Tensor) and value.layout == torch.strided and value.device.type != "meta":
        tensors[str(len(tensors))] = value.detach().cpu().resolve_conj().clone().contiguous()
        return {"tensor": str(len(tensors) - 1)}
    if value is ...:
        return {"ellipsis": True}
    if isinstance(value, numpy.ndarray) and value.ndim and value.dtype.kind in "biufc":
        return encode(torch.as_tensor(value.copy()), tensors, depth)
    if not isinstance(value, Tensor):                               # numpy.float64 is a float, too
        value = item(value)
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)) and depth < DEPTH:
        parts = [encode(part, tensors, depth + 1) for part in value]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, dict) and depth < DEPTH:
        return {"dict": [[encode(key, tensors, depth + 1), encode(part, tensors, depth + 1)]
                         for key, part in value.items()]}
    return {"other": type(value).__name__}


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `encode` was given; of another object, an empty one of a class of the same name."""
    if isinstance(value, list):
        return [decode(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    (kind, content), = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(decode(part, tensors) for part in content)
    if kind == "dict":
        return {decode(key, tensors): decode(part, tensors) for key, part in content}
    return ... if kind == "ellipsis" else stand_in(content)()


def stand_in(name: str) -> type:
    """An empty class of this name, so that a message can say what was given."""
    return type(name[:60] if name.isidentifier() else "object", (), {})
