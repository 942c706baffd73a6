"""`lightvit-lab open`: the notebook of a page, in whatever the reader has."""

import subprocess
import sys

import pytest

from lightvit_lab.cli import main, opening

NOTEBOOK = opening.LIBRARY.parent / "chapters" / "dynamic" / "token_merging.ipynb"
COLAB = "colab.research.google.com/github/lightvit-lab/lightvit-lab/blob/main/chapters/dynamic/token_merging.ipynb"


@pytest.fixture
def called(monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 0)
    return calls


def test_a_pages_notebook_is_opened_in_jupyterlab(called, monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: name == "jupyterlab")
    assert main(["open", "token_merging"]) == 0
    assert called == [[sys.executable, "-m", "jupyterlab", str(NOTEBOOK)]] and NOTEBOOK.is_file()


def test_without_jupyterlab_it_says_what_to_install_and_where_it_opens_all_the_same(called, monkeypatch, capsys):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    assert main(["open", "token_merging"]) == 2 and called == []
    said = capsys.readouterr().err
    assert "pip install jupyterlab" in said and COLAB in said


def test_without_a_checkout_the_address_in_colab_is_printed(called, monkeypatch, capsys, tmp_path):
    library = tmp_path / "lightvit_lab"
    (library / "exercises" / "dynamic").mkdir(parents=True)
    (library / "exercises" / "dynamic" / "token_merging.json").write_text("{}")
    monkeypatch.setattr(opening, "LIBRARY", library)
    assert main(["open", "token_merging"]) == 0 and COLAB in capsys.readouterr().out and called == []


def test_an_unknown_page_is_refused_with_the_closest(called, capsys):
    assert main(["open", "token_merge"]) == 2 and called == []
    assert 'Did you mean "token_merging"' in capsys.readouterr().err
