"""The bounds on a reader's function: loops that never end, floods of output, and what they leave as it was."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from lightvit_lab.errors import LabError
from lightvit_lab.exercises.limits import MAX_CHARACTERS, MAX_LINES, TimeUp, captured, seconds_allowed, time_limit

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the signals of Linux or macOS")


def spin():
    while True:
        pass


def spin_and_swallow_errors():
    while True:
        try:
            [][0]
        except Exception:  # noqa: BLE001
            pass


def spin_and_swallow_one_stop():
    try:
        spin()
    except:  # noqa: E722
        spin()


def stopped_after(function, seconds):
    """Seconds until `function` was stopped; fails where it ended by itself."""
    begin = time.perf_counter()
    with pytest.raises(TimeUp), time_limit(seconds):
        function()
    return time.perf_counter() - begin


def in_a_thread(function):
    """The function's result, computed in a thread of its own; its exception is raised here."""
    given = []

    def work():
        try:
            given.append((function(), None))
        except BaseException as error:  # noqa: BLE001
            given.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert given, "the thread did not end"
    if given[0][1]:
        raise given[0][1]
    return given[0][0]


@pytest.mark.parametrize("where", [lambda call: call(), in_a_thread], ids=["main thread", "another thread"])
@pytest.mark.parametrize("function", [spin, spin_and_swallow_errors])
def test_a_loop_without_end_is_stopped(function, where):
    assert 0.1 <= where(lambda: stopped_after(function, 0.1)) < 5


@needs_signals
def test_a_bare_except_does_not_keep_a_loop_alive():
    assert stopped_after(spin_and_swallow_one_stop, 0.1) < 5


@needs_signals
def test_sleeping_is_ended_too():
    assert stopped_after(lambda: time.sleep(10), 0.1) < 5


@pytest.mark.parametrize("where", [lambda call: call(), in_a_thread], ids=["main thread", "another thread"])
def test_nothing_is_stopped_after_the_block(where):
    def short_then_long():
        with time_limit(0.5):
            value = 1
        end = time.perf_counter() + 0.8
        while time.perf_counter() < end:
            pass
        return value

    assert where(short_then_long) == 1


@needs_signals
def test_the_timer_and_handler_of_somebody_else_are_put_back():
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *arguments: rang.append(True))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        stopped_after(spin, 0.05)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        time.sleep(0.5)
        assert rang == [True]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_system_without_alarm_signals_still_has_a_limit():
    code = ("import signal; del signal.setitimer\n"
            "from lightvit_lab.exercises.limits import TimeUp, time_limit\n"
            "try:\n    with time_limit(0.2):\n        while True: pass\nexcept TimeUp: print('stopped')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "stopped", done.stderr


def test_the_limit_can_be_raised_or_taken_away_and_nonsense_is_refused(monkeypatch):
    monkeypatch.delenv("LIGHTVIT_CHECK_SECONDS", raising=False)
    assert seconds_allowed(10) == 10
    for given, expected in (("60", 60), ("0", 0), (" ", 10)):
        monkeypatch.setenv("LIGHTVIT_CHECK_SECONDS", given)
        assert seconds_allowed(10) == expected
    for given in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("LIGHTVIT_CHECK_SECONDS", given)
        with pytest.raises(LabError, match="LIGHTVIT_CHECK_SECONDS"):
            seconds_allowed(10)
    with time_limit(0):
        pass


def test_what_is_printed_is_collected_from_both_streams_and_not_shown(capfd):
    with captured() as printed:
        print("one")
        print("two", file=sys.stderr)
    assert printed.text == "one\ntwo"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["x" * 99, "", "x"], ids=["long", "empty", "short"])
def test_a_flood_is_cut_with_a_note_and_not_kept_in_memory(line):
    with captured() as printed:
        for _ in range(20_000):
            print(line)
    body, note = printed.text.rsplit("\n... (", 1) if line else ("", printed.text)
    assert "characters are not shown)" in note
    assert len(body) <= MAX_CHARACTERS and len(body.splitlines()) <= MAX_LINES
    if line:
        assert len(body) + int(note.split()[0].replace(",", "")) == 20_000 * (len(line) + 1)
    assert len(printed._text) <= MAX_CHARACTERS


def test_a_little_output_is_kept_whole_and_none_is_empty():
    with captured() as printed:
        pass
    assert printed.text == ""
    with captured() as printed:
        print("a\n b")
    assert printed.text == "a\n b"
