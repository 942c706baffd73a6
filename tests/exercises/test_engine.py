"""The check of an exercise: what it passes, what it refuses, and what it says. Uses exercises of its own."""

import sys
from types import ModuleType

import numpy
import pytest
import torch
from torch import nn

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import Known, OpenExercise, Posed, all_exercises, open_exercises, check, engine, examine, find, reset
from made_exercises import exercise as made


def row_means(table, keep):
    """(rows, columns) -> means over the first `keep` columns, (rows,)."""
    return table[:, :keep].mean(1)


def column_means(table, keep):
    return table[:keep].mean(0)


def row_sums(table, keep):
    return table[:, :keep].sum(1)


def flat_means(table, keep):
    return table.t().view(-1)[:keep]   # raises: a transposed table is not contiguous


def draw_tables(generator):
    return [(torch.rand(3, 4, generator=generator), 2), (torch.rand(5, 6, generator=generator), 3)]


MEANS = made(
    "sample.row_means", prompt="Average the first columns of each row.", solution=row_means, cases=draw_tables,
    mistakes=(Known("wrong axis", column_means, "Which axis is left?", "Average over axis 1."),
              Known("sum", row_sums, "That is too large by a factor.", "Divide by how many you added."),
              Known("view", flat_means, "A transposed tensor is not contiguous.", "Use `reshape`.")),
    points=2, minutes=5)
COUNT = made(
    "sample.tokens", prompt="How many tokens?", solution=196,
    mistakes=(Known("class token", 197, "Only image tokens count.", "Leave the class token out."),
              Known("one side", 14, "That is one side.", "Square it.")),
    points=1, minutes=1)


WHY = OpenExercise("sample.why", points=3, minutes=5, posed=Posed("Why?", "Why the mean?"))


@pytest.fixture(autouse=True)
def fresh_session(monkeypatch):
    module = ModuleType("sample_exercises")
    module.EXERCISES, module.OPEN = (MEANS, COUNT), (WHY,)
    monkeypatch.setitem(sys.modules, "sample_exercises", module)
    monkeypatch.setattr(engine, "_modules", lambda: {"sample": "sample_exercises"})
    reset()


def test_the_reference_passes_and_says_how_many_cases_and_points():
    result = check("sample.row_means", row_means)
    assert result.status == "passed"
    assert "2" in result.message and "2 points" in result.message


def test_another_way_to_the_same_result_passes():
    assert check("sample.row_means", lambda table, keep: table[:, :keep].sum(1) / keep).status == "passed"


@pytest.mark.parametrize("answer", [196, 196.0, torch.tensor(196), torch.tensor([196.0])])
def test_a_number_passes_as_int_float_or_tensor(answer):
    assert check("sample.tokens", answer).status == "passed"


def stub(table, keep):
    """A docstring."""
    raise NotImplementedError


def stub_with_message(table, keep):
    raise NotImplementedError("write me")


class StubModule(nn.Module):
    pass


@pytest.mark.parametrize("exercise, answer", [
    ("sample.row_means", stub), ("sample.row_means", stub_with_message), ("sample.row_means", ...),
    ("sample.row_means", lambda table, keep: ...), ("sample.row_means", StubModule()), ("sample.tokens", ...),
    ("sample.tokens", (1, ...)), ("sample.tokens", {"tokens": ...})])
def test_a_stub_is_not_started_and_raises_nothing(exercise, answer):
    assert check(exercise, answer).status == "not started"


def test_torchs_own_not_implemented_error_is_an_error_and_not_a_stub():
    result = check("sample.row_means", lambda table, keep: table.long().softmax(-1))
    assert result.status == "error" and "not implemented for 'Long'" in result.message


def fails_on_its_third_line(table, keep):
    helper = nn.Linear(7, 1)
    return helper(table)


