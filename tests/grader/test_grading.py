"""A whole class graded once, the good and the hostile; each test looks at the rows of one student."""

import csv
import os
import socket
import time

import pytest
from handed_in import FORGED, IMPORTS, NAMES, SOLVED, STUBS, VANDAL, function, notebook, solved_but, value

from lightvit_grader import lockdown
from lightvit_grader.grading import Row, grade, student_rows, write_rows
from lightvit_grader.session import Limits
from lightvit_lab.cli import main
from lightvit_lab.errors import LabError
from lightvit_lab.exercises import all_exercises, find, open_exercises

POINTS = {name: find(f"vision_transformer.{name}").points for name in NAMES}
SECONDS = 30           # waited out by the endless ones
PATCHIFY_WITHOUT_PERMUTE = "return images.reshape(len(images), -1, images.shape[1] * patch_size**2)"


def the_class(precious, grades, port):
    """File -> its text."""
    good = solved_but()
    vandal = VANDAL.format(precious=str(precious), grades=str(grades), grader=os.getpid(), port=port)
    return {
        "good/vision_transformer.ipynb": notebook("import os, sys\nfor _ in range(300): print('x' * 100_000)\n"
                                                  "os.write(1, b'y' * 10**7); os.write(2, b'z' * 10**7)", *good,
                                                  "raise SystemError('after the last check nothing is run')"),
        "stub/vision_transformer.ipynb": notebook(IMPORTS, *STUBS.values()),
        "half/one.ipynb": notebook(IMPORTS, SOLVED["count"], STUBS["attention"],
                                   function("patchify", PATCHIFY_WITHOUT_PERMUTE),
                                   function("block_macs", "return 7 * num_tokens"), value("budget", "528.4"),
                                   value("diagnose", "nonsense")),
        "half/two.ipynb": notebook(IMPORTS, SOLVED["attention"], STUBS["count"]),
        "bare_vision_transformer.ipynb": notebook(*good, STUBS["patchify"], STUBS["count"], value("budget", "3"),
                                                  SOLVED["budget"], metadata=False),
        "confused/a.ipynb": notebook(*solved_but(
            patchify='class Patchify:\n    pass\ncheck("vision_transformer.patchify", Patchify)',
            attention='check("vision_transformer.attention", 3)',
            count='check("vision_transformer.count", lambda: 577)',
            diagnose='check("vision_transformer.diagnosis", answer)')),
        "brace.ipynb": "{", "empty.ipynb": "", "list.ipynb": "[1, 2]", "deep.ipynb": "[" * 100_000,
        "nothing/readme.txt": "", "latin.ipynb": b"\xff\xfe\x00",
        "leaves.ipynb": notebook(*solved_but(attention=SOLVED["attention"] + "\nimport sys; sys.exit()",
                                             block_macs=function("block_macs", "import urllib.request\n    "
                                                                 "return urllib.request.urlopen('http://127.0.0.1:9').status"),
                                             budget="import os; os._exit(0)\n" + SOLVED["budget"])),
        "loops.ipynb": notebook(*solved_but(
            attention=function("attention", "import time\n    while True: time.sleep(.01)"))),
        "deaf.ipynb": notebook(*solved_but(block_macs="import signal, time\n"
                                           "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
                                           "time.sleep(1000)\n" + SOLVED["block_macs"])),
        "eats.ipynb": notebook(*solved_but(
            attention=function("attention", "return torch.ones(3 * 10**9) @ query"),
            count="hoard = []\nwhile True: hoard.append(bytearray(2**26))"), SOLVED["count"]),
        "forges.ipynb": notebook(IMPORTS, STUBS["budget"], FORGED, value("count", "1"), STUBS["patchify"]),
        "copies.ipynb": notebook(IMPORTS, "from lightvit_lab.exercises import engine, find",
                                 'check("vision_transformer.count", find("vision_transformer.count").solution)',
                                 "import importlib, json, sys\nfrom pathlib import Path\n"
                                 "folder = Path(engine.__file__).parent / 'answers' / 'foundations'\n"
                                 "stored = json.loads((folder / 'vision_transformer.json').read_text())\n"
                                 "exec(stored['vision_transformer.patchify']['code'])\n"
                                 'check("vision_transformer.patchify", patchify)',
                                 "sys.modules.pop('lightvit_lab.exercises.answers')\n"
                                 "answers = importlib.import_module('lightvit_lab.exercises.answers')\n"
                                 'check("vision_transformer.attention", answers.of(find("vision_transformer.attention"))'
                                 '.solution)'),
        "vandal.ipynb": notebook(IMPORTS, vandal, *good[1:], "assert not harm\n" + SOLVED["count"]),
    }


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Student -> exercise -> row as the CSV has it; and where the vandal was let loose."""
    folder, precious = tmp_path_factory.mktemp("submissions"), tmp_path_factory.mktemp("precious")
    grades = tmp_path_factory.mktemp("grades") / "grades.csv"
    (precious / "kept.txt").write_text("kept")
    server = socket.create_server(("127.0.0.1", 0))
    for name, text in the_class(precious, grades, server.getsockname()[1]).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    os.environ["LIGHTVIT_TEST_SECRET"] = "1"
    rows = grade(folder, grades, Limits(SECONDS, 512), seed=3, jobs=2)
    del os.environ["LIGHTVIT_TEST_SECRET"]
    server.close()
    with grades.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    found = {}
    for row in table:
        found.setdefault(row["student"], {})[row["exercise"].rpartition(".")[2]] = row
    return found, precious


def statuses(graded, student):
    rows = graded[0][student]
    assert int(rows["total"]["points"]) == sum(POINTS[name] for name in NAMES if rows[name]["status"] == "passed")
    assert int(rows["total"]["out_of"]) == sum(POINTS.values())
    return {name: rows[name]["status"] for name in NAMES}


def all_passed_but(**others):
    return {**dict.fromkeys(NAMES, "passed"), **others}


@pytest.mark.parametrize("student", [pytest.param(student, id=id) for id, student in (    # each is two in one
    ("good", "good"), ("bare", "bare"), ("twice", "bare"), ("floods", "good"))])
def test_a_good_notebook_gets_all_points_whatever_lies_around_its_answers(graded, student):
    assert statuses(graded, student) == all_passed_but()


def test_stubs_are_not_started_and_a_folder_without_notebook_is_missing(graded):
    assert set(statuses(graded, "stub").values()) == {"not started"}
    assert set(statuses(graded, "nothing").values()) == {"missing"}


def test_each_row_says_what_was_wrong_and_the_better_of_two_files_counts(graded):
    assert statuses(graded, "half") == {"count": "passed", "patchify": "wrong", "attention": "passed",
                                        "block_macs": "wrong", "budget": "wrong", "diagnose": "error", "halves": "missing"}
    rows = graded[0]["half"]
    known = {mistake.name: mistake.hint for mistake in find("vision_transformer.patchify").mistakes}
    assert rows["patchify"]["message"].startswith(known[rows["patchify"]["mistake"]])
    assert "expected" in rows["block_macs"]["message"] and "given" in rows["block_macs"]["message"]
    assert "nonsense" in rows["diagnose"]["message"] and rows["attention"]["file"] == "two.ipynb"


def test_answers_of_the_wrong_kind_are_wrong_and_an_unknown_id_is_missing(graded):
    assert statuses(graded, "confused") == all_passed_but(
        patchify="wrong", attention="wrong", count="wrong", diagnose="missing")
    assert "class `Patchify`" in graded[0]["confused"]["patchify"]["message"]


@pytest.mark.parametrize("student", ["brace", "empty", "list", "deep", "latin"])
def test_a_file_that_is_no_notebook_costs_its_student_alone(graded, student):
    assert set(statuses(graded, student).values()) == {"error"}
    assert "the file" in graded[0][student]["count"]["message"]


def test_a_notebook_that_ends_its_process_keeps_what_it_had_earned(graded):
    assert statuses(graded, "leaves") == all_passed_but(block_macs="error", budget="error", diagnose="error", halves="error")
    assert "ended its own process" in graded[0]["leaves"]["budget"]["message"]


def test_an_endless_function_costs_its_exercise_and_an_endless_cell_the_rest(graded):
    assert statuses(graded, "loops") == all_passed_but(attention="timeout")
    assert statuses(graded, "deaf") == all_passed_but(
        **dict.fromkeys(("block_macs", "budget", "diagnose", "halves"), "timeout"))
    assert f"after {SECONDS} s, in code cell 5" in graded[0]["deaf"]["block_macs"]["message"]


def test_memory_is_refused_to_the_function_that_asks_for_too_much_and_to_nothing_else(graded):
    assert statuses(graded, "eats") == all_passed_but(attention="error")
    assert "allocate" in graded[0]["eats"]["attention"]["message"]


def test_a_notebook_that_patches_the_check_or_speaks_for_it_earns_nothing(graded):
    assert "passed" not in statuses(graded, "forges").values()
    assert graded[0]["forges"]["total"]["points"] == "0"
    assert graded[0]["forges"]["budget"]["status"] == "not started"      # what came before still stands


def test_the_declared_solutions_cannot_be_fetched(graded):
    rows = graded[0]["copies"]
    assert "solutions are not at hand" in rows["count"]["message"] and rows["count"]["status"] != "passed"
    if lockdown.landlock_version():                            # elsewhere the files can be read: lockdown.walls() says so
        assert "passed" not in statuses(graded, "copies").values() and "PermissionError" in rows["patchify"]["message"]


@pytest.mark.skipif(lockdown.landlock_version() < 6 and not lockdown.namespaces(), reason="no walls on this machine")
def test_files_outside_the_scratch_folder_and_the_grader_itself_are_out_of_reach(graded):
    found, precious = graded
    assert statuses(graded, "vandal") == all_passed_but()               # its last cell asserts that all attempts failed
    if lockdown.landlock_version():
        assert (precious / "kept.txt").read_text() == "kept"
    assert found["vandal"]["total"]["status"] == "7 of 7 passed"


def test_the_network_is_refused(graded):
    assert graded[0]["leaves"]["block_macs"]["status"] == "error"
    assert "no network" in graded[0]["leaves"]["block_macs"]["message"]


def test_nothing_that_a_notebook_started_is_left_running(graded):
    if not lockdown.namespaces():
        pytest.skip("needs namespaces: this machine lets users make none")
    time.sleep(0.2)
    running = [path.read_bytes() for path in lockdown.Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(b"time.sleep(600)" in line for line in running)


def test_no_cell_of_the_table_is_a_formula(tmp_path):
    row = Row("=1+1", "x.y", "wrong", 0, 1, message="@SUM(A1)\n-2", file="+a.ipynb")
    write_rows([row], tmp_path / "grades.csv")
    with (tmp_path / "grades.csv").open(newline="") as file:
        (read,) = csv.DictReader(file)
    assert (read["student"], read["message"], read["file"]) == ("'=1+1", "'@SUM(A1) -2", "'+a.ipynb")


def test_the_better_status_of_several_files_counts_and_a_student_without_the_exercise_is_missing():
    exercise = find("vision_transformer.count")
    files = [{exercise.id: Row("ana", exercise.id, status, 0, 1)} for status in ("not started", "wrong", "error")]
    rows = student_rows("ana", files, {exercise.id: exercise})
    assert [row.status for row in rows] == ["wrong", "0 of 1 passed"]
    assert student_rows("ana", [{}], {exercise.id: exercise})[0].status == "missing"


def test_bad_calls_say_what_to_give(tmp_path, capsys):
    (tmp_path / "ana.ipynb").write_text(notebook("1 + 1"))
    out = str(tmp_path / "grades.csv")
    for arguments, said in (([str(tmp_path / "none"), "--csv", out], "is no folder"),
                            ([str(tmp_path), "--csv", out], "name the page that was set, --pages"),
                            ([str(tmp_path), "--csv", out, "--pages", "vision_transformr"],
                             'Did you mean "vision_transformer"'),
                            ([str(tmp_path), "--csv", str(tmp_path / "no" / "a.csv"), "--pages", "lightvit"],
                             "can be written"),
                            ([str(tmp_path), "--csv", out, "--seconds", "1"], "seconds=1.0")):
        assert main(["grade", *arguments]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "ana.ipynb").unlink()
    with pytest.raises(LabError, match="holds no notebook"):
        grade(tmp_path, tmp_path / "grades.csv")


def test_the_command_writes_the_table_and_names_the_seed(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ana.ipynb").write_text("")
    arguments = [str(tmp_path / "in"), "--csv", str(tmp_path / "g.csv"), "--pages", "lightvit", "--seed", "8"]
    assert main(["grade", *arguments]) == 0
    assert "seed 8" in capsys.readouterr().out
    assert (tmp_path / "g.csv").read_text().startswith("student,exercise,status,points,out_of,mistake,message,file")


def test_the_class_above_has_every_exercise_of_the_page():
    declared = {exercise.id for exercise in all_exercises() if exercise.id.startswith("vision_transformer.")}
    assert {f"vision_transformer.{name}" for name in NAMES} == declared


def test_an_open_question_has_a_row_by_hand_that_no_total_counts(graded):
    question = next(open_exercises())
    assert graded[0]["good"]["why_positions"]["status"] == "by hand"
    plain = student_rows("ana", [], {"vision_transformer.count": find("vision_transformer.count")})
    asked = student_rows("ana", [], {"vision_transformer.count": find("vision_transformer.count")}, [question])
    assert [row.exercise for row in asked] == ["vision_transformer.count", question.id, "total"]
    assert (asked[1].status, asked[1].points, asked[1].out_of) == ("by hand", 0, question.points)
    assert asked[-1] == plain[-1] and "rubric" in asked[1].message
