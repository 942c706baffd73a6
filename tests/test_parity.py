"""The runner of `make parity` notices what is wrong, on small cases that are worked out here,
without the library.
"""

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import timm
import torch
import torch.nn.functional as F
from drawn_weights import drawn, fill, pictures
from parity.cases import Case, call_of
from parity.comparing import difference, stats_of
from parity.runner import check, run

Files = tuple[dict[str, Any], dict[str, Any]]  # what goes into the .json and the .npz of a case
SCRIPT = Path(__file__).with_name("run_parity.py")


def softmax(scores: numpy.ndarray) -> numpy.ndarray:
    powers = numpy.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def noise(seed: int, *shape: int) -> numpy.ndarray:
    return numpy.random.RandomState(seed).standard_normal(shape).astype("float32")


def vit_of_timm() -> Files:
    """By timm itself; the library's own ViT is compared with it."""
    settings = {
        "img_size": 24,
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 4,
        "num_classes": 5,
    }
    model = fill(timm.create_model("vit_tiny_patch16_224", **settings))
    with torch.inference_mode():
        images = pictures(3, 2, 3, 24, 24)
        logits, tokens = model(images), model.forward_features(images)
    rows = [[key, list(value.shape), "float32"] for key, value in model.state_dict().items()]
    facts = {
        "source": {"package": "timm"},
        "input": {"seed": 3, "shape": [2, 3, 24, 24]},
        "model": f'timm.create_model("vit_tiny_patch16_224", **{settings}) filled by the rule',
        "params": sum(value.numel() for value in model.parameters()),
        "features_stats": listed(stats_of(tokens)),
        "state_dict": rows,
    }
    return facts, {"logits": logits.numpy(), "tokens_first4": tokens[:, :4].numpy()}


def matching_of_tome() -> Files:
    """Token by token: every second one looks for its like among the rest; the most alike merge."""
    metric, tokens = noise(1, 1, 11, 4), noise(2, 1, 11, 3)
    size = numpy.random.RandomState(3).randint(1, 5, (1, 11, 1)).astype("float32")
    unit = metric[0] / numpy.linalg.norm(metric[0], axis=-1, keepdims=True)
    pairs = []
    for even in range(2, 11, 2):  # 0 is the class token
        best = max(range(1, 11, 2), key=lambda odd: unit[even] @ unit[odd])
        pairs.append((unit[even] @ unit[best], even, best))
    going = {even: odd for _, even, odd in sorted(pairs, reverse=True)[:3]}
    kept = [even for even in range(0, 11, 2) if even not in going] + list(range(1, 11, 2))
    groups = [[place, *(even for even, odd in going.items() if odd == place)] for place in kept]
    weighted = [
        (tokens[0, group] * size[0, group]).sum(0) / size[0, group].sum() for group in groups
    ]
    plain = [tokens[0, group].mean(0) for group in groups]
    source = [[float(place in group) for place in range(11)] for group in groups]
    unmerged = [
        next(mean for mean, group in zip(plain, groups) if place in group) for place in range(11)
    ]
    expected = {
        "merge_mean": plain,
        "merge_amax": [tokens[0, group].max(0) for group in groups],
        "wavg2_x": weighted,
        "wavg2_size": [[size[0, group].sum()] for group in groups],
        "source": source,
        "unmerge": unmerged,
    }
    arrays = {name: numpy.array([values], dtype="float32") for name, values in expected.items()}
    facts = {
        "source": {"repo": "facebookresearch/ToMe"},
        "out_tokens": len(kept),
        "call": "bipartite_soft_matching(metric, r=3, class_token=True, distill_token=False)",
    }
    return facts, {
        "metric": metric,
        "x": tokens,
        "size": size,
        **arrays,
        "source": arrays["source"].astype("uint8"),
    }


def rollout_by_numpy() -> Files:
    maps = softmax(2 * noise(4, 3, 2, 10, 10))
    masks = {}
    for fusion, ratio in (("mean", 0.0), ("max", 0.5), ("min", 0.25)):
        flow = numpy.eye(10)
        for block in maps:
            fused = getattr(block, fusion)(axis=0).ravel()
            lowest = fused.argsort()[: int(100 * ratio)]
            fused[lowest[lowest != 0]] = 0
            mixed = fused.reshape(10, 10) + numpy.eye(10)
            flow = mixed / mixed.sum(-1, keepdims=True) @ flow
        masks[f"rollout_{fusion}_{ratio}_keepdim"] = (flow[0, 1:] / flow[0, 1:].max()).reshape(3, 3)
    return {"source": {"repo": "jacobgil/vit-explain"}, "inputs": {"seed": 4}}, {
        "attentions": maps
    } | masks