def test_an_exception_names_the_readers_line_and_not_torchs():
    result = check("sample.row_means", fails_on_its_third_line)
    assert result.status == "error"
    assert "line 3 of `fails_on_its_third_line`, `return helper(table)`, raised RuntimeError" in result.message
    assert "linear.py" not in result.message


def test_a_function_with_the_wrong_signature_is_told_what_it_was_called_with():
    result = check("sample.row_means", lambda table: table)
    assert result.status == "error"
    assert "a tensor (3, 4), 2" in result.message and "takes 1 positional argument but 2 were given" in result.message


def test_an_endless_recursion_is_an_error_with_a_line():
    def again(table, keep):
        return again(table, keep)

    result = check("sample.row_means", again)
    assert result.status == "error" and "line 2 of `again`" in result.message and "RecursionError" in result.message


def test_writing_into_the_input_does_not_corrupt_the_next_call_and_is_mentioned():
    def in_place(table, keep):
        means = row_means(table, keep)
        table.zero_()
        return means

    result = check("sample.row_means", in_place)
    assert result.status == "passed" and "changes its input in place (argument 1)" in result.message


def test_nothing_is_said_about_the_input_where_it_is_left_alone():
    assert "in place" not in check("sample.row_means", row_means).message


def test_a_wrong_shape_is_named_with_the_expected_one_and_the_case():
    result = check("sample.row_means", lambda table, keep: row_means(table, keep)[:, None])
    assert result.status == "wrong"
    assert result.message.startswith("Case 1 of 2") and "shape (3, 1), expected (3,)" in result.message


@pytest.mark.parametrize("cast, said", [
    (lambda means: means.double(), "your result is torch.float64, expected was torch.float32"),
    (lambda means: means.double().numpy(), "your result is a NumPy array of float64"),
    (lambda means: means.tolist(), "your result is a list"),
    (lambda means: tuple(means), "your result is a tuple"),
    (lambda means: means.to(torch.complex64), "your result is torch.complex64")])
def test_right_values_of_another_type_pass_with_a_remark(cast, said):
    result = check("sample.row_means", lambda table, keep: cast(row_means(table, keep)))
    assert result.status == "passed" and f"mind the type: {said}" in result.message


@pytest.mark.parametrize("cast", [lambda means: means.half(), lambda means: means.double() + 1e-3,
                                  lambda means: means.numpy() * 2, lambda means: means.tolist()[1:]])
def test_wrong_values_of_another_type_are_refused(cast):
    result = check("sample.row_means", lambda table, keep: cast(row_means(table, keep)))
    assert result.status == "wrong" and "mind the type" not in result.message


def test_a_known_mistake_in_another_type_draws_its_hint():
    assert check("sample.row_means", lambda table, keep: row_sums(table, keep).double().numpy()).mistake == "sum"


def test_a_device_without_numbers_is_named():
    result = check("sample.row_means", lambda table, keep: row_means(table, keep).to("meta"))
    assert result.status == "wrong" and "device meta" in result.message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_output_on_the_gpu_is_compared_on_the_cpu():
    assert check("sample.row_means", lambda table, keep: row_means(table.cuda(), keep)).status == "passed"


def test_nan_is_called_by_its_name_and_its_place():
    def divides_by_zero(table, keep):
        means = row_means(table, keep)
        means[1] = float("nan")
        return means

    result = check("sample.row_means", divides_by_zero)
    assert result.status == "wrong" and "NaN" in result.message and "the first at [1]" in result.message


def test_a_forgotten_return_is_guessed():
    result = check("sample.row_means", lambda table, keep: None)
    assert result.status == "wrong" and "`return` missing" in result.message


def test_an_unknown_wrong_answer_gets_case_largest_difference_and_both_outputs():
    def off_at_two(table, keep):
        return row_means(table, keep) + torch.tensor([0.0, 0.25, 1.0, 0.0, 0.0])[: len(table)]

    result = check("sample.row_means", off_at_two)
    assert result.status == "wrong" and result.mistake is None
    assert "2 of 3 values" in result.message and "most at [2]" in result.message and "difference of 1" in result.message
    expected, given = result.values.splitlines()
    assert expected.startswith("expected  [0.") and given.startswith("given     [0.")


