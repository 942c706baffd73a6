"""A block in which some tokens are seen by nobody, against softmax written out, also where the scale is another."""

import pytest
import torch
from drawn_weights import fill, pictures
from timm.models.vision_transformer import Block as TimmBlock

from lightvit_lab.models.timm_parts import masked_block
from lightvit_lab.models.vision_transformer import Block


def written_out(block, tokens, keep):
    """norm, softmax over the tokens that are seen, projection, MLP: one picture and one head at a time."""
    normed, mixed = block.norm1(tokens), torch.zeros_like(tokens)
    query, key, value = block.attn.qkv(normed).chunk(3, dim=-1)
    width = tokens.shape[-1] // block.attn.num_heads
    for picture, seen in enumerate(keep):
        for head in range(block.attn.num_heads):
            of = slice(head * width, (head + 1) * width)
            scores = query[picture, :, of] @ key[picture, seen, of].T * block.attn.scale
            mixed[picture, :, of] = scores.softmax(-1) @ value[picture, seen, of]
    tokens = tokens + block.attn.proj(mixed)
    return tokens + block.mlp(block.norm2(tokens))


@torch.no_grad()
@pytest.mark.parametrize("kind", [Block, TimmBlock])
@pytest.mark.parametrize("scale", [None, 1.0, 0.05])
def test_a_masked_block_attends_by_its_own_scale_to_what_is_seen(kind, scale):
    block, tokens = fill(kind(24, 3)).eval(), pictures(0, 2, 7, 24)
    if scale is not None:
        block.attn.scale, block.attn.fused_attn = scale, False            # timm's fused path knows only the usual scale
    keep = torch.tensor([[True, True, False, True, False, True, True], [True, False, True, True, True, True, False]])
    found = masked_block("test", block, tokens, keep)
    assert torch.allclose(found, written_out(block, tokens, keep), atol=1e-5)
    everyone = torch.ones_like(keep)
    assert torch.allclose(masked_block("test", block, tokens, everyone), block(tokens), atol=1e-5)
    assert not torch.allclose(found, block(tokens), atol=1e-2)