def loss_of_deit() -> Files:
    student, token, teacher = (2 * noise(seed, 4, 6) for seed in (1, 2, 3))
    labels = numpy.array([0, 5, 2, 2])
    chosen, taught = softmax(student / 1.0), softmax(teacher / 2.0)
    of_labels = -numpy.log(chosen[range(4), labels]).mean()
    divergence = (taught * numpy.log(taught / softmax(token / 2.0))).sum() * 4.0 / (4 * 6)
    slope = 0.75 * (chosen - numpy.eye(6)[labels]) / 4
    of_token = 0.25 * 2.0 * (softmax(token / 2.0) - taught) / (4 * 6)
    case = {
        "base_criterion": "ce",
        "distillation_type": "soft",
        "alpha": 0.25,
        "tau": 2.0,
        "loss": float(0.75 * of_labels + 0.25 * divergence),
        "grad_cls_l2": float(numpy.linalg.norm(slope)),
        "grad_dist_l2": float(numpy.linalg.norm(of_token)),
        "grad_dist_first8": of_token.ravel()[:8].tolist(),
    }
    facts = {"source": {"repo": "facebookresearch/deit"}, "cases": [case]}
    return facts, {
        "student_cls": student,
        "student_dist": token,
        "teacher": teacher,
        "labels": labels,
        "soft_labels": softmax(teacher),
    }


def gates_of_lightvit() -> Files:
    """The published form: the mean is copied beside every token."""
    tokens = pictures(6, 2, 7, 12)
    shapes = {
        "norm.weight": (12,),
        "norm.bias": (12,),
        "global_reduce.weight": (3, 12),
        "global_reduce.bias": (3,),
        "local_reduce.weight": (3, 12),
        "local_reduce.bias": (3,),
        "channel_select.weight": (12, 3),
        "channel_select.bias": (12,),
        "spatial_select.weight": (1, 6),
        "spatial_select.bias": (1,),
    }
    weights = {key: drawn(key, shape) for key, shape in shapes.items()}

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return F.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])

    normed = F.layer_norm(tokens, (12,), weights["norm.weight"], weights["norm.bias"])
    mean = F.gelu(linear("global_reduce", normed.mean(1, keepdim=True)))
    both = torch.cat([F.gelu(linear("local_reduce", normed)), mean.expand(-1, 7, -1)], -1)
    output = (
        tokens * linear("channel_select", mean).sigmoid() * linear("spatial_select", both).sigmoid()
    )
    facts = {
        "source": {"repo": "hunto/LightViT"},
        "constructor": "BiAttn",
        "kwargs": {"in_channels": 12},
        "call": "m(x)",
        "params": sum(map(math.prod, shapes.values())),
        "output": listed(stats_of(output)),
        "state_dict": [[key, list(shape), "float32"] for key, shape in shapes.items()],
    }
    return facts, {"x": tokens.numpy(), "y": output.numpy()}


def softmax_of_dynamicvit() -> Files:
    """Row by row: a token sees those kept and itself."""
    scores, kept = 2 * noise(8, 1, 2, 6, 6), numpy.array([1, 0, 1, 1, 0, 1], "float32")
    weights = numpy.zeros_like(scores)
    for head in range(2):
        for row in range(6):
            seen = kept.copy()
            seen[row] = 1
            powers = numpy.exp(scores[0, head, row] - scores[0, head, row].max()) * seen
            weights[0, head, row] = (powers + 0.01 / 6) / (powers.sum() + 0.01)
    facts = {
        "source": {"repo": "raoyongming/DynamicViT"},
        "call": "Attention.softmax_with_policy(attn, policy, eps=0.01)",
    }
    return facts, {"attn": scores, "policy": kept[None, :, None], "y": weights}


KINDS: dict[str, Callable[[], Files]] = {
    "timm_deit": vit_of_timm,
    "tome": matching_of_tome,
    "explain": rollout_by_numpy,
    "deit_distillation": loss_of_deit,
    "lightvit/modules": gates_of_lightvit,
    "dynamicvit": softmax_of_dynamicvit,
}


def listed(stats: dict[str, Any]) -> dict[str, Any]:
    return {name: numpy.asarray(value).tolist() for name, value in stats.items()}


def write(
    root: Path, name: str, facts: dict[str, Any], arrays: dict[str, Any] | None = None
) -> None:
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    if arrays:
        numpy.savez(path.with_suffix(".npz"), **arrays)


def report(root: Path) -> tuple[int, list[str]]:
    said = io.StringIO()
    return run(root, said), said.getvalue().splitlines()


