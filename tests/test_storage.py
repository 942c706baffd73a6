"""Files survive kills at random moments and full disks, and what is damaged or hostile is refused in a sentence."""

import errno
import io
import json
import os
import random
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from writers import RAISES, WRITERS, leftovers

from lightvit_lab import checkpoint, data, models, storage
from lightvit_lab.errors import LabError
from lightvit_lab.training import saving

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked copy of this process")


@pytest.fixture(params=WRITERS)
def writer(request, tmp_path, monkeypatch):
    """(folder, name, write, read) of one writer."""
    return tmp_path, request.param, *WRITERS[request.param](tmp_path, monkeypatch)


def write_until_killed(write, first: int, delay: float) -> int:
    """Write states first, first + 1, ... in a forked child that is killed `delay` s after the first.

    Returns the last state of which the child said that it was written.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sys.stdout = io.StringIO()
            for number in range(first, first + 2000):
                write(number)
                os.write(writing, struct.pack("i", number))
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writing)
    started = select.select([reading], [], [], 60)[0]
    last = os.read(reading, 4) if started else b""
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while said := os.read(reading, 4):
        last = said
    os.close(reading)
    assert started, "the child wrote nothing within a minute: a killed one took a lock with it"
    return struct.unpack("i", last)[0]


@needs_fork
def test_twenty_kills_at_random_moments_lose_nothing_that_was_written(writer):
    folder, _, write, read = writer
    number, draw = -1, random.Random(0)
    for _ in range(20):
        last = write_until_killed(write, number + 1, draw.uniform(0, 0.03))
        number = read()
        assert number in (last, last + 1)
    write(number + 1)
    assert read() == number + 1 and not leftovers(folder)


@needs_fork
@pytest.mark.parametrize("name", ["a result with weights", "a model of the zoo"])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_before_or_after_each_rename_leaves_a_pair_that_fits(name, after, tmp_path, monkeypatch):
    write, read = WRITERS[name](tmp_path, monkeypatch)
    write(0)
    seen = set()
    for kill_at in (1, 2, 3):       # weights beside, card, weights
        before = read()
        child = os.fork()
        if child == 0:
            replace, calls = os.replace, []

            def dying(*given):
                calls.append(given)
                if len(calls) < kill_at or after:
                    replace(*given)
                if len(calls) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            os.replace = dying
            write(before + 1)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        seen.add(read() - before)
    assert seen == {0, 1}
    write(read() + 1)
    read()
    assert not leftovers(tmp_path)


@needs_fork
def test_a_full_disk_keeps_the_state_before_leaves_nothing_beside_and_is_said_in_a_sentence(writer):
    import resource

    folder, name, write, read = writer
    write(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sys.stdout = sys.stderr = io.StringIO()
            warnings.simplefilter("ignore")
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))     # no file of more bytes can be written
            write(1)
            code = 0
        except LabError as error:
            code = 3 if "File too large" in str(error) and "cannot be written" in str(error) else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (3 if name in RAISES else 0)
    assert read() == 0 and not leftovers(folder)


def test_two_writers_of_one_file_do_not_share_the_file_beside_it(tmp_path):
    with storage.atomic_file("test", tmp_path / "file") as one, storage.atomic_file("test", tmp_path / "file") as other:
        one.write_text("one"), other.write_text("other")
    assert (tmp_path / "file").read_text() == "one" and not leftovers(tmp_path)


def test_what_a_running_process_writes_is_left_alone_and_what_a_dead_one_left_is_deleted(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead, running = tmp_path / f"file.{child}-0.partial", tmp_path / f"file.{os.getppid()}-0.partial"
    other = tmp_path / f"another.{child}-0.partial"
    for path in (dead, running, other):
        path.touch()
    storage.write("test", tmp_path / "file", "text")
    assert not dead.exists() and running.exists() and other.exists()


@pytest.mark.parametrize("code, words", [
    (errno.ENOSPC, "No space left on device; [0-9.]+ MiB are free.; make room"),
    (errno.EACCES, "Permission denied.; give a path in a folder that exists and is yours"),
    (errno.EFBIG, "File too large.; raise the limit"),
])
def test_the_mend_fits_what_the_system_said(tmp_path, monkeypatch, code, words):
    def refuse(descriptor):
        raise OSError(code, os.strerror(code))
    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(LabError, match=f"test: .*file cannot be written .{words}"):
        storage.write("test", tmp_path / "file", "after")
    assert (tmp_path / "file").read_text() == "before" and not leftovers(tmp_path)


def places(folder):
    """Names that no file can get."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "inner").mkdir()
    return {"a/" * 50 + "b": "does not exist; make it", "l" * 5000: "shorter name", "nul\0": "no name that a file",
            "inner": "is a folder; give a file", "pipe": "no name that a file", "loop/x": "does not exist",
            "\ud800": "no name that a file", "file/x": "does not exist"}


