"""Interchangeable parts: each against a case worked by hand or the plain formula, on a map that is no square."""

import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import components, models
from lightvit_lab.components import (Attention, ConvStem, Mlp, PatchEmbedding, Pooling, PreNormBlock, WindowAttention,
                                     relative_position_index, sort_into_windows)
from lightvit_lab.errors import LabError

GRID = (3, 5)
MIXERS = {"attention": lambda: Attention(8, 2), "window": lambda: WindowAttention(8, 2, (2, 3)), "pooling": Pooling}


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_takes_tokens_and_their_grid_and_gives_tokens(name):
    part = fill(MIXERS[name]())
    tokens = pictures(1, 2, 15, 8)
    assert part(tokens, GRID).shape == tokens.shape
    block = PreNormBlock(8, part, Mlp(8, 16))
    assert block(tokens, GRID).shape == tokens.shape and (block(tokens, GRID) != tokens).all()


@pytest.mark.parametrize("embed", [PatchEmbedding(4, 16), ConvStem(4, 16)])
def test_every_embedding_gives_tokens_and_their_grid(embed):
    tokens, grid = embed(torch.zeros(2, 3, 12, 20))
    assert tokens.shape == (2, 15, 16) and grid == GRID


def test_tokens_come_in_reading_order():
    embedding = PatchEmbedding(patch_size=2, dim=1)
    nn.init.constant_(embedding.proj.weight, 1 / 12)
    nn.init.zeros_(embedding.proj.bias)
    picture = torch.tensor([[0.0, 1, 2], [3, 4, 5]]).repeat_interleave(2, 0).repeat_interleave(2, 1).expand(1, 3, 4, 6)
    tokens, grid = embedding(picture)
    assert torch.allclose(tokens.flatten(), torch.arange(6.0)) and grid == (2, 3)
    assert torch.equal(components.to_map(tokens, grid)[0, 0], tokens.view(2, 3))
    assert torch.equal(components.to_tokens(components.to_map(tokens, grid))[0], tokens)


def _window(place: int) -> tuple[int, int]:
    """Which window of 2 x 3 tokens a token of a map of five columns lies in."""
    return place // 5 // 2, place % 5 // 3


def test_attention_in_windows_is_attention_with_all_other_pairs_masked_and_a_bias_for_each_offset():
    part, tokens = fill(WindowAttention(8, 2, (2, 3))), pictures(2, 2, 15, 8)
    query, key, value = components.split_heads(part.qkv(tokens), 3, 2)
    scores = query @ key.mT * 4**-0.5
    for one in range(15):
        for other in range(15):
            down, right = one // 5 - other // 5, one % 5 - other % 5
            same = _window(one) == _window(other)
            row = (down + 1) * 5 + right + 2 if same else 0
            scores[:, :, one, other] += part.relative_position_bias_table[row] if same else -torch.inf
    expected = part.proj(components.join_heads(scores.softmax(-1) @ value))
    for part.fused in (True, False):
        assert torch.allclose(part(tokens, GRID), expected, atol=1e-5)


def test_a_windows_two_sides_are_rows_and_columns():
    windows = sort_into_windows((2, 6), (2, 3))
    assert (windows.count, windows.area, windows.padded) == (2, 6, False)
    assert windows.order.tolist() == [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11]
    assert relative_position_index((1, 2)).view(2, 2).tolist() == [[1, 0], [2, 1]]
    assert relative_position_index((2, 1)).view(2, 2).tolist() == [[1, 0], [2, 1]]
    assert torch.equal(relative_position_index(3), relative_position_index((3, 3)))


def test_pooling_is_the_mean_of_the_neighbours_that_exist_minus_the_token():
    tokens = pictures(3, 1, 15, 2)
    found = Pooling(3)(tokens, GRID)
    for row in range(3):
        for column in range(5):
            near = [tokens[0, other // 5 * 5 + other % 5] for other in range(15)
                    if abs(other // 5 - row) <= 1 and abs(other % 5 - column) <= 1]
            expected = torch.stack(near).mean(0) - tokens[0, row * 5 + column]
            assert torch.allclose(found[0, row * 5 + column], expected, atol=1e-6)


def test_weights_are_exact_in_half_precision_and_as_fine_as_double_in_double():
    query, key = pictures(4, 2, 1, 3, 4), pictures(5, 2, 1, 3, 4)
    exact = (query.double() @ key.double().mT / 2).softmax(-1)
    assert torch.allclose(components.attention_weights(query.double(), key.double()), exact, atol=1e-14)
    half = components.attention_weights(query.bfloat16(), key.bfloat16())
    assert half.dtype == torch.float32 and torch.allclose(half.sum(-1), torch.ones(2, 1, 3))


@pytest.mark.parametrize("options", [
    {"mixer": "window", "mixer_options": {"window_size": (2, 4)}}, {"mixer": "pooling"}, {"mixer": "attention"},
    {"mixer": "window", "position": "none", "embedding": "patch"}])
def test_the_labs_vit_is_made_of_parts_by_name(options):
    model = models.create_model("lab_vit_student", pool="mean", depth=2, **options).eval()
    assert model.cls_token is None and not any("cls" in name for name in model.state_dict())
    assert type(model.blocks[0].attn).__name__.lower().startswith(options["mixer"])
    drawn = pictures(6, 3, 3, 32, 32)
    tokens = model.forward_features(drawn)
    assert tokens.shape == (3, 64, 64) and torch.allclose(model(drawn), model.head(tokens.mean(1)))
    assert torch.allclose(model(drawn)[1:2], model(drawn[1:2]), atol=1e-5)


def test_window_mixing_keeps_what_lies_in_other_windows_apart():
    model = models.create_model("lab_vit_student", pool="mean", mixer="window", depth=1, embedding="patch").eval()
    one, other = pictures(7, 1, 3, 32, 32), pictures(7, 1, 3, 32, 32)
    other[:, :, :16, :16] += 1      # the first window of 4 x 4 patches of 4 pixels
    differs = (model.forward_features(one) != model.forward_features(other)).any(-1).view(8, 8)
    assert differs[:4, :4].all() and not differs[4:].any() and not differs[:, 4:].any()


@pytest.mark.parametrize("wrong, words", [
    ({"mixer": "window"}, 'mixer=.window. works on a map of tokens.*give pool="mean"'),
    ({"mixer": "windows", "pool": "mean"}, 'mixer=.windows. is unknown. Did you mean "window"'),
    ({"position": "tabel"}, 'Did you mean "table"'), ({"pool": "max"}, "pool=.max."),
    ({"pool": "mean", "distilled": True}, 'distilled=True .* give pool="class"'),
    ({"mixer": "pooling", "pool": "mean", "mixer_options": {"window_size": 3}}, "window_size"),
])
def test_parts_that_do_not_go_together_are_refused_in_a_sentence(wrong, words):
    with pytest.raises(LabError, match=words):
        models.create_model("lab_vit_student", **wrong)


def test_transforms_for_attention_refuse_other_mixers_in_a_sentence():
    from lightvit_lab.dynamic.early_exit.exits import add_exits
    from lightvit_lab.dynamic.token_merging.merging import merge_tokens
    model = models.create_model("lab_vit_student", mixer="window", pool="mean")
    for transform in (lambda: add_exits(model, [1]), lambda: merge_tokens(model, 4)):
        with pytest.raises(LabError, match='by .window.,.*give one with mixer="attention"'):
            transform()
