import json
from pathlib import Path

import numpy
import pytest
import torch
from drawn_weights import fill, pictures

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import rollout, rollout_map

REFERENCE = json.loads((Path(__file__).parent / "explain_reference.json").read_text())


def drawn(seed: int, blocks: int, *shape: int) -> list[torch.Tensor]:
    return [torch.from_numpy(2 * numpy.random.RandomState(100 * seed + block).standard_normal(shape)).float().softmax(-1)
            for block in range(blocks)]


@pytest.mark.parametrize("case", REFERENCE["rollout"]["masks"])
def test_rollout_is_that_of_the_reference_for_every_fusion_and_share_discarded(case):
    fusion, ratio = case.split("_")
    maps = drawn(1, 4, 1, 3, 17, 17)
    mask = rollout(maps, fusion, float(ratio))[0, 0, 1:]
    expected = torch.tensor(REFERENCE["rollout"]["masks"][case])
    assert torch.allclose(mask / mask.max(), expected, atol=1e-5)


def test_rollout_of_two_pictures_is_that_of_the_paper_s_followers():
    maps = [block[:, None] for block in drawn(3, 5, 2, 17, 17)]
    expected = torch.tensor(REFERENCE["chefer_rollout"]["first_rows"]).view(2, 17)
    assert torch.allclose(rollout(maps)[:, 0], expected, atol=1e-6)


@torch.inference_mode()
def test_rollout_of_a_model_of_timm_is_that_of_the_reference():
    case = REFERENCE["rollout"]["deit_tiny"]
    model = fill(models.create_model("deit_tiny_patch16_224"))
    assert model.blocks[0].attn.fused_attn
    found = rollout_map(model, pictures(0, 1, 3, 224, 224)).flatten()
    assert torch.allclose(found / found.max(), torch.tensor(case["mask"]), atol=1e-4)


def test_two_blocks_by_hand():
    first, second = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]]), torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    # (A + I) / 2: [[1, 0], [1/4, 3/4]] and [[1/2, 1/2], [0, 1]]; their product in the order of the blocks
    assert torch.allclose(rollout([first, second])[0], torch.tensor([[0.625, 0.375], [0.25, 0.75]]))


def test_rows_sum_to_one_whatever_is_discarded():
    maps = [torch.rand(2, 3, 9, 9) for _ in range(4)]      # rows of these do not sum to one
    for fusion in ("mean", "max", "min"):
        for ratio in (0, 0.5, 1):
            assert torch.allclose(rollout(maps, fusion, ratio).sum(-1), torch.ones(2, 9), atol=1e-5)


def test_pictures_of_a_batch_do_not_touch_each_other():
    maps = [torch.rand(3, 2, 7, 7).softmax(-1) for _ in range(3)]
    alone = torch.cat([rollout([block[i:i + 1] for block in maps], "max", 0.4) for i in range(3)])
    assert torch.allclose(rollout(maps, "max", 0.4), alone)


@pytest.mark.parametrize("maps, settings, message", [
    ([], {}, "give the list that record_attention filled"),
    ([torch.rand(2, 4, 4)], {}, r"shape \(2, 4, 4\); give \(batch, heads, N, N\)"),
    ([torch.rand(1, 2, 4, 5)], {}, r"shape \(1, 2, 4, 5\)"),
    ([torch.rand(1, 2, 4, 4), torch.rand(1, 2, 3, 3)], {}, "maps of different sizes cannot be multiplied"),
    ([{"window": torch.rand(1, 2, 4, 4)}], {}, "instead of one square map"),
    ([torch.rand(1, 2, 4, 4)], {"fusion": "average"}, "Give one of: mean, max, min"),
    ([torch.rand(1, 2, 4, 4)], {"discard_ratio": 1.2}, "0 <= discard_ratio <= 1"),
])
def test_what_cannot_be_rolled_out_is_refused_with_what_to_give(maps, settings, message):
    with pytest.raises(LabError, match=message):
        rollout(maps, **settings)
