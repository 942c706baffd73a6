"""LGViT's heads: a convolution over the grid for early exits, attention among few tokens for late ones."""

import pytest
import torch
import torch.nn.functional as F
from exit_models import BATCH, small

from lightvit_lab import checkpoint, data
from lightvit_lab.dynamic.early_exit.exits import add_exits, apply_exits, train_exits
from lightvit_lab.dynamic.early_exit.heads import GlobalAggregation, LocalPerception
from lightvit_lab.dynamic.early_exit.report import exit_macs
from lightvit_lab.errors import LabError

TOKENS = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(0))          # a class token, 4 x 4 others


def test_the_first_half_of_the_exits_has_a_convolution_and_the_second_attention_whatever_order_they_are_given_in():
    for layers in ([0, 1, 2], [2, 0, 1]):
        kinds = [type(head.over) for head in add_exits(small(), layers, head="lgvit").exits]
        assert kinds == [LocalPerception, LocalPerception, GlobalAggregation]


@torch.no_grad()
def test_a_local_head_adds_the_mean_of_convolved_tokens_and_of_the_tokens_to_the_class_token():
    exit_head = add_exits(small(), [0, 2], head="lgvit").exits[0].eval()
    x = exit_head.norm(TOKENS)
    first, _, norm1, wide, _, norm2, last, norm3 = exit_head.over.layers
    maps = x[:, 1:].mT.reshape(2, 24, 4, 4)
    for norm in (norm1, norm2, norm3):
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    made = norm1(F.gelu(torch.einsum("oc,bchw->bohw", first.weight[:, :, 0, 0], maps) + first.bias[:, None, None]))
    around = F.pad(made, (1, 1, 1, 1))
    made = sum(wide.weight[:, 0, i, j][:, None, None] * around[:, :, i:i + 4, j:j + 4] for i in range(3) for j in range(3))
    made = norm2(F.gelu(made + wide.bias[:, None, None]))
    made = norm3(torch.einsum("oc,bchw->bohw", last.weight[:, :, 0, 0], made) + last.bias[:, None, None])
    wanted = exit_head.head(x[:, 0] + (maps + made).flatten(2).mean(2))
    assert torch.allclose(exit_head(TOKENS), wanted, atol=1e-5)


@torch.no_grad()
def test_a_global_head_adds_the_mean_of_attention_among_every_second_row_and_column_to_the_class_token():
    exit_head = add_exits(small(), [0, 2], head="lgvit").exits[1].eval()
    x, over = exit_head.norm(TOKENS), exit_head.over
    few = x[:, 1:].reshape(2, 4, 4, 24)[:, [0, 2]][:, :, [0, 2]].reshape(2, 4, 24)
    query, key, value = (few @ over.qkv.weight.T).split(24, dim=2)
    heads = []
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        weights = (query[..., part] @ key[..., part].mT / 8**0.5).softmax(-1)
        heads.append(weights @ value[..., part])
    wanted = exit_head.head(x[:, 0] + over.proj(torch.cat(heads, 2)).mean(1))
    assert torch.allclose(exit_head(TOKENS), wanted, atol=1e-5)


def test_the_heads_cost_what_their_layers_cost():
    """Per token two 1 x 1 convolutions of 24 x 24 and one of 3 x 3; of 4 tokens q, k, v, two products and a projection."""
    plain, richer = (exit_macs(add_exits(small(), [0, 2], head=head), (3, 32, 32)) for head in ("linear", "lgvit"))
    local, aggregated = 16 * (2 * 24 * 24 + 9 * 24), 4 * 4 * 24 * 24 + 2 * 4 * 4 * 24
    assert [more - few for few, more in zip(plain, richer)] == [local, local + aggregated, local + aggregated]


def test_trained_heads_leave_the_model_and_come_back_from_a_file(tmp_path):
    torch.manual_seed(0)
    model = add_exits(small(), [0, 1, 2], head="lgvit")
    with torch.no_grad():
        before = model(BATCH)
    train_exits(model, data.load("shapes", count=64), whole=False, steps=3, batch_size=16, lr=1e-2, threads=1,
                precision="float32", attention="fused", progress=False)
    checkpoint.save(model, tmp_path / "exits.safetensors")
    again = checkpoint.load(tmp_path / "exits.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(model(BATCH), before)
        assert all(torch.equal(*pair) for pair in zip(again(BATCH, every=True), model(BATCH, every=True)))


@torch.no_grad()
def test_a_plan_without_a_head_which_old_files_hold_has_linear_ones():
    found = apply_exits(small(), {"layers": [1], "rule": None}).eval()
    assert all(torch.equal(*pair) for pair in zip(found(BATCH, every=True), add_exits(small(), [1])(BATCH, every=True)))


def test_a_grid_other_than_that_of_the_model_is_refused_with_what_mends_it():
    head = add_exits(small(), [0], head="lgvit").exits[0]
    with pytest.raises(LabError, match="keeps all its tokens"):
        head(TOKENS[:, :10])