@pytest.fixture(scope="module")
def made() -> dict[str, Files]:
    return {folder: make() for folder, make in KINDS.items()}


@pytest.mark.parametrize("name", ["case_a", "17", "lightvit_tiny_seed0"])
def test_every_kind_passes_at_sizes_of_its_own_whatever_its_files_are_called(made, name, tmp_path):
    for folder, files in made.items():
        write(tmp_path, f"{folder}/{name}", *files)
    status, lines = report(tmp_path)
    assert (status, lines[-1]) == (0, f"parity: {len(KINDS)} passed, 0 failed, 0 not yet covered")
    assert len(lines) == len(KINDS) + 1, "a number of these cases was not compared"


@pytest.mark.parametrize("folder", KINDS)
def test_every_expected_number_changed_by_a_hundredth_fails_and_is_named(made, folder):
    facts, arrays = made[folder]
    whole = check(Case("whole", facts, arrays))
    changed = list(altered(facts, arrays))
    assert whole.outcome == "passed" and len(changed) == whole.compared > 0
    for key, other_facts, other_arrays in changed:
        result = check(Case("altered", other_facts, other_arrays))
        assert result.outcome == "failed" and result.lines[0].startswith(key), (key, result)


def altered(facts: dict[str, Any], arrays: dict[str, Any]):
    """The name of each number expected, and the case in which that one alone is another."""
    inputs = {
        "attentions",
        "x",
        "metric",
        "size",
        "attn",
        "policy",
        "student_cls",
        "student_dist",
        "teacher",
        "labels",
        "soft_labels",
    }
    for name in arrays.keys() - inputs:
        other = arrays[name].copy()
        other.flat[other.size // 2] += 0.01 if other.dtype.kind == "f" else 1
        yield name, facts, arrays | {name: other}
    for name in facts.keys() & {"params", "out_tokens"}:
        yield name, facts | {name: facts[name] + 1}, arrays
    for name in facts.keys() & {"features_stats", "output"}:
        yield name, facts | {name: facts[name] | {"mean": facts[name]["mean"] + 0.01}}, arrays
    if "state_dict" in facts:
        yield "state_dict", facts | {"state_dict": facts["state_dict"][:-1]}, arrays
    for name in ("loss", "grad_cls_l2", "grad_dist_l2") if "cases" in facts else ():
        case = facts["cases"][0]
        yield f"cases.0.{name}", facts | {"cases": [case | {name: case[name] + 0.01}]}, arrays
    if "cases" in facts:
        case = facts["cases"][0]
        first = [case["grad_dist_first8"][0] + 0.01, *case["grad_dist_first8"][1:]]
        yield "cases.0.grad_dist_first8", facts | {
            "cases": [case | {"grad_dist_first8": first}]
        }, arrays


def test_one_altered_case_among_right_ones_makes_the_run_fail(made, tmp_path):
    facts, arrays = made["tome"]
    write(tmp_path, "tome/a", facts, arrays)
    write(tmp_path, "tome/b", facts | {"out_tokens": 9}, arrays)
    status, lines = report(tmp_path)
    assert status == 1 and lines[-1] == "parity: 1 passed, 1 failed, 0 not yet covered"
    assert lines[1].startswith("failed           tome/b (a matching of ToMe)")
    assert lines[2].strip() == "out_tokens: 1 of 1 whole numbers differ"


def test_unknown_kinds_are_named_as_not_yet_covered_and_do_not_fail(tmp_path):
    write(
        tmp_path,
        "components/a",
        {"source": {"package": "timm"}, "call": "timm.models.cait.ClassAttn(8)(x)"},
    )
    write(tmp_path, "quantization/a", {"source": "torch.ao observers", "cases": [{"bits": 8}]})
    write(tmp_path, "other", {"answer": 42})
    write(
        tmp_path,
        "tome/random",
        {
            "source": {"repo": "facebookresearch/ToMe"},
            "call": "random_bipartite_soft_matching(metric, r=3)",
        },
    )
    assert report(tmp_path) == (
        0,
        [
            "not yet covered  components/a (timm: timm.models.cait.ClassAttn)",
            "not yet covered  other (no source)",
            "not yet covered  quantization/a (torch.ao observers)",
            "not yet covered  tome/random (facebookresearch/ToMe: random_bipartite_soft_matching)",
            "parity: 0 passed, 0 failed, 4 not yet covered",
        ],
    )


def test_what_the_library_lacks_of_a_kind_is_not_yet_covered_and_said(made, tmp_path):
    facts, arrays = made["lightvit/modules"]
    write(tmp_path, "a", facts | {"kwargs": {"in_channels": 12, "act_ratio": 0.5}}, arrays)
    status, lines = report(tmp_path)
    assert (
        status == 0
        and lines[0] == "not yet covered  a (a part of LightViT)"
        and "quarter" in lines[1]
    )


def test_numbers_that_nobody_compares_are_listed(made):
    facts, arrays = made["dynamicvit"]
    result = check(
        Case("a", facts | {"flops": {"fvcore_macs": 5}}, arrays | {"fresh": numpy.ones(2)})
    )
    assert result.outcome == "passed" and result.lines == [
        "not compared: flops.fvcore_macs (fvcore counts norms too)",
        "not compared: fresh (no adapter compares it)",
    ]


@pytest.mark.parametrize(
    "folder, without, words",
    [
        ("tome", "metric", "no array and no rule for the input 'metric'"),
        ("dynamicvit", "y", "nothing that it expects"),
        ("deit_distillation", "teacher", "no array and no rule for the input 'teacher'"),
    ],
)
def test_a_case_that_cannot_be_run_or_compared_fails_with_the_reason(made, folder, without, words):
    facts, arrays = made[folder]
    result = check(
        Case("a", facts, {key: value for key, value in arrays.items() if key != without})
    )
    assert result.outcome == "failed" and words in result.lines[0]


def test_damaged_files_and_arrays_alone_fail(made, tmp_path):
    write(tmp_path, "a", *made["tome"])
    (tmp_path / "a.npz").write_bytes(b"PK no zip")
    (tmp_path / "b.json").write_text('{"source": ')
    (tmp_path / "c.json").write_text("[1, 2]")
    numpy.savez(tmp_path / "d.npz", y=numpy.ones(2))
    status, lines = report(tmp_path)
    assert status == 1 and lines[-1] == "parity: 0 passed, 4 failed, 0 not yet covered"
    assert "a list and no dictionary" in lines[5] and "without the .json" in lines[7]


def test_an_empty_folder_is_said_and_does_not_fail(tmp_path):
    (tmp_path / "README.md").write_text("no case")
    assert report(tmp_path) == (0, [f"parity: no fixtures in {tmp_path}; nothing was compared"])


def test_the_command_says_that_there_is_no_folder_and_ends_with_0(tmp_path):
    absent = tmp_path / "absent"
    done = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"LIGHTVIT_PARITY": str(absent)},
    )
    assert (done.returncode, done.stdout) == (
        0,
        f"parity: no fixtures in {absent}; nothing was compared\n",
    ), done.stderr


