"""The execution cache gets a new name whenever something outside a page could change what the page prints."""

import os

import cache_key
import pytest


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a library, a stored result and a data set."""
    for path in ("lightvit_lab/part/method.py", "lightvit_lab/table.csv", "book/results/run.json", "book/zoo/a-b.json",
                 "data/a.gz"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("one")
    return tmp_path


def changed(checkout, environ=None, after=lambda: None):
    """Whether the key differs before and after an event."""
    before = cache_key.cache_key(checkout, environ or {})
    after()
    return cache_key.cache_key(checkout, environ or {}) != before


def test_nothing_changed_keeps_the_key(checkout):
    assert not changed(checkout)


@pytest.mark.parametrize("path", ["lightvit_lab/part/method.py", "lightvit_lab/table.csv", "book/results/run.json",
                                  "book/zoo/a-b.json", "lightvit_lab/part/new_method.py"])
def test_a_changed_or_added_file_of_library_results_or_zoo_changes_the_key(checkout, path):
    assert changed(checkout, after=lambda: (checkout / path).write_text("two"))


def test_a_renamed_module_changes_the_key(checkout):
    part = checkout / "lightvit_lab" / "part"
    assert changed(checkout, after=lambda: (part / "method.py").rename(part / "other.py"))


def test_compiled_files_and_other_folders_do_not_change_the_key(checkout):
    def write():
        for path in ("lightvit_lab/part/__pycache__/method.cpython-311.pyc", "tests/test_method.py"):
            (checkout / path).parent.mkdir(parents=True, exist_ok=True)
            (checkout / path).write_text("two")
    assert not changed(checkout, after=write)


def test_another_version_of_a_package_changes_the_key(checkout, monkeypatch):
    real = cache_key.importlib.metadata.version
    assert changed(checkout, after=lambda: monkeypatch.setattr(
        cache_key.importlib.metadata, "version", lambda name: "0.0" if name == "torch" else real(name)))


@pytest.mark.parametrize("name", ["LIGHTVIT_DATASET", "LIGHTVIT_DATA", "LIGHTVIT_DEVICE"])
def test_the_choice_of_data_or_device_changes_the_key(checkout, name):
    assert cache_key.cache_key(checkout, {name: "other"}) != cache_key.cache_key(checkout, {})


@pytest.mark.parametrize("name", ["LIGHTVIT_DATA", "LIGHTVIT_DATASET"])
def test_a_data_file_that_grew_changes_the_key(checkout, name):
    assert changed(checkout, {name: str(checkout / "data")},
                   after=lambda: (checkout / "data" / "a.gz").write_text("longer"))


def test_only_the_caches_used_last_are_kept(tmp_path):
    for age, name in enumerate(["newest", "second", "third", "old"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    cache_key.keep_newest(tmp_path, current="old", count=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["newest", "old", "second"]
