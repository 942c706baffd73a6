import errno
import gzip
import hashlib
import multiprocessing
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lightvit_lab.data import download
from lightvit_lab.data.download import Remote, fetch
from lightvit_lab.errors import LabError

CONTENT = bytes(range(256)) * 4096          # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """The first part of a path says how the mirror behaves; it writes down the ranges it was asked for."""

    def do_GET(self) -> None:
        behaviour = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.server.asked.append((behaviour, asked))
        getattr(self, behaviour)(CONTENT, int(asked[6:-1]) if asked else 0)

    def answer(self, body: bytes, status: int = 200, cut: int | None = None, kind: str = "application/gzip",
               **headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "Content-Type": kind, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[:cut])

    def good(self, content: bytes, start: int) -> None:
        if start >= len(content):
            self.send_error(416)
        else:
            self.answer(content[start:], 206 if start else 200)

    def cutting(self, content: bytes, start: int) -> None:
        self.answer(content[start:], 206 if start else 200, cut=400_000)

    def cutting_without_range(self, content: bytes, start: int) -> None:
        self.answer(content, cut=400_000)

    def without_range(self, content: bytes, start: int) -> None:
        self.answer(content)

    def other_bytes(self, content: bytes, start: int) -> None:
        self.good(bytes(len(content)), start)

    def other_size(self, content: bytes, start: int) -> None:
        self.answer(content[:1000])

    def page(self, content: bytes, start: int) -> None:
        self.answer(b"<html>Please log in</html>", kind="text/html; charset=utf-8")

    def page_as_file(self, content: bytes, start: int) -> None:
        self.answer(b"\n<!DOCTYPE html><title>Log in</title>")

    def missing(self, content: bytes, start: int) -> None:
        self.send_error(404)

    def loop(self, content: bytes, start: int) -> None:
        self.answer(b"", 302, Location=self.path)

    def zipped(self, content: bytes, start: int) -> None:
        self.good(gzip.compress(content, 1), start)

    def zipped_better(self, content: bytes, start: int) -> None:
        self.good(gzip.compress(content, 9), start)

    def silent(self, content: bytes, start: int) -> None:
        self.answer(content, cut=100_000)
        self.wfile.flush()
        time.sleep(20)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch):
    """`mirror("good", "page")`: a file with two such mirrors; `mirror.asked` are the requests so far."""
    monkeypatch.delenv("LIGHTVIT_OFFLINE")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.asked, server.daemon_threads, server.block_on_close = [], True, False
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def make(*behaviours: str, **keywords) -> Remote:
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{behaviour}/file" for behaviour in behaviours)
        return Remote("file.bin", urls, **{"sha256": SHA256, "size": len(CONTENT), **keywords})

    make.asked = server.asked
    yield make
    server.shutdown()
    server.server_close()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_the_size_is_said_before_and_the_file_is_whole(mirror, cache, capsys):
    assert fetch(mirror("good"), cache).read_bytes() == CONTENT
    assert f"Downloading file.bin, 1.0 MiB, to {cache}" in capsys.readouterr().err
    assert left(cache) == {"file.bin"}


def test_what_is_there_is_not_asked_for_again(mirror, cache):
    fetch(mirror("good"), cache), fetch(mirror("good"), cache)
    assert len(mirror.asked) == 1


def test_a_cut_connection_is_resumed_where_it_broke(mirror, cache):
    assert fetch(mirror("cutting"), cache).read_bytes() == CONTENT
    assert [asked for _, asked in mirror.asked] == [None, "bytes=400000-", "bytes=800000-"]


def test_what_one_mirror_sent_is_kept_for_the_next(mirror, cache):
    assert fetch(mirror("cutting_without_range", "good"), cache).read_bytes() == CONTENT
    assert mirror.asked[-1] == ("good", "bytes=400000-")


def test_a_mirror_that_ignores_range_sends_all_anew(mirror, cache):
    cache.mkdir()
    (cache / "file.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(mirror("without_range"), cache).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * len(CONTENT), CONTENT, CONTENT + b"x"],
                         ids=["wrong start", "wrong bytes", "whole", "too long"])
def test_whatever_an_earlier_download_left_the_file_is_right(mirror, cache, part):
    cache.mkdir()
    (cache / "file.bin.part").write_bytes(part)
    assert fetch(mirror("good"), cache).read_bytes() == CONTENT and left(cache) == {"file.bin"}
    assert len(mirror.asked) == (0 if part == CONTENT else 2 if part == b"x" * 1000 else 1)


@pytest.mark.parametrize("behaviour, words", [
    ("page", "sent a web page instead of the file; a proxy or a login page"), ("page_as_file", "sent a web page"),
    ("other_bytes", f"another sha256 than {SHA256}"), ("other_size", "offers 1,000 bytes, the file has 1,048,576"),
    ("missing", "HTTP Error 404: Not Found"), ("loop", "HTTP Error 302: .*infinite loop"), ("silent", "timed out"),
])
def test_a_mirror_that_does_not_give_the_file_is_named_with_its_reason(mirror, cache, monkeypatch, behaviour, words):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    remote = mirror(behaviour)
    words = f"file.bin .1.0 MiB. could not be downloaded. {remote.urls[0]}: .*{words}.*as {cache / 'file.bin'}"
    with pytest.raises(LabError, match=words) as error:
        fetch(remote, cache)
    assert 'data.load("shapes") needs no download' in str(error.value)
    assert "file.bin" not in left(cache)


