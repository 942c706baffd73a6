"""Downloads: from a list of mirrors, resumed after a cut, verified before they get their name."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import zlib
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from ..errors import LabError
from ..storage import mib, publish
from .places import NO_DOWNLOAD, acquire

TIMEOUT_S = 30
_ATTEMPTS = 20      # at one mirror, as long as each brings the file further
_CHUNK = 2**18


@dataclass(frozen=True)
class Remote:
    """A file to download. `size` and `room`, which its decoded pictures take, are in bytes.

    unzipped: the sha256 is that of the unzipped content, and `size` is approximate, since mirrors
        zip differently
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    room: int = 0
    unzipped: bool = False


class _MirrorError(Exception):
    """Why a mirror did not give the file. Network errors become one: an OSError means the disk."""

    def __init__(self, reason: object):
        super().__init__(" ".join(str(reason).split()) or type(reason).__name__)


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`, downloaded unless it is there; processes may call it at once.

    Raises LabError where every mirror fails, where LIGHTVIT_OFFLINE is set, and where the folder or
    disk has no room.
    """
    path = folder / remote.name
    if path.is_file():
        return path
    if os.environ.get("LIGHTVIT_OFFLINE", "0") not in ("", "0"):
        raise _failure(remote, folder, ["LIGHTVIT_OFFLINE is set, so no mirror was asked"])
    try:
        with acquire(path):
            if not path.is_file():
                _download(remote, path)
    except OSError as error:
        raise LabError(f"data: {remote.name} cannot be written to {folder} ({error}); make room or "
                       f"mend its rights, or set LIGHTVIT_CACHE; {NO_DOWNLOAD}") from error
    return path


def verify(path: Path, remote: Remote) -> None:
    """Raise LabError unless the file, maybe put there by hand, is the published one."""
    if not _is_whole(path, remote):
        raise LabError(f"data: {path} ({_size(path):,} bytes) is not the published {remote.name} ("
                       f"{remote.size:,} bytes, sha256 {remote.sha256}); delete it and load again")


def _download(remote: Remote, path: Path) -> None:
    """Ask one mirror after the other; what one has sent stays for the next."""
    part = path.with_name(f"{path.name}.part")
    _require_room(remote, part)
    print(f"Downloading {remote.name}, {mib(remote.size)}, to {path.parent}.", file=sys.stderr)
    reasons = []
    for url in remote.urls:
        try:
            _complete(url, remote, part)
        except _MirrorError as error:
            reasons.append(f"{url}: {error}")
        else:
            publish(part, path)
            return
    raise _failure(remote, path.parent, reasons)


def _complete(url: str, remote: Remote, part: Path) -> None:
    """Bring `part` to its end from one mirror and verify it. Raises _MirrorError."""
    for _ in range(_ATTEMPTS):
        start = _size(part)
        if start < remote.size or remote.unzipped:
            try:
                _receive(url, start, remote, part)
            except _MirrorError:
                if _size(part) > start:
                    continue        # the connection was cut, but it brought something
                raise
        if _is_whole(part, remote):
            return
        part.unlink()
        if start == 0:
            raise _MirrorError(f"what it sends has another sha256 than {remote.sha256}")
    raise _MirrorError(f"the connection was cut {_ATTEMPTS} times")


def _receive(url: str, start: int, remote: Remote, part: Path) -> None:
    """Append to `part` what follows byte `start`; begin anew if the server sends all.

    Raises _MirrorError.
    """
    with _open(url, start) as response:
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length or remote.size - start)
        chunk = _read(response)
        _require_file(response, chunk, start, total, remote)    # before the disk is touched
        with (part.open("r+b" if start else "wb") as file,
              tqdm.wrapattr(file, "write", total, desc=remote.name, initial=start,
                            disable="LIGHTVIT_BOOK" in os.environ) as counted):
            file.seek(start)
            while chunk and file.tell() <= total:
                counted.write(chunk)
                chunk = _read(response)
    if _size(part) < total and (length or not remote.unzipped):
        raise _MirrorError(f"the connection was cut after {_size(part):,} of {total:,} bytes")


def _open(url: str, start: int) -> HTTPResponse:
    headers = {"User-Agent": "lightvit-lab", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except (OSError, HTTPException, ValueError) as error:
        if start and getattr(error, "code", None) == 416:     # `start` is beyond the mirror's file
            return _open(url, 0)
        raise _MirrorError(error) from error


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _MirrorError(error) from error


def _require_file(response: HTTPResponse, chunk: bytes, start: int, total: int,
                  remote: Remote) -> None:
    """Raise _MirrorError if the answer is a web page, or of another size than the file."""
    is_page = response.headers.get_content_type() in ("text/html", "application/xhtml+xml")
    if is_page or (start == 0 and chunk.lstrip()[:1] == b"<"):
        raise _MirrorError("sent a web page instead of the file; a proxy or a login page seems to "
                           "stand between: log in with a browser, or set HTTPS_PROXY")
    times = 2 if remote.unzipped else 1
    if not remote.size // times <= total <= remote.size * times:
        raise _MirrorError(f"offers {total:,} bytes, the file has {remote.size:,}")


def _require_room(remote: Remote, part: Path) -> None:
    needed = remote.size - _size(part) + remote.room
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise LabError(f"data: {remote.name} and its pictures need {mib(needed)} in {part.parent}, "
                       f"which has {mib(free)} free; make room, or set LIGHTVIT_CACHE to another "
                       f"disk; {NO_DOWNLOAD}")


def _is_whole(path: Path, remote: Remote) -> bool:
    try:
        with gzip.open(path) if remote.unzipped else path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False


def _failure(remote: Remote, folder: Path, reasons: list[str]) -> LabError:
    content = "its unzipped content" if remote.unzipped else "it"
    return LabError(f"data: {remote.name} ({mib(remote.size)}) could not be downloaded. "
                    f"{'; '.join(reasons)}. To put it there by hand, save "
                    f"{' or '.join(remote.urls)} as {folder / remote.name} (sha256 of {content}: "
                    f"{remote.sha256}), or set LIGHTVIT_DATA to the set's folder; {NO_DOWNLOAD}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
