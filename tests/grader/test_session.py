"""Between grader and notebook: answers that must be prepared, exceptions by name, and what happens at the deadline."""

import dataclasses
import time

import pytest
import torch
from torch import nn

from lightvit_grader import session, worker
from lightvit_grader.grading import Judge
from lightvit_grader.submissions import Submission
from lightvit_lab.exercises import Answers, Exercise, Known, Posed, engine
from lightvit_lab.exercises import find as find_exercise


class ToWorker:
    """A channel whose other end is the worker's own code, in this process."""

    def __init__(self, answer):
        self.recorder, self.answer = worker.Recorder(None, 5.0), answer

    def send(self, request):
        self.reply = self.recorder.attempt("x.layer", self.answer, request)

    def receive(self):
        return self.reply


def layer_of(width):
    return lambda: nn.Linear(width, width, bias=False)


LAYER = Exercise("x.layer", points=2, minutes=1, posed=Posed("A layer", "A layer of 9 weights"),
                 prepare=lambda make: sum(weight.numel() for weight in make().parameters()),
                 answers=Answers(layer_of(3), (Known("two", layer_of(2), "Two.", "Too few."),
                                               Known("four", layer_of(4), "Four.", "Too many."))))
CALLED = dataclasses.replace(LAYER, cases=lambda generator: [(torch.randn(2, 3, generator=generator),)],
                             prepare=lambda make: make(), answers=Answers(lambda: nn.Identity()))


@pytest.mark.parametrize("exercise, answer, status, mistake", [
    (LAYER, layer_of(3), "passed", ""), (LAYER, layer_of(2), "wrong", "two"), (LAYER, layer_of(7), "wrong", ""),
    (LAYER, lambda: 1 / 0, "error", ""), (CALLED, lambda: nn.Identity(), "passed", ""),
    (CALLED, lambda: nn.ReLU(), "wrong", "")])
def test_an_answer_that_must_be_prepared_is_prepared_over_there_and_judged_here(
        monkeypatch, exercise, answer, status, mistake):
    monkeypatch.setattr("lightvit_lab.exercises.find", lambda name: exercise)
    remote = session.RemoteAnswer(ToWorker(answer), "answer")
    judge = Judge(Submission("ana", session.Path("a.ipynb")), {exercise.id: exercise}, seed=1)
    judge(exercise.id, remote)
    assert (judge.rows[exercise.id].status, judge.rows[exercise.id].mistake) == (status, mistake)


def test_an_endless_call_is_timed_out_by_the_process_it_runs_in_and_not_cut_off_by_the_grader():
    class Slow(ToWorker):
        def receive(self):
            time.sleep(0.3)                      # longer than check() lets an answer run
            return {"late": True}

    exercise = dataclasses.replace(find_exercise("vision_transformer.block_macs"), seconds=0.1)
    judge = Judge(Submission("ana", session.Path("a.ipynb")), {exercise.id: exercise}, seed=1)
    judge(exercise.id, session.RemoteAnswer(Slow(lambda *inputs: 0), "block_macs"))
    assert judge.rows[exercise.id].status == "timeout"


def test_only_the_first_answers_to_an_exercise_are_tried_so_that_nobody_guesses_on():
    exercise = find_exercise("vision_transformer.count")
    judge = Judge(Submission("ana", session.Path("a.ipynb")), {exercise.id: exercise}, seed=1)
    for guess in range(558, 578):
        judge(exercise.id, guess)
    assert judge.rows[exercise.id].status == "passed"                    # the twentieth is 577
    judge.counts.clear()
    for guess in range(557, 578):
        judge(exercise.id, guess)
    assert judge.rows[exercise.id].status == "wrong"                     # the twenty-first is not looked at


@pytest.mark.parametrize("name, text, kind", [
    ("KeyError", "'a'", KeyError), ("NotImplementedError", "", NotImplementedError), ("1 / 0", "x", Exception),
    ("RuntimeError", "size", RuntimeError), ("UnicodeDecodeError", "x", Exception), ("SystemExit", "x", Exception),
    ("getattr", "x", Exception)])
def test_exceptions_come_back_by_name_and_never_as_what_would_end_the_grader(name, text, kind):
    error = session._exception(name, text)
    assert isinstance(error, kind) and isinstance(error, Exception)


def test_a_notebook_that_sleeps_through_its_time_is_stopped_and_its_folder_deleted(monkeypatch, tmp_path):
    monkeypatch.setattr(session.tempfile, "tempdir", str(tmp_path))
    ending = session.run(["import time; time.sleep(100)"], session.Limits(2.0), lambda *answer: None)
    assert (ending.how, list(tmp_path.iterdir())) == ("timeout", [])


def test_a_stub_over_there_is_a_stub_here():
    def stub():
        raise NotImplementedError

    remote = session.RemoteAnswer(ToWorker(stub), "stub")
    exercise = find_exercise("vision_transformer.block_macs")
    assert engine.examine(exercise, remote, 1).status == "error"         # wrong arguments: the call itself fails
    remote = session.RemoteAnswer(ToWorker(lambda *inputs: stub()), "stub")
    assert engine.examine(exercise, remote, 1).status == "not started"


def test_an_answer_that_cannot_be_handed_over_does_not_keep_the_next_one_back():
    class Channel:
        sent = []

        def send(self, message):
            if message["name"] == "broken":
                raise ValueError("it cannot be sent")
            self.sent.append(message["check"])

        def receive(self):
            return {"do": "go on"}

    def broken():
        pass

    recorder = worker.Recorder(Channel(), 5.0)
    with pytest.raises(ValueError, match="cannot be sent"):
        recorder("x.first", broken)
    recorder("x.second", lambda: 1)
    assert Channel.sent == ["x.second"]
