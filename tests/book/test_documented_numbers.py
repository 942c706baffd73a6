"""Numbers that stand in plain Markdown are those of the stored runs."""

import re
from pathlib import Path
from statistics import mean

from lightvit_lab import models
from lightvit_lab.experiments import results
from lightvit_lab.experiments.kit import read_table

BOOK = Path(__file__).resolve().parents[2] / "book"


def size_of_the_cnn() -> int:
    """The parameters of the CNN that was trained on the shapes."""
    cnn = read_table("shapes")["CNN"]
    model = models.create_model(cnn["model"], **cnn["arguments"])
    return sum(value.numel() for value in model.parameters())


def table_after(path: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, cells stripped, without the header's rule."""
    below = path.read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, flags=re.MULTILINE).group().splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("|---")]


def test_the_table_of_difficulty_is_that_of_the_stored_run():
    header, *rows = table_after(BOOK / "data_sets.md", "## Shapes")
    levels = header[1:]
    assert levels == ["easy", "standard", "hard"]
    keys = ["linear", "statistics", "CNN", "ViT"]
    for key, row in zip(keys, rows, strict=True):
        for level, cell in zip(levels, row[1:]):
            found = results.load(f"shapes_{level}").data[key]
            value = found if isinstance(found, float) else mean(run["test"] for run in found["runs"])
            assert cell == f"{100 * value:.1f} %", (key, level)


def test_steps_pictures_and_parameters_below_the_table_are_those_of_the_stored_run():
    text = " ".join((BOOK / "data_sets.md").read_text(encoding="utf-8").split())
    standard = results.load("shapes_standard").data
    steps = {label: standard[label]["runs"][0]["validation"][-1][0] for label in ("CNN", "ViT")}
    seen = [f"{steps[label] * standard['batch_size']:,}" for label in ("CNN", "ViT")]
    for phrase in (f"a CNN of {round(size_of_the_cnn(), -3):,} parameters, {steps['CNN']:,} steps", f"`lab_vit`, {steps['ViT']:,} steps",
                   f"batches of {standard['batch_size']} with mirrored copies, {seen[0]} and {seen[1]} pictures in all"):
        assert phrase in text, phrase


def test_standard_separates_as_the_design_of_the_shapes_demands():
    standard = results.load("shapes_standard").data
    assert standard["linear"] < 0.2 and standard["statistics"] < 0.4
    assert size_of_the_cnn() < 100_000
    assert all(run["test"] > 0.95 for run in standard["CNN"]["runs"])
    for run in standard["ViT"]["runs"]:
        half = dict(map(tuple, run["validation"]))[run["validation"][1][0]]
        assert run["test"] > 0.90 and half < run["test"] - 0.05, "saturated at half of the steps"


def test_hard_leaves_a_gap_between_cnn_and_vit_to_distil():
    hard = results.load("shapes_hard").data
    cnn, vit = ([run["test"] for run in hard[label]["runs"]] for label in ("CNN", "ViT"))
    assert min(cnn) > max(vit) + 0.05