def test_a_failure_in_the_second_case_only_is_found_there():
    result = check("sample.row_means", lambda table, keep: row_means(table, keep) * (1 if keep == 2 else 3))
    assert result.message.startswith("Case 2 of 2")


@pytest.mark.parametrize("mistake", MEANS.mistakes + COUNT.mistakes, ids=lambda mistake: mistake.name)
def test_a_known_mistake_draws_its_hint_then_the_stronger_one_and_keeps_to_it(mistake):
    exercise = "sample.row_means" if mistake in MEANS.mistakes else "sample.tokens"
    results = [check(exercise, mistake.answer) for _ in range(3)]
    assert [result.mistake for result in results] == [mistake.name] * 3
    assert mistake.hint in results[0].message and mistake.stronger not in results[0].message
    assert mistake.stronger in results[1].message and mistake.stronger in results[2].message


def test_one_mistake_does_not_use_up_the_first_hint_of_another():
    check("sample.row_means", column_means)
    assert check("sample.row_means", row_sums).message == "That is too large by a factor."


def test_a_known_mistake_that_raises_shows_the_line_and_the_hint():
    result = check("sample.row_means", flat_means)
    assert result.status == "error" and result.mistake == "view"
    assert "Line 2 of `flat_means`" in result.message and "not contiguous." in result.message


def test_inputs_are_fresh_at_each_check_and_a_seed_repeats_them():
    seen = []

    def record(table, keep):
        seen.append(table.clone())
        return row_means(table, keep)

    seeds = [check("sample.row_means", record).seed for _ in range(2)]
    examine(MEANS, record, seed=seeds[0])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0], seen[4])


def test_a_constant_remembered_from_an_earlier_check_does_not_pass():
    remembered = []
    check("sample.row_means", lambda table, keep: remembered.append(row_means(table, keep)) or remembered[-1])
    replay = iter(remembered)
    assert check("sample.row_means", lambda table, keep: next(replay)).status == "wrong"


