import pytest
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.models.cnn import ResidualBlock, ResidualNetwork


def test_parameters_are_those_counted_by_hand():
    model = ResidualNetwork(widths=(4, 8), blocks=1, num_classes=10)
    stem = 3 * 4 * 9 + 8
    first = 2 * (4 * 4 * 9 + 8)
    second = 4 * 8 * 9 + 16 + 8 * 8 * 9 + 16 + (4 * 8 + 16)
    assert sum(parameter.numel() for parameter in model.parameters()) == stem + first + second + 8 * 10 + 10


def test_every_stage_but_the_first_halves_the_map():
    model = ResidualNetwork(widths=(4, 8, 16), blocks=2)
    assert model.stages(model.stem(torch.zeros(1, 3, 32, 32))).shape == (1, 16, 8, 8)


def test_a_block_whose_branch_is_silent_passes_its_input_on():
    block, maps = ResidualBlock(4, 4).eval(), torch.rand(1, 4, 5, 5)
    nn.init.zeros_(block.conv2.weight)
    assert torch.allclose(block(maps), maps)


def test_wrong_channels_end_in_a_sentence():
    with pytest.raises(LabError, match="1 channels, the model takes 3"):
        models.create_model("lab_cnn")(torch.zeros(1, 1, 32, 32))


def test_pooled_blocks_convolve_at_every_place_and_keep_the_largest_of_four():
    model = models.create_model("lab_cnn", widths=(8, 12), pooled=True).eval()
    assert [block.conv1.stride for block in model.stages] == [(1, 1), (1, 1)]
    block, maps = model.stages[0], torch.randn(2, 4, 8, 8)
    pooled = torch.nn.functional.max_pool2d(block.conv1(maps), 2)
    inner = block.conv2(torch.relu(block.norm1(pooled)))
    shortcut = block.shortcut(torch.nn.functional.max_pool2d(maps, 2))
    assert torch.allclose(block(maps), torch.relu(block.norm2(inner) + shortcut), atol=1e-6)
    assert model.stages(model.stem(torch.randn(1, 3, 32, 32))).shape == (1, 12, 8, 8)
