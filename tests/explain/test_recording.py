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


@pytest.mark.parametrize("name, settings", [
    ("deit_tiny_patch16_224", {}), ("deit_tiny_distilled_patch16_224", {}), ("vit_tiny_patch16_224", {"qk_norm": True}),
    ("vit_tiny_patch16_224", {"scale_attn_norm": True, "class_token": False, "global_pool": "avg"})])
@torch.inference_mode()
def test_timm_s_attention_is_read_while_fused_and_is_what_its_written_form_computes(name, settings):
    model, inputs = models.create_model(name, img_size=64, depth=2, **settings).eval(), torch.randn(2, 3, 64, 64)
    assert all(block.attn.fused_attn for block in model.blocks)
    before = model(inputs)
    with record_attention(model) as maps:
        during = model(inputs)
    assert torch.equal(before, during) and len(maps) == 2
    seen = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, arguments, output: seen.append(output))
    assert torch.allclose(model(inputs), before, atol=1e-5)
    assert all(torch.allclose(found, expected, atol=1e-6) for found, expected in zip(maps, seen, strict=True))


@torch.inference_mode()
def test_masks_that_timm_s_attention_is_given_are_seen():
    attention = models.create_model("vit_tiny_patch16_224", depth=1).blocks[0].attn.eval()
    tokens, bias = torch.randn(1, 5, 192), torch.randn(5, 5)
    for mask in ({"attn_mask": bias}, {"attn_mask": bias > 0.5}, {"is_causal": True}):
        mask_of_rows = mask.get("attn_mask")
        if mask_of_rows is not None and mask_of_rows.dtype == torch.bool:
            mask_of_rows |= torch.eye(5, dtype=torch.bool)     # a row that looks nowhere has no weights
        with record_attention(attention) as maps:
            attention(tokens, **mask)
        value = attention.qkv(tokens).unflatten(-1, (3, 3, 64))[:, :, 2].transpose(1, 2)
        mixed = (maps[0] @ value).transpose(1, 2).flatten(2)
        assert torch.allclose(attention.proj(mixed), attention(tokens, **mask), atol=1e-5)


@pytest.mark.parametrize("name, size", [("lab_vit_student", 32), ("lab_lightvit", 32), ("deit_tiny_patch16_224", 224)])
@torch.inference_mode()
def test_rows_sum_to_one_in_bfloat16_too(name, size):
    model, inputs = models.create_model(name).bfloat16().eval(), torch.randn(2, 3, size, size).bfloat16()
    with record_attention(model) as maps:
        model(inputs)
    for block in maps:
        for weights in (block.values() if isinstance(block, dict) else [block]):
            assert weights.dtype == torch.float32 and len(weights) == 2
            assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_recording_on_a_gpu_is_that_on_a_cpu():
    model, inputs = models.create_model("lab_vit_student").eval(), torch.randn(2, 3, 32, 32)
    with record_attention(model) as maps:
        model(inputs)
    with record_attention(model.cuda()) as on_gpu:
        model(inputs.cuda())
    assert all(torch.allclose(one, two.cpu(), atol=1e-4) for one, two in zip(maps, on_gpu))


def test_a_new_forward_empties_the_list():
    model = models.create_model("lab_vit_student")
    with record_attention(model) as maps:
        for pictures in (torch.randn(2, 3, 32, 32), torch.randn(1, 3, 32, 32)):
            model(pictures)
    assert [len(block) for block in maps] == [1] * 4


def test_a_compiled_model_is_refused_since_it_would_run_past_the_hooks():
    with pytest.raises(LabError, match="give the model before torch.compile"):
        with record_attention(torch.compile(models.create_model("lab_vit_student"))):
            pass


def test_fused_attention_that_nobody_can_read_is_named():
    with pytest.raises(LabError, match=r"layers.0.blocks.0.attn \(WindowAttention\) and 11 more.*readable are"):
        with record_attention(models.create_model("swin_tiny_patch4_window7_224")):
            pass
    with pytest.raises(LabError, match=r"self_attn \(MultiheadAttention\), where fused"):
        with record_attention(nn.TransformerEncoderLayer(8, 2)):
            pass


def test_an_empty_recording_is_an_error_and_so_is_a_model_without_attention():
    with pytest.raises(LabError, match="nothing was recorded"), record_attention(models.create_model("lab_vit_student")):
        pass
    with pytest.raises(LabError, match="no attention"), record_attention(nn.Linear(2, 2)):
        pass
