"""Downloads: resumed after a cut, verified by sha256 before they get their name, from a list of
mirrors.
"""

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
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from ..errors import LabError
from ..storage import publish
from .places import NO_DOWNLOAD, acquire

TIMEOUT_S = 30
_ATTEMPTS = 20      # at one mirror, as long as each brings the file further
_CHUNK = 2**18


@dataclass(frozen=True)
class Remote:
    """A file to download. `size` and `room`, what its decoded pictures take in the cache, are in
    bytes.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    room: int = 0
    # size is approximate and sha256 that of the unzipped content: mirrors zip differently
    unzipped: bool = False


class _MirrorError(Exception):
    """Why a mirror did not give the file."""


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`, downloaded unless it is there; safe when several processes ask for it
    at once.

    Raises LabError where every mirror fails, where LIGHTVIT_OFFLINE is set, and where the folder or
    disk has no room.
    """
    path = folder / remote.name
    if path.is_file():
        return path
    if os.environ.get("LIGHTVIT_OFFLINE", "0") not in ("", "0"):
        raise LabError(_failure(remote, folder, ["LIGHTVIT_OFFLINE is set, so no mirror was asked"]))
    try:
        with acquire(path):
            if not path.is_file():
                _download(remote, path)
    except OSError as error:
        raise LabError(f"data: {remote.name} cannot be written to {folder} ({error}); make room or mend the "
                       f"permissions, or set LIGHTVIT_CACHE to a folder that can be written; {NO_DOWNLOAD}") from error
    return path


def verify(path: Path, remote: Remote) -> None:
    """Raise LabError unless the file, which may have been put there by hand, is the one that was
    published.
    """
    if not _is_whole(path, remote):
        raise LabError(f"data: {path} ({path.stat().st_size:,} bytes) is not the published {remote.name} "
                       f"({remote.size:,} bytes, sha256 {remote.sha256}); delete it, and the next call downloads it")


def _download(remote: Remote, path: Path) -> None:
    """Ask one mirror after the other; what one has sent is kept for the next."""
    part = path.with_name(f"{path.name}.part")
    _require_room(remote, part)
    print(f"Downloading {remote.name}, {_mib(remote.size)}, to {path.parent}, once.", file=sys.stderr)
    reasons = []
    for url in remote.urls:
        try:
            _complete(url, remote, part)
        except _MirrorError as error:
            reasons.append(f"{url}: {error}")
        else:
            publish(part, path)
            return
    raise LabError(_failure(remote, path.parent, reasons))


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
    """Append to `part` what follows byte `start`, or begin anew if the server sends all. Raises
    _MirrorError.
    """
    with _open(url, start) as response:
        start = start if response.status == 206 else 0
        total = start + int(response.headers.get("Content-Length") or remote.size - start)
        chunk = _read(response)
        # before anything on disk is touched
        _require_file(response, chunk, start, total, remote)
        bar = tqdm(desc=remote.name, total=total, initial=start, unit="B", unit_scale=True,
                   disable="LIGHTVIT_BOOK" in os.environ)
        with bar, part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while chunk and file.tell() <= total:
                file.write(chunk)
                bar.update(len(chunk))
                chunk = _read(response)
    if _size(part) < total and not (remote.unzipped and "Content-Length" not in response.headers):
        raise _MirrorError(f"the connection was cut after {_size(part):,} of {total:,} bytes")


def _open(url: str, start: int) -> HTTPResponse:
    headers = {"User-Agent": "lightvit-lab", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == 416 and start:         # what is there is longer than the mirror's file
            return _open(url, 0)
        raise _MirrorError(f"HTTP {error.code}, {' '.join(str(error.reason).split())}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error


def _read(response: HTTPResponse) -> bytes:
    """The next bytes; network errors become _MirrorError, so that an OSError always means the disk."""
    try:
        return response.read1(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error


def _require_file(response: HTTPResponse, chunk: bytes, start: int, total: int,
                  remote: Remote) -> None:
    """Raise _MirrorError if the answer is a web page, or of another size than the file."""
    is_page = response.headers.get_content_type() in ("text/html", "application/xhtml+xml")
    if is_page or (start == 0 and chunk.lstrip()[:1] == b"<"):
        raise _MirrorError("sent a web page instead of the file; a proxy or a login page seems to stand between: open "
                           "a page in a browser and log in, or set HTTPS_PROXY")
    low, high = (remote.size // 2, remote.size * 2) if remote.unzipped else (remote.size, remote.size)
    if not low <= total <= high:
        raise _MirrorError(f"offers {total:,} bytes, the file has {remote.size:,}")


def _require_room(remote: Remote, part: Path) -> None:
    needed = remote.size - _size(part) + remote.room
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise LabError(f"data: {remote.name} and its decoded pictures need {_mib(needed)} in {part.parent}, which "
                       f"has {_mib(free)} free; make room, or set LIGHTVIT_CACHE to a folder on another disk; "
                       f"{NO_DOWNLOAD}")


def _is_whole(path: Path, remote: Remote) -> bool:
    try:
        with gzip.open(path) if remote.unzipped else path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False


def _failure(remote: Remote, folder: Path, reasons: list[str]) -> str:
    content = "its unzipped content" if remote.unzipped else "it"
    return (f"data: {remote.name} ({_mib(remote.size)}) could not be downloaded. {'; '.join(reasons)}. To put it there "
            f"by hand, save {' or '.join(remote.urls)} as {folder / remote.name} (sha256 of {content}: "
            f"{remote.sha256}), or set LIGHTVIT_DATA to a folder that holds the set; {NO_DOWNLOAD}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
