"""CITATION.cff and the licences say what pyproject.toml says."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import lightvit_lab

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_version_is_the_same_in_citation_project_and_library(citation, project):
    assert citation["version"] == project["version"] == lightvit_lab.__version__


def test_the_changelog_begins_with_the_version_of_the_project_and_goes_down_from_there(project):
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## (\d+)\.(\d+)\.(\d+) \((\d{4}-\d\d-\d\d)\)\n\n\* ", text, re.MULTILINE)
    versions = [tuple(map(int, entry[:3])) for entry in entries]
    assert ".".join(map(str, versions[0])) == project["version"] and len(entries) == text.count("\n## ") >= 2
    assert versions == sorted(set(versions), reverse=True)
    assert [entry[3] for entry in entries] == sorted((entry[3] for entry in entries), reverse=True)


def test_teachers_are_told_to_pin_the_version_of_the_project(project):
    text = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    assert {*re.findall(r"\bv?(\d+\.\d+\.\d+)\b", text.partition("until the end of term")[2].partition("\n## ")[0])} == {
        project["version"]}


def test_citation_has_the_keys_that_its_format_requires(citation):
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert [author["name"] for author in citation["authors"]] == ["The LightViT Lab authors"]


def test_the_repositorys_address_stands_in_pyproject_alone(project):
    address = project["urls"]["Repository"].removeprefix("https://")
    for name in ("CITATION.cff", "LICENSE", "LICENSE-text.md"):
        assert address not in (ROOT / name).read_text(encoding="utf-8"), name


def test_code_and_text_carry_the_licences_that_the_project_declares(citation, project):
    assert project["license"]["text"] == "MIT (code), CC-BY-4.0 (text)"
    assert citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "creativecommons.org/licenses/by/4.0" in (ROOT / "LICENSE-text.md").read_text(encoding="utf-8")


def test_every_reference_says_where_it_can_be_read():
    bibtex = pytest.importorskip("pybtex.database")
    entries = bibtex.parse_file(str(ROOT / "book/references.bib")).entries
    lost = [key for key, entry in entries.items() if not {"url", "doi"} & set(entry.fields)]
    assert not lost
    assert {"zhang2025online", "papa2024survey", "chen2024compression", "huang2022lightvit"} <= set(entries)
