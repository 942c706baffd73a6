import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightvit_lab.errors import LabError
from lightvit_lab.models.compact_transformer import CompactTransformer, SequencePool, Tokenizer

CCT_2_3X2 = dict(widths=(64, 128), stem=0, residual=False, batch_norm=False, num_heads=2, mlp_ratio=1.0, qkv_bias=False)


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_shape_of_the_official_cct_2_3x2_has_its_parameter_count():
    """283,723, part by part as in the paper's repository: no bias in convolutions and qkv, no class token."""
    block = 2 * 256 + 3 * 128 * 128 + (128 * 128 + 128) + 2 * (128 * 128 + 128)
    parts = 64 * 3 * 9 + 128 * 64 * 9 + 64 * 128 + 2 * block + 256 + 129 + (1280 + 10)
    assert parts == 283_723
    assert _count(CompactTransformer(**CCT_2_3X2)) == parts


@torch.inference_mode()
def test_official_tokenizer_is_convolution_relu_and_overlapping_pooling_twice_in_row_order():
    tokenizer, images = Tokenizer((4, 6), batch_norm=False), torch.randn(2, 3, 16, 16)
    maps = images
    for weight in tokenizer.parameters():
        maps = F.max_pool2d(F.relu(F.conv2d(maps, weight, padding=1)), 3, 2, 1)
    tokens, grid = tokenizer(images)
    assert tokens.shape == (2, 16, 6) and grid == (4, 4)
    for row, column in ((0, 0), (1, 2), (3, 3)):
        assert torch.allclose(tokens[:, 4 * row + column], maps[:, :, row, column], atol=1e-6)


@torch.inference_mode()
def test_sequence_pool_is_the_mean_weighted_by_the_softmax_of_the_scores():
    """Two tokens whose scores differ by log 3: shares 3/4 and 1/4, worked by hand."""
    pool = SequencePool(2)
    pool.score.weight.copy_(torch.tensor([[1.0, 0.0]]))
    tokens = torch.tensor([[[torch.log(torch.tensor(3.0)), 8.0], [0.0, 4.0]]])
    assert torch.allclose(pool(tokens)[0, 1], torch.tensor(7.0))
    assert torch.allclose(pool.shares(torch.randn(3, 5, 2)).sum(dim=1), torch.ones(3, 1))


@pytest.mark.parametrize("image_size, in_channels, tokens", [(32, 3, 16), (64, 3, 64), (28, 1, 16)])
@torch.inference_mode()
def test_fast_variant_makes_a_token_of_every_8_pixels(image_size, in_channels, tokens):
    model = CompactTransformer(image_size, in_channels, num_classes=7).eval()
    images = torch.randn(2, in_channels, image_size, image_size)
    assert model.num_image_tokens == tokens
    assert model.forward_features(images).shape == (2, tokens, 128)
    assert model(images).shape == (2, 7)


@torch.inference_mode()
def test_written_out_attention_gives_the_logits_of_the_fused():
    fused, plain = CompactTransformer(fused=True).eval(), CompactTransformer(fused=False).eval()
    plain.load_state_dict(fused.state_dict())
    images = torch.randn(3, 3, 32, 32)
    assert torch.allclose(fused(images), plain(images), atol=1e-5)


def test_every_parameter_of_both_variants_gets_a_gradient():
    torch.manual_seed(0)
    for kwargs in ({}, CCT_2_3X2):
        model = CompactTransformer(**kwargs)
        F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
        without = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
        assert without <= {"pool.score.bias"}       # added to every score, which the softmax takes out again


@pytest.mark.parametrize("kwargs, said", [
    (dict(image_size=2), "image_size=2"),
    (dict(widths=()), "give the width of each convolution"),
    (dict(widths=(64, 130)), "give 128 or 132"),
    (dict(widths=(0, 128)), "widths=0"),
    (dict(depth=0), "depth=0"),
    (dict(num_heads=0), "num_heads=0"),
    (dict(stem=-2), "stem=-2"),
])
def test_sizes_that_make_no_model_are_refused_with_what_to_give(kwargs, said):
    with pytest.raises(LabError, match=said):
        CompactTransformer(**kwargs)


@pytest.mark.parametrize("shape, said", [((2, 1, 32, 32), "takes 3"),
                                         ((2, 3, 28, 28), "takes 32 x 32"), ((3, 32, 32), r"images\[None\]")])
def test_images_of_another_shape_are_refused(shape, said):
    with pytest.raises(LabError, match=said):
        CompactTransformer()(torch.zeros(shape))