def test_the_next_mirror_is_tried_and_a_web_page_spoils_no_half_file(mirror, cache):
    cache.mkdir()
    (cache / "file.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(mirror("page", "page_as_file", "missing", "good"), cache).read_bytes() == CONTENT
    assert mirror.asked[-1] == ("good", "bytes=1000-")


def test_a_host_that_does_not_answer_is_a_reason_like_any_other(mirror, cache):
    remote = Remote("file.bin", ("http://127.0.0.1:9/file",), SHA256, len(CONTENT))
    with pytest.raises(LabError, match="127.0.0.1:9/file: .*refused"):
        fetch(remote, cache)


def test_mirrors_that_zip_differently_give_the_same_content(mirror, cache):
    sizes = {level: len(gzip.compress(CONTENT, level)) for level in (1, 9)}
    assert sizes[1] != sizes[9]
    cache.mkdir()
    (cache / "file.bin.part").write_bytes(gzip.compress(CONTENT, 9)[:1000])
    path = fetch(mirror("zipped", size=sizes[9], unzipped=True), cache)
    assert gzip.decompress(path.read_bytes()) == CONTENT and path.stat().st_size == sizes[1]


def test_wrong_content_in_a_zipped_file_is_refused(mirror, cache):
    with pytest.raises(LabError, match="sha256 of its unzipped content: 00"):
        fetch(mirror("zipped", size=len(gzip.compress(CONTENT, 1)), unzipped=True, sha256="00" * 32), cache)


def test_offline_asks_nobody_and_says_so(mirror, cache, monkeypatch):
    monkeypatch.setenv("LIGHTVIT_OFFLINE", "1")
    words = "LIGHTVIT_OFFLINE is set, so no mirror was asked.*save http://127.0.0.1.* as .*file.bin"
    with pytest.raises(LabError, match=words):
        fetch(mirror("good"), cache)
    assert mirror.asked == [] and not cache.exists()


def test_a_cache_that_cannot_be_written_is_named_with_the_variable_that_moves_it(mirror, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(LabError, match=f"cannot be written to {cache} .*LIGHTVIT_CACHE"):
        fetch(mirror("good"), cache)
    assert mirror.asked == []


def test_a_disk_without_room_for_file_and_decoded_pictures_is_refused_before(mirror, cache, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**21}))
    with pytest.raises(LabError, match="need 4.0 MiB in .*, which has 2.0 MiB free.*LIGHTVIT_CACHE"):
        fetch(mirror("good", room=3 * 2**20), cache)
    assert mirror.asked == []


def test_a_disk_that_fills_up_meanwhile_is_no_fault_of_the_mirror(mirror, cache, monkeypatch):
    def full(path, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(LabError, match="cannot be written .*No space left on device.*make room"):
        fetch(mirror("good", "good"), cache)
    assert len(mirror.asked) == 1


def test_a_file_put_there_by_hand_must_be_the_published_one(mirror, cache):
    cache.mkdir()
    (cache / "file.bin").write_bytes(CONTENT[:-1])
    words = "file.bin .1,048,575 bytes. is not the published file.bin .1,048,576 bytes, sha256"
    with pytest.raises(LabError, match=words):
        download.verify(cache / "file.bin", mirror("good"))


def start(remote: Remote, cache: Path) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=fetch, args=(remote, cache))
    child.start()
    return child


def test_a_download_that_was_killed_is_resumed_by_the_next_call(mirror, cache):
    child, part = start(mirror("silent"), cache), cache / "file.bin.part"
    deadline = time.time() + 20
    while not part.exists():
        assert time.time() < deadline
        time.sleep(0.01)
    child.kill()                                # SIGKILL
    child.join()
    part.write_bytes(CONTENT[:100_000])         # as if all that came had been written down
    assert fetch(mirror("good"), cache).read_bytes() == CONTENT
    assert mirror.asked[-1] == ("good", "bytes=100000-")


def test_a_child_that_is_killed_while_it_draws_progress_leaves_the_parent_its_lock():
    def hold(held):
        download.tqdm.get_lock().acquire()      # that of the bars of the library
        held.set()
        time.sleep(60)

    context = multiprocessing.get_context("fork")
    held, _ = context.Event(), download.tqdm.get_lock()              # made before the fork: shared by both
    child = context.Process(target=hold, args=(held,))
    child.start()
    assert held.wait(20)
    child.kill()
    child.join()
    bar = threading.Thread(target=lambda: download.tqdm(total=1, disable=False).close(), daemon=True)
    bar.start()
    bar.join(10)
    assert not bar.is_alive(), "the next progress bar waits for ever"


def test_several_processes_at_once_ask_the_mirror_once(mirror, cache):
    children = [start(mirror("good"), cache) for _ in range(4)]
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 4
    assert len(mirror.asked) == 1 and (cache / "file.bin").read_bytes() == CONTENT
