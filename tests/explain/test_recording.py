import pytest
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import record_attention


@torch.inference_mode()
def test_recorded_weights_times_values_are_what_the_model_computed():
    model, pictures = models.create_model("lab_vit_student").eval(), torch.randn(2, 3, 32, 32)
    block = model.blocks[0]
    with record_attention(model) as maps:
        model(pictures)
    tokens = block.norm1(model.embed(pictures))
    mixed = (maps[0] @ block.attn.split_heads(tokens)[2]).transpose(1, 2).flatten(2)
    assert torch.allclose(block.attn.proj(mixed), block.attn(tokens), atol=1e-5)
    assert [tuple(block_map.shape) for block_map in maps] == [(2, 4, 65, 65)] * 4


@torch.inference_mode()
def test_recording_changes_no_logit_and_leaves_no_hook_behind():
    model, pictures = models.create_model("lab_vit_student").eval(), torch.randn(1, 3, 32, 32)
    before = model(pictures)
    with record_attention(model) as maps:
        during = model(pictures)
    model(pictures)
    assert torch.equal(before, during) and len(maps) == 4
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_leave_when_the_body_raises():
    model = models.create_model("lab_vit_student")
    with pytest.raises(KeyError), record_attention(model):
        raise KeyError
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_empty_recording_is_an_error_and_so_is_a_model_without_attention():
    with pytest.raises(LabError, match="nothing was recorded"), record_attention(models.create_model("lab_vit_student")):
        pass
    with pytest.raises(LabError, match="no attention"), record_attention(nn.Linear(2, 2)):
        pass
