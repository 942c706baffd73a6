"""Files that are whole or not there: written under another name, renamed, read within bounds.

What cannot be written or read is refused in a sentence. Imports torch only inside.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST, LARGEST_HEADER = 2**32, 2**22      # bytes of a model's file and of its header
LARGEST_JSON, DEEPEST, MOST_DIGITS = 2**24, 64, 40      # bytes, nesting, digits of a number
_numbers = itertools.count()                # two threads never write to the same partial file
_MENDS = {errno.ENOSPC: "make room, or give a path on another disk",
          errno.EFBIG: "raise the limit for the size of a file (ulimit -f)",
          errno.ENAMETOOLONG: "give a shorter name"}


def write(caller: str, path: Path, content: bytes | memoryview | str,
          make_folder: bool = False) -> None:
    """Put `content` at `path`: all of it, or, after a kill or on a full disk, what was there.

    `make_folder` makes a missing folder. Raises LabError, as `caller`, where the system refuses.
    """
    with atomic_file(caller, path, make_folder) as partial, open(partial, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(caller: str, path: Path, content: dict[str, Any], make_folder: bool = False) -> None:
    """`write` for an object. Raises LabError also on what `read_json` would refuse, such as NaN."""
    try:
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        parse_json(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise LabError(f"{caller}: {printable(path)} cannot hold what is given ({error}); give "
                       "finite numbers, text, lists and dicts alone") from error
    write(caller, path, text, make_folder)


def write_tensors(caller: str, path: Path, tensors: Mapping[str, Tensor], about: dict[str, str],
                  make_folder: bool = False) -> None:
    """`write` for a safetensors file with the metadata `about`, without a copy in memory."""
    from safetensors.torch import save_file

    with atomic_file(caller, path, make_folder) as partial:
        require_room(caller, path, sum(tensor.nbytes for tensor in tensors.values()))
        save_file(dict(tensors), partial, about)
        partial.chmod(0o644)                # so that others may read a cache that is shared


def require_room(caller: str, path: Path, needed: int) -> None:
    """Raise LabError, before the work, where the disk of `path` has not `needed` bytes left."""
    if os.path.isdir(path.parent) and shutil.disk_usage(path.parent).free < needed:
        full = OSError(errno.ENOSPC, "")
        raise LabError(f"{caller}: {_refusal(path, full)}; it takes {mib(needed)}")


@contextmanager
def atomic_file(caller: str, path: Path, make_folder: bool = False) -> Iterator[Path]:
    """A path to write to, which gets the name `path` when the block ends, and goes if it fails."""
    partial = _partial(caller, path)
    _clear(partial)
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        publish(partial, path)
    except (OSError, SafetensorError) as error:
        raise LabError(f"{caller}: {_refusal(path, error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def publish(partial: Path, path: Path) -> None:
    """Give a whole file its name, once it is on the disk: a power cut leaves no empty file there.

    Raises OSError.
    """
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def require_place(caller: str, path: Path) -> None:
    """Raise LabError, before heavy work, unless a file can be written at `path`."""
    partial = _partial(caller, path)
    try:
        with suppress(FileNotFoundError):
            path.lstat()                    # a name that is too long is refused here
        partial.touch()
    except OSError as error:
        raise LabError(f"{caller}: {_refusal(path, error)}") from error
    finally:
        _clear(partial)


def _partial(caller: str, path: Path) -> Path:
    """Where `path` is written first. Raises LabError if `path` is no name that a file may get."""
    try:
        is_name = path.name not in ("", "..") and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_name = False
    if is_name and (is_file(path) or not os.path.exists(path)):
        return path.with_name(f"{path.name[:50]}.{os.getpid()}-{next(_numbers)}.partial")
    is_folder = is_name and os.path.isdir(path)
    kind = "a folder" if is_folder else "no name that a file can get"
    example = printable((path if is_folder else path.parent) / "name")
    raise LabError(f"{caller}: {printable(path)} is {kind}; give a file, {example!r}")


def _clear(partial: Path) -> None:
    """Delete what killed processes left of this name, and what is at `partial`: disks fill up."""
    name = re.escape(partial.name.rsplit(".", 2)[0])
    with suppress(OSError):
        for there in os.listdir(partial.parent):
            match = re.fullmatch(rf"{name}\.(\d+)-\d+\.partial", there)
            if there == partial.name or match and not _is_running(int(match[1])):
                with suppress(OSError):
                    os.unlink(partial.with_name(there))


def _is_running(process: int) -> bool:
    if os.name == "nt":         # there kill(0) is no question, and an open file is not deleted
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _refusal(path: Path, error: Exception) -> str:
    """Why the system wrote no file, and what mends it."""
    number = re.search(r"os error (\d+)", str(error))       # as safetensors writes it
    code = getattr(error, "errno", None) or (int(number[1]) if number else 0)
    reason = os.strerror(code) if code else str(error)
    if code == errno.ENOSPC:
        with suppress(OSError):
            reason += f"; {mib(shutil.disk_usage(path.parent).free)} are free"
    mend = _MENDS.get(code, "give a path in a folder that exists and is yours")
    if not os.path.isdir(path.parent):
        folder = printable(path.parent)
        mend = f"the folder does not exist; make it: Path({folder!r}).mkdir(parents=True)"
    return f"{printable(path)} cannot be written ({reason}); {mend}"


def printable(path: str | os.PathLike) -> str:
    """A path for an error: not too long, and of letters that a terminal can print."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 300 else f"{text[:150]}...{text[-100:]}"


def mib(size: float) -> str:
    """A number of bytes in words."""
    return f"{size / 2**20:.1f} MiB"


