"""Attention with a bias takes the form that is faster here, and the answer does not depend on which."""

import time

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lightvit_lab import models, profiling
from lightvit_lab.components import Attention, attend, faster_attention
from lightvit_lab.components.faster_attention import biased_attention, written_out
from lightvit_lab.dynamic.token_merging import merge_tokens

SHAPES = [((2, 3, 9, 8), (2, 3, 9, 8), (2, 1, 1, 9)), ((2, 3, 5, 8), (2, 3, 9, 8), (3, 5, 9)), ((1, 2, 4, 8), (1, 2, 7, 8), (1, 2, 4, 7))]


@pytest.fixture(autouse=True)
def no_memory(monkeypatch):
    monkeypatch.setattr(faster_attention, "_written_faster", {})


@pytest.fixture
def written(monkeypatch):
    """Calls of the written form, which is the faster one wherever there is a choice."""
    calls = []
    monkeypatch.setattr(faster_attention, "_writing_is_faster", lambda *_: True)
    monkeypatch.setattr(faster_attention, "written_out", lambda *given: calls.append(given) or written_out(*given))
    return calls


def drawn(query, key, bias):
    torch.manual_seed(0)
    return torch.randn(query), torch.randn(key), torch.randn(key), torch.randn(bias)


def by_hand(query, key, value, bias, scale):
    query, key, value, bias = (part.double() for part in (query, key, value, bias))
    powers = (torch.einsum("bhqd,bhkd->bhqk", query, key) * scale + bias).exp()
    return torch.einsum("bhqk,bhkd->bhqd", powers / powers.sum(-1, keepdim=True), value).float()


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [None, 0.3])
@torch.inference_mode()
def test_both_forms_are_the_softmax_by_hand(shapes, scale):
    parts = drawn(*shapes)
    wanted = by_hand(*parts, 8**-0.5 if scale is None else scale)
    assert torch.allclose(written_out(*parts, scale), wanted, atol=1e-5)
    assert torch.allclose(biased_attention(*parts, scale), wanted, atol=1e-5)


@pytest.mark.parametrize("slow, wanted", [("fused", True), ("written", False)])
@torch.inference_mode()
def test_the_form_that_takes_less_time_is_taken_and_the_question_is_asked_once(monkeypatch, slow, wanted):
    fused, parts, calls = torch.nn.functional.scaled_dot_product_attention, drawn(*SHAPES[0]), []

    def form(name, call):
        def timed(*given, **named):
            calls.append(name)
            time.sleep(0.004 if name == slow else 0)
            return call(*given, **named)
        return timed

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", form("fused", fused))
    monkeypatch.setattr(faster_attention, "written_out", form("written", written_out))
    first = attend(*parts)
    asked = len(calls)
    assert torch.equal(attend(*parts), first) and calls[asked - 1:] == [("written" if wanted else "fused")] * 2
    nearly = [part[..., :8, :] if part.shape[-2] == 9 else part[..., :8] for part in parts]     # 8 for 9 tokens
    attend(*nearly)
    assert len(calls) == asked + 2


@pytest.mark.parametrize("case", ["gradient", "key with a gradient", "value with a gradient", "bias with a gradient", "float64", "autocast", "meta", "fake", "counter",
                                  "compiler", "tracing", "three dimensions", "too large"])
def test_where_there_is_no_choice_torch_s_kernel_is_taken(written, monkeypatch, case):
    query, key, value, bias = drawn(*SHAPES[0])
    contexts = {"autocast": lambda: torch.autocast("cpu", torch.bfloat16), "counter": lambda: FlopCounterMode(display=False),
                "fake": lambda: FakeTensorMode(allow_non_fake_inputs=True)}
    if case == "gradient":
        query.requires_grad_()
    if case.endswith(" with a gradient"):
        {"key": key, "value": value, "bias": bias}[case.split()[0]].requires_grad_()
    if case == "float64":
        query, key, value, bias = (part.double() for part in (query, key, value, bias))
    if case == "meta":
        query, key, value, bias = (part.to("meta") for part in (query, key, value, bias))
    if case == "compiler":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if case == "three dimensions":
        query, key, value, bias = (part[0] for part in (query, key, value, bias))
    if case == "too large":
        monkeypatch.setattr(faster_attention, "SQUARES", 2 * 3 * 9 * 9 - 1)
    if case == "tracing":
        torch.jit.trace(biased_attention, (query, key, value, bias), check_trace=False)
    with contexts.get(case, torch.enable_grad)():
        biased_attention(query, key, value, bias)
    # a plain call behind the trace has its choice
    assert len(written) == (1 if case == "tracing" else 0)


@torch.no_grad()
def test_a_plain_call_has_the_choice_and_a_model_that_is_told_to_write_out_or_has_no_bias_is_not_asked(written):
    parts = drawn(*SHAPES[0])
    biased_attention(*parts)
    assert len(written) == 1
    Attention(16, 2)(torch.randn(2, 5, 16))
    attend(*parts[:3])
    attend(*parts, fused=False)
    assert len(written) == 1


def test_merging_answers_and_counts_the_same_whichever_form_is_faster(written):
    torch.manual_seed(0)
    model = models.create_model("lab_vit").eval()
    merged, images = merge_tokens(model, 8), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        ours = merged(images)
        assert len(written) == 5                 # all blocks but the first, whose tokens are one patch each
        for block in merged.blocks:
            block.attn.fused = False
        assert torch.allclose(merged(images), ours, atol=1e-5)
    before = len(written)
    plain = profiling.count(merge_tokens(model, 8), (3, 32, 32))
    assert len(written) == before and plain.macs < profiling.count(model, (3, 32, 32)).macs


def test_a_merging_model_is_exported_with_the_fused_kernel(written):
    torch.manual_seed(0)
    merged = merge_tokens(models.create_model("lab_vit").eval(), 8)
    with torch.no_grad():
        program = torch.export.export(merged, (torch.randn(2, 3, 32, 32),), strict=False)
    names = [str(node.target) for node in program.graph.nodes]
    assert sum("scaled_dot_product_attention" in name for name in names) == 6 and not any("softmax" in name for name in names)
    assert written == []
