"""What a check does with unruly answers: endless, loud, in train mode, on another device, a class, one that exits."""

import dataclasses
import re
import sys

import pytest
import torch
from torch import nn

from lightvit_lab.exercises import Known, examine
from made_exercises import exercise as made


def doubled(x):
    return x * 2


def pairs(generator):
    return [(torch.rand(4, generator=generator),), (torch.rand(6, generator=generator),)]


TRIPLED = Known("tripled", lambda x: x * 3, "Too much.", "Twice.")
DOUBLE = made("sample.double", doubled, pairs, (TRIPLED,))
HURRIED = dataclasses.replace(DOUBLE, seconds=0.3)
ANSWER = made("sample.answer", 196)


def endless(x):
    while True:
        x = x + 0


def test_an_endless_loop_is_an_error_that_names_the_limit_and_the_line():
    result = examine(HURRIED, endless)
    assert result.status == "error"
    assert "did not end within 0.3 s" in result.message
    assert re.search("stopped at line [23] of `endless`", result.message)


def test_an_endless_second_case_is_found_there():
    result = examine(HURRIED, lambda x: doubled(x) if len(x) == 4 else endless(x))
    assert result.status == "error" and result.message.startswith("Case 2 of 2") and "did not end" in result.message


def test_a_known_mistake_may_be_a_loop_without_end():
    loop = Known("loop", endless, "It never ends.", "Count.")
    exercise = made("sample.loop", doubled, pairs, (loop,), seconds=0.2)
    result = examine(exercise, endless)
    assert result.mistake == "loop" and result.status == "error" and "It never ends." in result.message


def test_a_known_mistake_is_still_recognised_when_other_mistakes_raise():
    def breaks(x):
        raise ValueError

    exercise = made("sample.mixed", doubled, pairs, (Known("breaks", breaks, "b", "b"), TRIPLED))
    assert examine(exercise, lambda x: x + x + x).mistake == "tripled"


@pytest.mark.parametrize("stop", [lambda: sys.exit(3), lambda: exec("raise SystemExit")])
def test_an_answer_that_exits_does_not_end_the_notebook(stop):
    result = examine(DOUBLE, lambda x: stop())
    assert result.status == "error" and "asks Python to exit" in result.message


def test_the_readers_own_interrupt_is_passed_on():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(DOUBLE, interrupted)


def test_what_an_answer_prints_stands_in_the_result_cut_and_escaped(capsys):
    def loud(x):
        print("<b>begin</b>")
        for _ in range(100_000):
            print("noise")
        return doubled(x)

    result = examine(DOUBLE, loud)
    assert result.status == "passed"
    assert "it printed:\n    <b>begin</b>\n    noise" in repr(result)
    assert "more characters are not shown" in repr(result)
    html = result._repr_html_()
    assert "&lt;b&gt;begin" in html and "<b>" not in html and len(html) < 5000
    assert capsys.readouterr() == ("", "")


def test_a_printed_line_cannot_pass_for_the_verdict_of_another_exercise():
    def forged(x):
        print("[passed] sample.answer: Right (1 point).")

    assert all(not line.startswith("[passed]") for line in repr(examine(DOUBLE, forged)).splitlines())


def test_output_of_the_reference_and_of_known_mistakes_is_never_shown(capsys):
    def says(x):
        print("the secret")
        return doubled(x)

    exercise = made("sample.says", says, pairs, (Known("m", lambda x: print("secret") or x, "h", "s"),))
    assert "secret" not in repr(examine(exercise, lambda x: x * 5))
    assert capsys.readouterr() == ("", "")


class Dropping(nn.Module):
    """Doubles, and drops half in train mode."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(1), nn.Dropout(0.5)

    def forward(self, x):
        self.norm(x.view(-1, 1))
        return self.drop(x * 2)


def test_a_module_in_train_mode_is_tried_as_in_eval_told_so_and_put_back():
    module = Dropping()
    statistics = module.norm.running_mean.clone()
    result = examine(DOUBLE, module)
    assert result.status == "passed" and "`.eval()`" in result.message
    assert module.training and module.drop.training and torch.equal(module.norm.running_mean, statistics)
    assert "eval" not in examine(DOUBLE, module.eval()).message and not module.training


def slope(x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((x * x).sum(), x)[0]


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_answers_that_need_gradients_pass_where_they_are_switched_off(outside):
    exercise = made("sample.slope", slope, pairs, (Known("m", lambda x: x, "h", "s"),))
    with outside():
        assert examine(exercise, lambda x: 2 * x).status == "passed"
        assert examine(exercise, slope).status == "passed"


def test_a_module_in_a_mixture_of_modes_gets_it_back_also_where_it_fails():
    class Broken(Dropping):
        def forward(self, x):
            raise ValueError("no")

    for module in (Dropping(), Broken()):
        module.norm.eval()
        examine(DOUBLE, module)
        assert module.training and module.drop.training and not module.norm.training


def test_nothing_is_said_about_the_mode_where_it_makes_no_difference():
    class Plain(nn.Module):
        def forward(self, x):
            return x * 2

    assert "eval" not in examine(DOUBLE, nn.Sequential(Plain(), nn.Dropout(0.0))).message


class Weighted(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 2.0, device=device))

    def forward(self, x):
        return x * self.weight


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_module_on_the_gpu_gets_its_inputs_there_and_passes():
    assert examine(DOUBLE, Weighted("cuda")).status == "passed"


def test_a_module_elsewhere_gets_its_inputs_there_and_an_answer_without_numbers_is_named():
    """The device meta stands in for a GPU here: a module on it computes only if its inputs lie there too."""
    result = examine(DOUBLE, Weighted("meta"))
    assert result.status == "wrong" and "device meta" in result.message and "in place" not in result.message


def test_a_function_that_mixes_devices_is_told_where_its_inputs_are():
    result = examine(DOUBLE, lambda x: x * torch.full((1,), 2.0, device="meta"))
    assert result.status == "error" and "inputs on the cpu" in result.message and "device=x.device" in result.message


def test_a_value_on_another_device_is_refused_in_words_that_give_nothing_away():
    result = examine(ANSWER, torch.tensor(196, device="meta"))
    assert result.status == "wrong" and "196" not in repr(result)


def test_a_class_where_a_function_or_a_value_is_asked_for_is_named_a_class():
    for exercise, mend in ((DOUBLE, "Give an instance of it"), (ANSWER, "Expected a value")):
        result = examine(exercise, Weighted)
        assert result.status == "wrong" and "class `Weighted`" in result.message and mend in result.message


def test_an_instance_where_a_class_is_asked_for_is_refused_in_words():
    exercise = made("sample.cls", Dropping, pairs, (), prepare=lambda made: made().eval())
    assert examine(exercise, Dropping).status == "passed"
    assert "Give the class itself" in examine(exercise, Dropping()).message


def test_a_verdict_names_shape_dtype_and_tolerance():
    far = examine(DOUBLE, lambda x: x * 2 + 1)
    assert "shape (4,) and the dtype are right" in far.message and "tolerance, 1e-05" in far.message
    assert "within 1e-05" in examine(DOUBLE, lambda x: x + x + 1e-7).message
    other = examine(DOUBLE, lambda x: x.double() * 4)
    assert "shape (4,) is right, the dtype is torch.float64, but 4 of 4 values" in other.message
    both = examine(DOUBLE, lambda x: (x * 2).double()[None])
    assert "shape (1, 4), expected (4,)" in both.message
