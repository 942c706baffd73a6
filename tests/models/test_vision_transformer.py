import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import models
from lightvit_lab.components import Attention
from lightvit_lab.errors import LabError
from lightvit_lab.models.vision_transformer import VisionTransformer

# First logits of timm 1.0.31's deit_tiny_patch16_224 with weights and input by the rules in `drawn_weights.py`.
TIMM_DEIT_TINY_LOGITS = [
    [0.900090, -0.023686, -2.579158, 1.532221, -1.644321, -1.244722, 0.329893, 2.325988, 0.587437, 3.143500],
    [1.630979, 1.137319, -2.180396, 2.099916, -0.923609, -1.951637, -0.790799, 2.134587, 0.158262, 3.128525],
]


def _deit_tiny(**kwargs) -> VisionTransformer:
    return VisionTransformer(image_size=224, patch_size=16, num_classes=1000, dim=192, depth=12, num_heads=3,
                             embedding="patch", **kwargs).eval()


@pytest.mark.parametrize("fused", [True, False])
@torch.inference_mode()
def test_same_weights_give_timms_logits(fused):
    """Stored numbers, so that it is checked for everybody, whatever timm is installed."""
    model = _deit_tiny(fused=fused)
    fill(model)
    logits = model(pictures(0, 2, 3, 224, 224))[:, :10]
    assert torch.allclose(logits, torch.tensor(TIMM_DEIT_TINY_LOGITS), atol=2e-5)


@torch.inference_mode()
def test_weights_of_the_installed_timm_load_strictly_and_give_the_same_logits():
    import timm

    reference = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3,
                                  num_classes=7).eval()
    fill(reference)
    ours = VisionTransformer(patch_size=8, dim=48, depth=3, num_heads=3, num_classes=7, embedding="patch").eval()
    ours.load_state_dict(reference.state_dict())
    drawn = pictures(1, 4, 3, 32, 32)
    assert torch.allclose(ours(drawn), reference(drawn), atol=1e-5)


@torch.inference_mode()
def test_fused_and_explicit_attention_agree_and_rows_sum_to_one():
    fused, tokens = Attention(32, 4), pictures(2, 2, 9, 32)
    explicit = Attention(32, 4, fused=False)
    explicit.load_state_dict(fused.state_dict())
    assert torch.allclose(fused(tokens), explicit(tokens), atol=1e-6)
    assert torch.allclose(fused.weights(tokens).sum(-1), torch.ones(2, 4, 9))


@torch.inference_mode()
def test_attention_with_zero_queries_is_the_mean_of_the_values():
    """Worked by hand: all weights equal 1 / N, so every token takes home the mean value."""
    attention, tokens = Attention(8, 2), pictures(3, 1, 5, 8)
    for layer in (attention.qkv, attention.proj):
        nn.init.zeros_(layer.bias)
    attention.qkv.weight[:16] = 0
    nn.init.eye_(attention.proj.weight)
    mean = (tokens @ attention.qkv.weight[16:].T).mean(1, keepdim=True)
    assert torch.allclose(attention(tokens), mean.expand(-1, 5, -1), atol=1e-6)


@pytest.mark.parametrize("arguments, words", [
    (dict(image_size=30), "image_size=30 is no multiple of 4.*28 or 32"),
    (dict(dim=130), "dim=130 is no multiple of 4.*each of 4 heads"),
    (dict(depth=0), "1 <= depth"),
    (dict(num_heads=0), "1 <= num_heads"),
    (dict(embedding="convstem"), 'Did you mean "conv_stem"'),
    (dict(patch_size=3, image_size=33), "patch_size=3 is unknown"),
])
def test_sizes_that_make_no_model_are_refused(arguments, words):
    with pytest.raises(LabError, match=words):
        VisionTransformer(**arguments)


@pytest.mark.parametrize("pictures, words", [
    (torch.zeros(1, 3, 28, 28), "28 x 28 pixels, the model takes 32 x 32"),
    (torch.zeros(1, 1, 32, 32), "1 channels, the model takes 3"),
    (torch.zeros(3, 32, 32), "add the batch"),
    (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
])
def test_wrong_pictures_end_in_a_sentence(pictures, words):
    with pytest.raises(LabError, match=words):
        models.create_model("lab_vit_student")(pictures)


def test_a_new_distillation_token_is_drawn_as_published():
    """DeiT: `trunc_normal_(self.dist_token, std=.02)`; of 4096 draws the deviation is known to about one percent."""
    torch.manual_seed(0)
    model = VisionTransformer(dim=4096, depth=1, distilled=True, embedding="patch")
    token = model.dist_token
    assert token.shape == (1, 1, 4096) and token.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(token.mean().item()) < 0.002 and token.unique().numel() > 4000
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.01)                 # as the position table is
    assert model.cls_token.std().item() == pytest.approx(1e-6, rel=0.05)                 # timm's nearly nothing


@pytest.mark.parametrize("name", ["lab_vit", "lab_cct", "lab_lightvit"])
def test_every_learned_table_of_a_new_model_is_drawn(name):
    model = models.create_model(name)
    tables = {part: value for part, value in model.named_parameters() if part in model.no_weight_decay()}
    assert tables and all(value.unique().numel() > value.numel() // 2 for value in tables.values()), tables.keys()