@contextmanager
def refused(what: str, mend: str) -> Iterator[None]:
    """Raise LabError with a reason and `mend` for whatever the block raises.

    Readers of files raise a dozen kinds of errors, and all mean the same here.
    """
    try:
        yield
    except Exception as error:
        raise LabError(f"{what} ({first_line(error)}); {mend}") from error


def first_line(error: Exception) -> str:
    """What an error says, in 160 letters; its kind too where that is not only a wrong value."""
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return (kind + str(error)).splitlines()[0][:160] if str(error) else type(error).__name__


def is_file(path: str | os.PathLike) -> bool:
    """Whether `path` is a file; pipes, devices and impossible names are not."""
    return os.path.isfile(path)


def read(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes. Raises OSError, or ValueError on others."""
    if not is_file(path):
        raise ValueError("there is no file")
    with open(path, "rb") as file:
        require_bytes(os.fstat(file.fileno()).st_size, most)
        return file.read()


def require_bytes(size: int, most: int) -> None:
    """Raise ValueError where `size` bytes are more than `most`."""
    if size > most:
        raise ValueError(f"it has {size:,} bytes, more than the {most:,} that are read")


def parse_json(text: bytes | str) -> Any:
    """What a JSON text holds. Raises ValueError on anything else, and on what nobody writes here.

    That is: NaN and infinity, also as 1e999, numbers of over MOST_DIGITS digits, text nested more
    than DEEPEST deep.
    """
    with suppress(RecursionError):
        value = json.loads(text.decode() if isinstance(text, bytes) else text,
                           parse_constant=_number, parse_float=_number, parse_int=_number)
        if _depth(value) <= DEEPEST:
            return value
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 1


def _number(text: str) -> int | float:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits")
    value = float(text) if any(letter in text for letter in ".eEIN") else int(text)
    if not math.isfinite(value):
        raise ValueError(f"it has the number {text}")
    return value


def read_json(caller: str, path: Path, mend: str) -> dict[str, Any]:
    """The object in a JSON file. Raises LabError, as `caller` and with the call that mends it."""
    with refused(f"{caller}: {printable(path)} is no JSON that can be read", mend):
        found = parse_json(read(path, LARGEST_JSON))
    if not isinstance(found, dict):
        raise LabError(f"{caller}: {printable(path)} holds a {type(found).__name__}, not an "
                       f"object; {mend}")
    return found


def require_fields(where: str, fields: Mapping[str, Any], types: Mapping[str, Any],
                   mend: str) -> None:
    """Raise LabError unless each of `types` is in `fields` and of its type.

    A whole number is a float too, and True is no number.
    """
    for field, kind in types.items():
        if field not in fields:
            raise LabError(f"{where} lacks the field {field!r}; {mend}")
        value, kind = fields[field], (int, float) if kind is float else kind
        if not isinstance(value, kind) or isinstance(value, bool):
            given = repr(value)[:100]
            raise LabError(f"{where}: {field!r} is {given}, which is of the wrong type; {mend}")


def read_tensors(path: Path, accept: Callable[[dict[str, str]], Any] = dict,
                 most: int | None = None) -> tuple[Any, dict[str, Tensor]]:
    """What `accept` makes of a safetensors file's metadata, and the tensors.

    `accept` may raise: then no tensor is read. The header is bounded before it is read. Raises
    ValueError, OSError, SafetensorError.
    """
    if not is_file(path):
        raise ValueError("there is no file")
    size = os.path.getsize(path)
    require_bytes(size, most or size)
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > min(LARGEST_HEADER, size - 8):
        raise ValueError(f"it promises a header of {header:,} bytes, of {size:,} in all")
    with safe_open(path, framework="pt") as file:
        about = accept(file.metadata() or {})
        return about, {name: file.get_tensor(name) for name in file.keys()}


def portable(caller: str, name: str, value: Tensor, half: bool) -> Tensor:
    """What a file holds: a copy of its own, also of tied weights, on the CPU, in float16 if asked.

    Raises LabError for numbers that float16 cannot hold.
    """
    import torch

    value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if not half or not value.is_floating_point():
        return value
    if (rounded := value.half()).isinf().sum() > value.isinf().sum():
        raise LabError(f"{caller}: {name} reaches {value.abs().max():.3g}, and float16 ends at "
                       '65504; save it by checkpoint.save(model, path, precision="as it is")')
    return rounded


def digest(text: str, tensors: Mapping[str, Tensor], shapes: bool = True) -> str:
    """sha256 over a text and every tensor's name, bytes and, with `shapes`, type and shape."""
    import torch

    sha256 = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        about = f"{name} {value.dtype} {tuple(value.shape)}" if shapes else name
        sha256.update(about.encode())
        sha256.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()


def book_folder(name: str) -> Path:
    """`book/<name>` of a checkout, or the copy of it that an installed package carries."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "book" / name
    return checkout if checkout.is_dir() else package / f"stored_{name}"


def next_of(path: Path) -> Path:
    """Where the next version of weights waits until the card next to them names its sha256.

    Weights and card are two files, and a kill may come between any two writes. So the weights are
    written here first, then the card, then `settle` gives the weights their name: at each moment
    `find_version` finds those that the card names.
    """
    return path.with_name(f"{path.name}.next")


def find_version(path: Path, sha256: str) -> Path | None:
    """The file with this sha256: `path`, or its next version; None where neither has it."""
    for each in filter(is_file, (path, next_of(path))):
        with suppress(OSError), open(each, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return each
    return None


def settle(caller: str, path: Path, sha256: str | None) -> None:
    """Rename the next version of a file to its own name if it has this sha256. Raises LabError."""
    if sha256 is not None and find_version(path, sha256) == next_of(path):
        with refused(f"{caller}: {printable(path)} cannot be written", "mend its folder's rights"):
            os.replace(next_of(path), path)