def test_the_readers_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    check("sample.row_means", lambda table, keep: row_means(table, keep) + torch.rand(1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("answer, expected", [
    (3.0, "Give the function itself"), (torch.zeros(3), "got a tensor (3,)"), (nn.Linear, "Give an instance")])
def test_something_else_than_a_function_is_refused_in_words(answer, expected):
    result = check("sample.row_means", answer)
    assert result.status == "wrong" and expected in result.message


def test_a_function_where_a_value_is_asked_for_is_refused_in_words():
    result = check("sample.tokens", row_means)
    assert result.status == "wrong" and "got the function `row_means`" in result.message


@pytest.mark.parametrize("answer", [150, 300, "196", float("nan"), torch.ones(2), True, None, [196]])
def test_a_wrong_value_is_not_told_the_right_one(answer):
    result = check("sample.tokens", answer)
    assert result.status == "wrong"
    assert "196" not in (result.message + result.values)


def test_a_wrong_number_is_told_its_direction():
    assert "too low" in check("sample.tokens", 150).message
    assert "too high" in check("sample.tokens", 300).message


def test_a_whole_number_that_is_nearly_right_is_wrong():
    macs = made("sample.macs", 1_254_000_000)
    assert examine(macs, 1_254_000_001).status == examine(macs, 1_254_000_001.0).status == "wrong"
    assert examine(macs, 2 * 627e6 * (1 + 2e-16)).status == "passed"
    assert examine(macs, 1_254_000_000).status == "passed"


SHARE = made("sample.share", 0.34176, mistakes=(
    Known("rest", 1 - 0.34176, "That is the rest.", "1 minus it."),
    Known("near", 0.3449, "One token too many.", "64 of them.")), digits=3, unit="share")
PERCENT = made("sample.percent", 14.2639, mistakes=(
    Known("tokens", 14.2007, "One is no patch.", "197."), Known("share", 0.142639, "In percent.", "Times 100.")),
    digits=4, unit="percent")
FACTOR = made("sample.factor", 7.389, mistakes=(Known("double", 14.778, "Half of it.", "Divide by 2."),), digits=2)


@pytest.mark.parametrize("exercise, answer", [
    (SHARE, 0.342), (SHARE, 0.3418), (SHARE, 0.34176), (SHARE, 34.2), (SHARE, 34.18), (SHARE, "34.2 %"),
    (SHARE, "34.176%"), (SHARE, "0.342"), (SHARE, torch.tensor(0.342)), (SHARE, torch.tensor([34.2])),
    (PERCENT, 14.26), (PERCENT, 14.264), (PERCENT, "14.26 %"), (PERCENT, torch.tensor(14.26, dtype=torch.float64)),
    (FACTOR, 7.4), (FACTOR, 7.39), (FACTOR, 7.389056), (FACTOR, "739 %"),
    (FACTOR, numpy.float32(7.4)), (FACTOR, torch.tensor(7.4)), (FACTOR, 7.386), (made("sample.tie", 1.125, digits=3), 1.12),
    (made("sample.tie", 1.125, digits=3), 1.13)])
def test_a_typed_number_passes_with_the_digits_asked_for_or_more(exercise, answer):
    assert examine(exercise, answer).status == "passed"


@pytest.mark.parametrize("exercise, answer", [
    (SHARE, 0.341), (SHARE, 0.343), (SHARE, 34.4), (SHARE, 0.0342), (SHARE, "34.2"), (SHARE, 3.42), (SHARE, "about 34.2 %"),
    (PERCENT, 14.25), (PERCENT, 14.27), (SHARE, 0.3422), (SHARE, 0.3413), (FACTOR, 7.38), (FACTOR, 7.44), (PERCENT, "0.1426"), (PERCENT, 1426), (FACTOR, 7.3), (FACTOR, 7.5), (FACTOR, 0.074),
    (FACTOR, None), (FACTOR, float("nan")), (FACTOR, [7.4])])
def test_a_typed_number_beyond_its_digits_is_refused(exercise, answer):
    result = examine(exercise, answer)
    assert result.status == "wrong" and result.mistake in (None, "share")


def test_a_typed_number_with_too_few_digits_is_asked_for_more_and_draws_no_hint():
    for exercise, answer in ((SHARE, 0.34), (SHARE, 34), (PERCENT, 14.3), (PERCENT, 14), (FACTOR, 7)):
        result = examine(exercise, answer)
        assert result.status == "wrong" and result.mistake is None and "digits" in result.message


@pytest.mark.parametrize("exercise, answer, name", [
    (SHARE, 0.658, "rest"), (SHARE, 65.8, "rest"), (SHARE, "65.82 %", "rest"), (SHARE, 0.345, "near"),
    (PERCENT, 14.2, "tokens"), (PERCENT, 14.2007, "tokens"), (PERCENT, 0.1426, "share"), (FACTOR, 15, "double")])
def test_a_rounded_mistake_draws_its_hint_also_in_percent(exercise, answer, name):
    assert examine(exercise, answer).mistake == name


def test_hints_attach_by_relative_distance_however_small_the_numbers():
    small = made("sample.small", 0.0153, mistakes=(Known("share", 0.0112, "Percent.", "Times 100."),), digits=3)
    assert examine(small, 0.0112).mistake == "share"
    for answer in (0.0092, 0.0132, 0.0109, 0.01):
        assert examine(small, answer).mistake is None


def test_percent_and_text_are_remarked_and_the_digits_are_named():
    assert "You gave percent; as a share it is 0.342" in examine(SHARE, 34.2).message
    assert "without quotes" in examine(SHARE, "0.342").message
    assert "asked for to 3 digits" in examine(SHARE, 0.5).message
    assert "0.34" not in examine(SHARE, 0.5).message


def products(weight):
    return weight[:, :1], weight[:1]


def multiplied(answer):
    """The check's own code: it multiplies the two parts that an answer returns."""
    def product(weight):
        left, right = answer(weight)
        return left @ right
    return product


@pytest.mark.parametrize("answer, said", [
    (lambda w: products(w)[::-1], "it returned a tuple of 2 (a tensor (1, 2), a tensor (3, 1)); expected a tuple of 2"),
    (lambda w: (*products(w), w), "it returned a tuple of 3"), (lambda w: products(w)[0], "it returned a tensor (3, 1)"),
    (lambda w: None, "it returned None (is a `return` missing?)")])
def test_what_the_checks_own_code_cannot_use_is_described_as_the_readers_result(answer, said):
    exercise = made("sample.factors", products, lambda g: [(torch.rand(3, 2, generator=g),)], prepare=multiplied)
    result = examine(exercise, answer)
    assert result.status == "error" and said in result.message and "raised" not in result.message


def test_an_error_of_the_readers_own_inside_the_checks_code_stays_the_readers():
    exercise = made("sample.factors", products, lambda g: [(torch.rand(3, 2, generator=g),)], prepare=multiplied)
    assert "takes 0 positional arguments" in examine(exercise, lambda: None).message
    assert "`1 / 0`" in examine(exercise, fails_in_its_line).message


def fails_in_its_line(weight):
    1 / 0


def with_outputs(outputs):
    """An exercise whose reference gives these outputs, whatever the input."""
    return made("sample.parts", outputs, lambda generator: [(torch.rand(2, generator=generator),)])


def test_tuples_of_tensors_numbers_and_words_are_compared_part_by_part():
    exercise = with_outputs(lambda x: (x * 2, 3, "rows", True))
    assert examine(exercise, lambda x: [x + x, 3, "rows", True]).status == "passed"
    assert "the output[0]" in examine(exercise, lambda x: (x, 3, "rows", True)).message
    assert "the output[1] differs" in examine(exercise, lambda x: (x * 2, 4, "rows", True)).message
    assert "the output[2] differs" in examine(exercise, lambda x: (x * 2, 3, "columns", True)).message
    assert "the output[3] differs" in examine(exercise, lambda x: (x * 2, 3, "rows", False)).message
    assert "3 parts, expected 4" in examine(exercise, lambda x: (x * 2, 3, "rows")).message


def test_dicts_are_compared_by_key():
    exercise = with_outputs(lambda x: {"mean": x.mean(), "count": 2})
    assert examine(exercise, lambda x: {"count": 2, "mean": float(x.sum() / 2)}).status == "passed"
    assert "keys ['mean'], expected ['count', 'mean']" in examine(exercise, lambda x: {"mean": x.mean()}).message


def test_masks_and_indices_are_compared_exactly():
    exercise = with_outputs(lambda x: (x > 0.5, x.argsort()))
    assert examine(exercise, lambda x: (x.gt(0.5), x.sort().indices)).status == "passed"
    assert "2 of 2 values" in examine(exercise, lambda x: (~(x > 0.5), x.argsort())).message


def test_expected_nan_and_infinities_agree_with_themselves_only():
    exercise = with_outputs(lambda x: torch.tensor([float("nan"), float("inf"), 1.0]))
    assert examine(exercise, lambda x: torch.tensor([float("nan"), float("inf"), 1.0])).status == "passed"
    assert examine(exercise, lambda x: torch.tensor([float("nan"), -float("inf"), 1.0])).status == "wrong"


class Doubler(nn.Module):
    """A module that an exercise asks for as a class; `prepare` builds it and gives it known weights."""

    def __init__(self, dim, factor=2.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.factor = factor

    def forward(self, x):
        return x * self.weight * self.factor


class Tripler(Doubler):
    def __init__(self, dim):
        super().__init__(dim, 3.0)


def build(module_class):
    module = module_class(2)
    nn.init.normal_(module.weight)
    return module


CLASS = made("sample.doubler", Doubler, lambda generator: [(torch.rand(2, generator=generator),)],
             (Known("tripled", Tripler, "Too much.", "Twice, not thrice."),), prepare=build)


def test_a_class_is_built_with_the_references_weights_and_compared():
    class Mine(Doubler):
        def forward(self, x):
            return (x + x) * self.weight

    assert examine(CLASS, Mine).status == "passed"
    assert examine(CLASS, Tripler).mistake == "tripled"


def test_a_class_whose_constructor_is_a_stub_or_fails_is_told_so():
    class Stub(nn.Module):
        def __init__(self, dim):
            raise NotImplementedError

    class Broken(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.weight = undefined_name  # noqa: F821

    assert examine(CLASS, Stub).status == "not started"
    result = examine(CLASS, Broken)
    assert result.status == "error" and "line 3 of `__init__`" in result.message


@pytest.mark.parametrize("wrong, close", [("sample.row_mean", "sample.row_means"), ("sampel.tokens", "sample.tokens")])
def test_an_unknown_id_suggests_the_closest(wrong, close):
    with pytest.raises(LabError, match=f'Did you mean "{close}"'):
        check(wrong, row_means)


def test_arguments_in_the_wrong_order_are_an_unknown_id():
    with pytest.raises(LabError, match="exercise_id"):
        check(row_means, "sample.row_means")


def test_find_imports_only_the_file_of_the_stem(monkeypatch):
    monkeypatch.setattr(engine, "_modules", lambda: {"sample": "sample_exercises", "other": "no_such_module_at_all"})
    assert find("sample.tokens") is COUNT


def test_all_exercises_are_listed_file_by_file():
    assert list(all_exercises()) == [MEANS, COUNT]


def test_an_open_question_is_listed_apart_and_nobody_checks_it():
    assert list(open_exercises()) == [WHY] and engine.page_of(MEANS) == engine.page_of(WHY)
    with pytest.raises(LabError, match="'sample.why' is an open question: no program judges it"):
        check("sample.why", "Because rows differ in length.")
    for wrong in ({"id": "why"}, {"points": 0}, {"minutes": 0}):
        with pytest.raises(LabError):
            OpenExercise(**{"id": "sample.why", "points": 1, "minutes": 1, **wrong})


@pytest.mark.parametrize("changes, expected", [
    ({"name": "tokens"}, "<stem of the page>.<name>"), ({"points": 0}, "points"), ({"minutes": -1}, "minutes"),
    ({"cases": None}, "give cases"), ({"mistakes": (Known("value", 3, "", ""),)}, "solution's kind")])
def test_a_declaration_that_cannot_work_is_refused(changes, expected):
    fields = {"name": "sample.x", "solution": row_means, "cases": draw_tables}
    with pytest.raises(LabError, match=expected):
        made(**(fields | changes))


def test_cases_that_are_no_tuples_and_a_reference_that_raises_are_the_books_fault():
    with pytest.raises(LabError, match="list of tuples"):
        examine(made("sample.x", row_means, lambda generator: [torch.rand(2)]), row_sums)
    with pytest.raises(LabError, match="its reference raises"):
        examine(made("sample.x", flat_means, draw_tables), row_sums)


def test_text_and_html_carry_status_in_words_and_escape_what_the_reader_wrote():
    result = check("sample.row_means", lambda table, keep: [][int("<b>")])
    text, html = repr(result), result._repr_html_()
    assert text.startswith("[error] sample.row_means: ")
    assert 'class="lab-check lab-check-error"' in html and "error</strong>" in html
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_no_message_shows_the_references_code():
    answers = [row_sums, stub, fails_on_its_third_line, lambda table, keep: table, 3]
    for answer in answers:
        assert ".mean(1)" not in repr(check("sample.row_means", answer))