def test_the_command_ends_with_1_where_a_case_fails(made, tmp_path):
    facts, arrays = made["dynamicvit"]
    write(tmp_path, "a", facts, arrays | {"y": arrays["y"] + 0.01})
    done = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"LIGHTVIT_PARITY": str(tmp_path)},
    )
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stderr


def test_calls_are_read_from_words():
    assert call_of(
        "evit.Block(dim=48, norm_layer=LayerNorm(eps=1e-6), keep_rate=0.5)(x, get_idx=True)"
    ) == ("evit.Block", [], {"dim": 48, "norm_layer": "LayerNorm(eps=1e-6)", "keep_rate": 0.5})
    assert call_of("EViT(patch 16, {'depth': 12}, keep_rate=[1, 0.7]); keys (as usual)") == (
        "EViT",
        [],
        {"patch": 16, "depth": 12, "keep_rate": [1, 0.7]},
    )
    assert call_of('then tome.patch.timm(model, prop_attn=False); model.r=8', "tome.patch.timm")[
        2
    ] == {"prop_attn": False}
    assert call_of('timm.create_model("a,b", **{"x": (1, 2)})') == (
        "timm.create_model",
        ["a,b"],
        {"x": (1, 2)},
    )
    assert call_of("softmax of it all") == ("", [], {})


def test_what_counts_as_a_difference():
    assert difference([1.0, 2.0], [1.00005, 2.0]) == "" and difference([1.0, 2.0], [1.001, 2.0])
    assert difference([0.01], [0.01001]), "small numbers are compared by shares of the largest"
    assert (
        difference([1.0], [float("nan")]) and difference([1.0], [1.0, 1.0]) and difference([3], [4])
    )
    assert difference(100.0, 100.005) and not difference(100.0, 100.005, most=math.inf)
    assert difference(None, None) == "" and difference(None, 0.0) and difference(0.0, None)
    stats = listed(stats_of(numpy.arange(6.0).reshape(2, 3)))
    assert difference(stats, torch.arange(6.0).view(2, 3)) == ""
    assert difference(stats, torch.arange(6.0).view(3, 2)).startswith("shape")
    assert difference(stats, torch.arange(6.0).view(2, 3) + 0.001).startswith("mean")
