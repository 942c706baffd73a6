"""The taxonomy is the surveys' own: nothing lost, nothing invented, every leaf on one of the book's pages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightvit_lab import survey

ROOT = Path(__file__).resolve().parents[2]
# Typed from the overview figure of arXiv 2505.03113, not derived from our table.
SURVEY_TREE = {
    "Efficient ViT Components": {
        "Embedding Structure Design": ["Dynamic Patch Partitioning", "Local Patch Embedding"],
        "Efficient Position Encoding": ["Efficient Position Encoding"],
        "Efficient Token Update / Self-Attention": [
            "Partial Attention", "Local Self-Attention", "Linear Self-Attention", "Low-Rank Decomposition"],
        "Efficient Token Update / Attention-Free": ["Pure MLP Architecture", "Hybrid MLP-CNN Architecture"],
        "Framework Design": ["Hierarchical Framework", "Other Framework"],
    },
    "Dynamic Networks": {
        "Dynamic Resolution": ["Dynamic Token Pruning", "Dynamic Token Merging"],
        "Depth Adaptation": ["Depth Adaptation"],
    },
    "Knowledge Distillation": {
        "Feature-Level": [
            "Attention Feature Distillation", "Structured Feature Distillation", "Direct Feature Mimicking"],
        "Response-Level": ["Distillation Temperature Variants", "Objective Function Design", "Empowering Soft Labels"],
    },
}
ADDED = {
    "LightViT": ("2207.05557",),
    "Pruning": ("2309.02031", "2404.10407"),
    "Quantization": ("2309.02031", "2404.10407"),
    "Low-Rank Approximation": ("2404.10407",),
    "Combined Techniques": ("2404.10407",),
}
PAGES = """components/patch_embedding components/position_encoding components/efficient_attention
components/attention_free components/hierarchical_frameworks components/lightvit dynamic/token_pruning dynamic/token_merging dynamic/early_exit
distillation/response_distillation distillation/feature_distillation compression/pruning compression/quantization
compression/low_rank compression/combining""".split()


def _leaf(name):
    return next(leaf for leaf in survey.taxonomy() if leaf.leaf == name)


def _all_methods():
    return [method for leaf in survey.taxonomy() for method in leaf.methods] + [
        method for methods in survey.unplaced().values() for method in methods]


def test_no_leaf_of_the_online_survey_is_lost_or_renamed():
    found = [(leaf.branch, leaf.group, leaf.leaf) for leaf in survey.taxonomy() if leaf.sources == ("2505.03113",)]
    typed = [(branch, group, leaf) for branch, groups in SURVEY_TREE.items() for group, leaves in groups.items()
             for leaf in leaves]
    assert len(typed) == 20
    assert sorted(found) == sorted(typed)


def test_offline_techniques_and_lightvit_name_the_documents_that_list_them():
    added = {leaf.leaf: leaf.sources for leaf in survey.taxonomy() if leaf.sources != ("2505.03113",)}
    assert added == ADDED


def test_every_leaf_stands_on_a_page_of_the_design_and_no_method_page_is_without_a_leaf():
    pages = {leaf.page for leaf in survey.taxonomy()}
    written = {"/".join(path.with_suffix("").parts[-2:]) for path in (ROOT / "chapters").glob("*/*.md")}
    assert set(PAGES) <= pages <= {*PAGES, *written}


def test_methods_stand_where_the_sources_put_them():
    assert [method.name for method in _leaf("Local Patch Embedding").methods] == ["MobileViT", "CvT"]
    assert "ToMe" in [method.name for method in _leaf("Dynamic Token Merging").methods]
    assert _leaf("Depth Adaptation").page == "dynamic/early_exit"


def test_the_leaves_of_dynamic_resolution_hold_the_methods_that_their_pages_teach():
    pruning, merging = ({method.name.split(" ")[0]: method for method in _leaf(f"Dynamic Token {name}").methods}
                        for name in ("Pruning", "Merging"))
    assert {"EViT", "DynamicViT", "ATS", "CF-ViT", "Evo-ViT", "IdleViT", "TPC-ViT", "SuperViT", "HeatViT", "SPViT"} == set(pruning)
    assert {"ToMe", "ToFu", "TCFormer", "Multi-Scale"} == set(merging)
    assert pruning["EViT"].arxiv == "2202.07800" and "2310.06629" in pruning["EViT"].note


def test_distillation_leaves_claim_no_method_since_none_is_named_by_the_survey():
    assert all(leaf.methods == () for leaf in survey.taxonomy() if leaf.branch == "Knowledge Distillation")


@pytest.mark.parametrize("page", ["dynamic/token_pruning", "dynamic/token_merging", "dynamic/early_exit", "compression/pruning", "compression/low_rank"])
def test_every_method_of_a_pages_leaf_stands_in_its_table_with_a_sentence_and_its_placement(page):
    section = (ROOT / "chapters" / f"{page}.md").read_text(encoding="utf-8").split("\n## Where each method stands\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, flags=re.MULTILINE).group().splitlines()[2:]
    rows = [[cell.strip() for cell in re.sub(r"\{cite:\w+\}`[^`]*`", "", line).strip("|").split("|")] for line in table]
    placements = {name: placement for name, sentence, placement in rows if len(sentence.split()) > 4}
    methods = [method for leaf in survey.taxonomy() if leaf.page == page for method in leaf.methods]
    assert methods and placements == {method.name: method.placement for method in methods}


def test_methods_without_a_stated_leaf_stay_at_their_group_and_say_so():
    groups = survey.unplaced()
    assert {"Swin", "PVT", "Hiera"} <= {method.name for method in groups["Framework Design"]}
    everything = [method for methods in groups.values() for method in methods]
    assert all(method.placement == "group" and "not stated" in method.note for method in everything)
    assert not any(method.placement == "group" for leaf in survey.taxonomy() for method in leaf.methods)


def test_no_method_of_the_table_falls_between_the_leaves_because_of_a_misspelt_group():
    from lightvit_lab.survey import leaves

    assert len(_all_methods()) == len(leaves.read_rows("methods.csv"))
    parents = {leaf.group for leaf in survey.taxonomy()} | {leaf.branch for leaf in survey.taxonomy()}
    assert set(survey.unplaced()) <= parents | {"Efficient Token Update"}


def test_every_method_says_where_it_was_seen_and_how_sure_its_place_is():
    for method in _all_methods():
        assert method.source, method.name
        assert method.placement in {"stated", "title", "inferred", "group"}, method.name
        assert re.fullmatch(r"(\d{4}\.\d{5})?", method.arxiv), method.name


def test_named_timm_models_exist_in_timm():
    pytest.importorskip("torch")
    from lightvit_lab.runtime import ensure_torchvision

    ensure_torchvision()
    import timm

    known = set(timm.list_models())
    named = {model for method in _all_methods() for model in method.timm_models}
    assert len(named) > 40
    assert named <= known, sorted(named - known)


def test_the_taxonomy_is_read_without_torch():
    code = "import sys; from lightvit_lab import survey; survey.taxonomy(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_callers_change_to_the_list_does_not_reach_the_next_caller():
    survey.taxonomy().clear()
    assert len(survey.taxonomy()) == 25


def test_published_figures_name_their_source_and_no_model_stands_twice():
    rows = survey.published()
    assert len(rows) >= 12 and len({row.model for row in rows}) == len(rows)
    for row in rows:
        assert row.source and 0 < row.macs_g < 20 and 50 < row.top1 < 90 and row.params_m > 0, row.model
        assert (row.throughput_img_s is None) == (not row.device), row.model


@pytest.mark.parametrize("page, student, method, alone, distilled", [     # typed from the sources that the table names
    ("response", "DeiT-Ti", "token, hard targets", 72.2, 74.5), ("response", "TinyViT-21M", "stored logits on IN-22k", 83.1, 84.8),
    ("feature", "DeiT-Tiny", "ViTKD", 74.42, 76.06), ("feature", "DeiT-Tiny", "manifold", None, 76.5),
    ("feature", "DeiT-Tiny", "widened last block", 74.86, 78.23), ("feature", "DeiT-Base", "ViTKD", 81.76, 83.46),
    ("feature", "DeiT-Base", "ViTKD and logits (NKD)", 81.76, 85.41),
])
def test_published_students_are_those_of_their_sources(page, student, method, alone, distilled):
    rows = survey.distilled(f"distillation/{page}_distillation")
    found = [row for row in rows if (row.student, row.method) == (student, method)]
    assert [(row.alone, row.distilled) for row in found] == [(alone, distilled)] and found[0].source


def test_published_detectors_are_those_of_the_authors_readme():
    rows = {(row.backbone, row.schedule[:2]): row for row in survey.detected("components/lightvit")}
    assert len(rows) == 6 and all("hunto/LightViT" in row.source for row in rows.values())
    tiny, base = rows["LightViT-T", "12"], rows["LightViT-B", "36"]
    assert (tiny.params_m, tiny.flops_g, tiny.box_ap, tiny.mask_ap) == (28, 187, 37.8, 35.9)
    assert (base.params_m, base.flops_g, base.box_ap, base.mask_ap) == (54, 240, 45.0, 41.2)


def test_every_published_student_has_the_teacher_that_its_authors_name():
    teachers = {row.method: row.teacher for page in ("response", "feature") for row in survey.distilled(f"distillation/{page}_distillation")
                if row.student in ("DeiT-S", "TinyViT-5M", "DeiT-Tiny")}
    assert teachers["token, hard targets"] == "RegNetY-160" and teachers["manifold"] == "CaiT-S24"
    assert teachers["stored logits on IN-22k"] == "CLIP-ViT-L/14-22k" and all(teachers.values())


def test_stores_of_logits_are_those_of_tinyvits_readme():
    found = {row.data_set: row for row in survey.stores("distillation/response_distillation")}
    assert [(found[name].gigabytes, found[name].epochs) for name in ("ImageNet-1K", "ImageNet-22K")] == [(16, 300), (481, 90)]
    pictures = found["ImageNet-1K"].pictures
    assert pictures == 1_281_167 and isinstance(pictures, int) and found["ImageNet-22K"].pictures is None
    assert survey.stores("distillation/feature_distillation") == []


def test_every_published_student_stands_on_a_page_of_the_taxonomy():
    from lightvit_lab.survey.leaves import read_rows

    assert {row["page"] for row in read_rows("distilled.csv")} <= {leaf.page for leaf in survey.taxonomy()}


@pytest.mark.parametrize("page, method, setting, dense, top1, change", [       # typed from the sources that the table names
    ("pruning", "Torch-Pruning", "one-shot, before training", 85.21, 0.16, -85.05),
    ("pruning", "Torch-Pruning", "Taylor, 300 epochs after", 85.21, 80.19, -5.02),
    ("pruning", "isomorphic pruning", "to 1.21 G MACs", 83.4, 77.5, -5.9),
    ("pruning", "NViT", "Hessian-aware, global", None, None, -0.07),
    ("low_rank", "Nystroem in place of trained attention", "24 landmarks, no training", 98.94, 65.91, -33.03),
])
def test_published_compressed_models_are_those_of_their_sources(page, method, setting, dense, top1, change):
    rows = [row for row in survey.compressed(f"compression/{page}") if (row.method, row.setting) == (method, setting)]
    assert (rows[0].top1_dense, rows[0].top1) == (dense, top1) and rows[0].source
    assert rows[0].change == pytest.approx(change)


def test_a_published_compressed_model_says_what_it_gained_or_what_is_left_of_it():
    rows = [row for page in ("pruning", "low_rank") for row in survey.compressed(f"compression/{page}")]
    assert len(rows) >= 15 and all(row.source and row.dataset for row in rows)
    unnamed = {"NViT", "features of low rank (AAFM, GFM)"}                          # their abstracts name no machine
    assert all(row.time_gain is None or row.device or row.method in unnamed for row in rows)
    assert [row.params_gain for row in rows if row.method.startswith("activation-aware")] == [2.5]    # 1 / (1 - 0.6)


def test_the_one_published_low_rank_vit_with_a_measured_gain_is_as_its_abstract_says():
    [row] = [row for row in survey.compressed("compression/low_rank") if row.time_gain]
    assert (row.model, row.change, row.time_gain) == ("DeiT-B", -0.23, 1.188)       # 18.8 % more pictures a second
    assert row.params_gain == pytest.approx(1 / (1 - 0.33), abs=0.005)              # 33 % fewer parameters


@pytest.mark.parametrize("page, method, model, setting, dense, top1", [        # typed from the sources
    ("token_pruning", "DynamicViT", "DeiT-S", "keep 0.7, fine-tuned", 79.9, 79.32),
    ("token_pruning", "EViT", "DeiT-S", "keep 0.5, trained so", 79.9, 78.5),
    ("token_pruning", "Evo-ViT", "DeiT-S", "trained so", 79.9, 79.4),
    ("token_merging", "ToMe", "DeiT-Ti", "r=13, trained so", 71.8, 71.27),
    ("token_merging", "ToMe", "ViT-B/16", "r=13, off the shelf", 84.57, 82.6),
    ("token_merging", "ToMe", "ViT-L/16", "r=23, off the shelf", 86.92, 86.14),
    ("token_merging", "ToMe", "ViT-H/14, SWAG", "r=40, off the shelf", 88.55, 88.25),
    ("token_merging", "ToMe", "ViT-B/16, SWAG", "r=45, off the shelf", 85.3, 84.59),
    ("token_merging", "DiffRate", "DeiT-S", "rates learned, weights as they were", 79.9, 79.54),
    ("token_merging", "MCTF", "DeiT-Ti", "fine-tuned", 72.2, 72.7),
    ("early_exit", "A-ViT", "DeiT-Ti", "tokens halt, 100 epochs", 72.2, 71.4),
    ("early_exit", "A-ViT", "DeiT-S", "tokens halt, 100 epochs", 79.9, 78.8),
    ("early_exit", "AdaViT", "DeiT-S", "patches, heads, attention and MLPs chosen", 79.9, 77.3),
    ("early_exit", "CF-ViT", "DeiT-S", "coarse 9x9, threshold 1: no picture leaves early", 79.9, 81.9),
])
def test_published_dynamic_networks_are_those_of_their_sources(page, method, model, setting, dense, top1):
    found = [row for row in survey.dynamic(f"dynamic/{page}")
             if (row.method, row.model, row.setting) == (method, model, setting)]
    assert [(row.top1_dense, row.top1) for row in found] == [(dense, top1)]
    assert found[0].change == pytest.approx(top1 - dense) and found[0].source


def test_gains_of_dynamic_networks_come_from_both_throughputs_or_are_as_stated_and_never_from_one():
    rows = {(row.method, row.model): row for page in ("token_merging", "early_exit", "token_pruning")
            for row in survey.dynamic(f"dynamic/{page}")}
    assert rows["ToMe", "DeiT-S"].time_gain == pytest.approx(1550 / 930)
    assert (rows["A-ViT", "DeiT-Ti"].time_gain, rows["A-ViT", "DeiT-S"].time_gain) == (1.62, 1.38)
    assert rows["Evo-ViT", "DeiT-S"].throughput_img_s == 1510 and rows["Evo-ViT", "DeiT-S"].time_gain is None
    assert rows["DynamicViT", "DeiT-S"].macs_gain == pytest.approx(4.61 / 2.9)
    assert rows["DynamicViT", "LV-ViT-M"].macs_gain is None
    assert rows["AdaViT", "DeiT-S"].macs_gain == pytest.approx(4.61 / 2.3)
    assert (rows["AdaViT", "T2T-ViT-19"].top1, rows["AdaViT", "T2T-ViT-19"].macs_g) == (81.1, 3.9)


def test_every_published_dynamic_network_has_a_source_and_stands_on_its_page_of_the_taxonomy():
    from lightvit_lab.survey.leaves import read_rows

    pages = {row["page"] for row in read_rows("dynamic.csv")}
    assert pages == {leaf.page for leaf in survey.taxonomy() if leaf.branch == "Dynamic Networks"}
    rows = [row for page in pages for row in survey.dynamic(page)]
    assert len(rows) == len(read_rows("dynamic.csv")) >= 25 and all(row.source for row in rows)
    assert all(row.top1 or row.change is not None or row.time_gain for row in rows)
