import json

import pytest
import torch
from torch import nn

from lightvit_lab.errors import LabError
from lightvit_lab.experiments import gpu_speed, results, studies


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    return tmp_path


def test_what_is_saved_is_loaded_and_says_where_it_comes_from(folder):
    results.save("trial", {"x": [1, 2]}, [0, 1], "python trial.py", 3.21)
    found = results.load("trial")
    assert (found.data, found.seeds, found.command, found.seconds) == ({"x": [1, 2]}, [0, 1], "python trial.py", 3.2)
    assert found.device in found.origin and found.date[:10] in found.origin and found.versions["torch"] in found.origin


@pytest.mark.parametrize("change, words", [
    (lambda fields: fields.pop("device"), "lacks the field 'device'"),
    (lambda fields: fields.update(seeds="0"), "'seeds' is '0', which is of the wrong type"),
    (lambda fields: fields.update(seconds=True), "'seconds' is True"),
    (lambda fields: fields.update(schema=2), "schema 2"),
    (lambda fields: fields.update(name="other"), "name 'other'"),
    (lambda fields: fields.update(extra=1), r"unknown fields \['extra'\]"),
])
def test_a_broken_result_names_file_and_field_and_the_mend(folder, change, words):
    path = results.save("trial", {}, [0], "c", 1.0)
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(LabError, match=f"trial.json.*{words}.*make reference"):
        results.load("trial")


def test_a_result_that_is_no_json_is_named(folder):
    (folder / "trial.json").write_text("{")
    with pytest.raises(LabError, match="trial.json is no JSON"):
        results.load("trial")
    (folder / "trial.json").write_text("[]")
    with pytest.raises(LabError, match="holds a list"):
        results.load("trial")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"null", b"NaN", b"[" * 10**5, b'{"a":' * 10**5, b"9" * 5000,
                                  b'{"name": "' + b"x" * 10**7 + b'"}', b'{"name": 1e999}'])
def test_damaged_and_hostile_results_are_refused_in_a_sentence_with_the_mend(folder, text):
    (folder / "trial.json").write_bytes(text)
    with pytest.raises(LabError, match="results.load: .*trial.json.*; `make reference` writes it anew") as refusal:
        results.load("trial")
    assert len(str(refusal.value)) < 600


def test_a_result_that_could_not_be_read_again_is_refused_and_the_good_one_kept(folder):
    results.save("trial", {"x": 1}, [0], "c", 1.0)
    with pytest.raises(LabError, match="results.save: .*trial.json cannot hold what is given"):
        results.save("trial", {"x": float("nan")}, [0], "c", 1.0)
    assert results.load("trial").data == {"x": 1}


@pytest.mark.parametrize("value, words", [(float("nan"), "weight of trial have numbers that are not finite"),
                                          (1e6, "weight reaches 1e.06, and float16 ends at 65504")])
def test_weights_that_float16_cannot_hold_are_refused_and_the_good_pair_kept(folder, value, words):
    model = nn.Linear(2, 2)
    results.save("trial", results.save_weights("trial", model), [0], "c", 1.0)
    bad = nn.Linear(2, 2)
    bad.weight.data[0, 0] = value
    with pytest.raises(LabError, match=words):
        results.save_weights("trial", bad)
    assert torch.equal(results.load_weights("trial", nn.Linear(2, 2)).weight, model.weight.half().float())


def test_new_weights_wait_for_their_result_and_until_then_the_old_pair_is_read(folder):
    old, new = nn.Linear(2, 2), nn.Linear(2, 2)
    results.save("trial", results.save_weights("trial", old), [0], "c", 1.0)
    about = results.save_weights("trial", new)
    assert torch.equal(results.load_weights("trial", nn.Linear(2, 2)).weight, old.weight.half().float())
    results.save("trial", about, [0], "c", 1.0)
    assert torch.equal(results.load_weights("trial", nn.Linear(2, 2)).weight, new.weight.half().float())
    assert sorted(path.name for path in folder.iterdir()) == ["trial.json", "trial.safetensors"]


def test_unknown_results_suggest_the_closest(folder):
    results.save("trial", {}, [0], "c", 1.0)
    with pytest.raises(LabError, match='Did you mean "trial"'):
        results.load("trail")


@pytest.mark.parametrize("name", results.names())
def test_every_stored_result_of_the_book_is_whole_and_has_a_study_that_makes_it(name):
    stored = results.load(name)
    assert stored.device and stored.seeds and name in studies.STUDIES and name in stored.command


def test_there_are_stored_results_to_check():
    waiting = {gpu_speed.NAME} - set(results.names())      # for a machine with a GPU
    assert set(studies.STUDIES) - waiting == set(results.names())


def test_weights_come_back_in_half_precision_and_are_those_of_their_run(folder):
    model, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model(torch.randn(8, 3))
    results.save("trial", results.save_weights("trial", model), [0], "c", 1.0)
    results.load_weights("trial", other)
    assert torch.equal(other.running_mean, model.running_mean.half().float()) and other.num_batches_tracked == 1


def test_weights_that_are_missing_damaged_or_of_another_run_are_refused_with_the_command_that_makes_them(folder):
    results.save("trial", {}, [0], "c", 1.0)
    with pytest.raises(LabError, match="has no weights at .*studies trial"):
        results.load_weights("trial", nn.Linear(2, 2))
    results.save("trial", results.save_weights("trial", nn.Linear(2, 2)), [0], "c", 1.0)
    with pytest.raises(LabError, match="other tensors than the model given .*give the model of the run 'trial'"):
        results.load_weights("trial", nn.Linear(2, 3))
    path = folder / "trial.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LabError, match="of another run than trial.json.*studies trial"):
        results.load_weights("trial", nn.Linear(2, 2))