def test_names_that_no_file_can_get_are_refused_wherever_files_are_written(tmp_path):
    model = models.create_model("lab_cnn", widths=[4, 8])
    (tmp_path / "file").touch()
    for name, words in places(tmp_path).items():
        with pytest.raises(LabError, match=words) as refusal:
            checkpoint.save(model, tmp_path / name)
        assert len(str(refusal.value)) < 1000 and str(refusal.value).encode()
        with pytest.raises(LabError, match=words):
            saving.Checkpoint(tmp_path / name, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "inner", "loop", "pipe"]


@pytest.mark.parametrize("name", ["l" * 5000, "nul\0", "\ud800", "pipe", "inner", "loop", "~nobody-of-that-name"])
@pytest.mark.parametrize("read", [checkpoint.load, checkpoint.import_official, data.load])
def test_names_that_are_no_file_or_folder_are_refused_wherever_files_are_read(tmp_path, name, read):
    places(tmp_path)
    with pytest.raises(LabError):
        read(tmp_path / name if not name.startswith("~") else name)


@pytest.mark.parametrize("text, words", [
    (b"", "Expecting value"), (b"{", "Expecting property name"), (b'{"a": 1', "Expecting"), (b"\xff\xfe", "codec can't"),
    (b"[]", "holds a list, not an object"), (b"null", "holds a NoneType"), (b"NaN", "the number NaN"),
    (b'{"a": NaN}', "the number NaN"), (b'{"a": -Infinity}', "the number -Infinity"), (b'{"a": 1e999}', "the number 1e999"),
    (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5,000 digits"), (b'{"a":' * 10**5, "nested more than 64 deep"),
    (b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", "nested more than 64 deep"), (b" " * (2**24 + 1), "16,777,217 bytes"),
    (b'{"a": 1}, {}', "Extra data"), (b"\0" * 50, "Expecting value"),
], ids=lambda value: str(value)[:20])
def test_damaged_and_hostile_json_is_refused_in_a_sentence(tmp_path, text, words):
    (tmp_path / "file.json").write_bytes(text)
    with pytest.raises(LabError, match=f"test: .*file.json .*{words}.*; write it anew") as refusal:
        storage.read_json("test", tmp_path / "file.json", "write it anew")
    assert len(str(refusal.value)) < 600


def test_honest_json_is_what_pythons_reader_says():
    text = json.dumps({"a": [1, -2.5, 1e-30, 10**30, True, None, "ä\n"], "b": {"c": [[[]]]}, "d": 0.1 + 0.2})
    assert storage.parse_json(text) == json.loads(text) == storage.parse_json(text.encode())
    assert [type(value) for value in storage.parse_json("[1, 1.0, -0, 1E2]")] == [int, float, int, float]


@pytest.mark.parametrize("content", [{"a": float("nan")}, {"a": object()}, {"a": float("inf")}, {"a": 10**50}])
def test_what_could_not_be_read_again_is_not_written(tmp_path, content):
    storage.write_json("test", tmp_path / "file.json", {"good": 1})
    with pytest.raises(LabError, match="file.json cannot hold what is given"):
        storage.write_json("test", tmp_path / "file.json", content)
    assert storage.read_json("test", tmp_path / "file.json", "") == {"good": 1}


@pytest.mark.parametrize("content, words", [
    (b"", "promises a header"), (b"\xff" * 8, "promises a header of 18,446,744,073,709,551,615"),
    ((2**22 + 1).to_bytes(8, "little") + bytes(2**23), "promises a header of 4,194,305"),
])
def test_the_header_of_tensors_is_bounded_before_it_is_read(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        storage.read_tensors(tmp_path / "file")


def test_a_file_that_grew_beyond_the_bound_is_not_read(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes, more than the 10"):
        storage.read(tmp_path / "file", 10)


def test_the_digest_is_that_of_files_that_were_written_before():
    tensors = {"b": torch.arange(3), "a": torch.tensor(2.0)}
    import hashlib
    bare = hashlib.sha256(b"text" + b"a" + struct.pack("f", 2.0) + b"b" + struct.pack("3q", 0, 1, 2)).hexdigest()
    full = hashlib.sha256(b"text" + b"a torch.float32 ()" + struct.pack("f", 2.0) + b"b torch.int64 (3,)"
                          + struct.pack("3q", 0, 1, 2)).hexdigest()
    assert (storage.digest("text", tensors, shapes=False), storage.digest("text", tensors)) == (bare, full)


def test_importing_the_module_imports_no_torch():
    import subprocess
    code = "import sys, lightvit_lab.storage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
