"""Features on grids that are no squares: each objective compares the places that lie over each other."""

import pytest
import torch
from any_grid import inputs_of, made
from torch import nn

from lightvit_lab import data
from lightvit_lab.distillation import distill
from lightvit_lab.distillation import feature_distillation as features
from lightvit_lab.distillation.feature_distillation.joining import joined_grid, joined_tokens
from lightvit_lab.distillation.response_distillation.objectives import SoftTargets
from lightvit_lab.distillation.model_outputs import ModelOutputs, collect_outputs
from lightvit_lab.distillation.response_distillation.stored_logits import store_logits
from lightvit_lab.dynamic.token_pruning import prune_tokens
from lightvit_lab.errors import LabError

OBJECTIVES = [features.AttentionTransfer(0, 1), features.AttentionWeights(0, 1), features.Similarity(0, 1),
              features.Relational(0, 1), features.Manifold(0, 1), features.Hint(0, 1), features.ShallowMimic((0, 1), (0, 1)),
              features.ValueRelations(0, 1), features.DeepGeneration(0, 1)]


def set_of(size=(12, 20), count=16):
    pixels = torch.randint(0, 255, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    half = torch.full((3,), 0.5)
    return data.Pictures("made up", "train", pixels, torch.arange(count) % 10, tuple("abcdefghij"), half, half)


@pytest.mark.parametrize("kind, layer", [("patches", 0), ("distilled", -1), ("timm", 1), ("timm, registers", 1),
                                         ("timm, any size", 0), ("cct_2_3x2", 0), ("lab_lightvit", 0)])
@torch.no_grad()
def test_maps_of_features_lie_as_the_picture_does(kind, layer):
    """Of 3 x 5 patches, the one in row 0 and column 4 changes its features most while nothing is mixed."""
    model, images = made(kind), inputs_of(kind)
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.weight.zero_()                            # blocks add nothing: tokens stay what the embedding made
    changed = images.clone()
    changed[:, :, :4, 16:] += 3
    before, after = (collect_outputs(model, some, features=(layer,)).maps(layer) for some in (images, changed))
    assert before.shape[2:] == (3, 5)
    apart = (after - before).abs().sum(1).mean(0)
    assert (apart == apart.max()).nonzero().tolist() == [[0, 4]]


class _Stages(nn.Module):
    """A network of two stages that hand tokens and their grid on, and says nothing else of them."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Identity() for _ in range(2))

    def forward(self, images):
        grids = ((2, 8), (1, 4))
        tokens = [self.stages[stage]((images[:, :1, :rows, :columns].flatten(2).mT, (rows, columns)))[0]
                  for stage, (rows, columns) in enumerate(grids)]
        return tokens[-1].flatten(1)


def test_stages_that_hand_their_grid_on_are_believed_and_others_are_no_square_of_an_oblong_picture():
    shown = collect_outputs(_Stages(), inputs_of(), features=(0, 1))
    assert shown.maps(0).shape[2:] == (2, 8) and torch.equal(shown.maps(0)[:, 0], inputs_of()[:, 0, :2, :8])
    assert torch.equal(shown.maps(1)[:, 0], inputs_of()[:, 0, :1, :4])
    shown.grids = ()
    with pytest.raises(LabError, match="16 tokens, 0 of them in front, form no square"):
        shown.maps(0)


@torch.no_grad()
def test_as_many_tokens_on_another_grid_are_laid_over_each_other_by_places():
    """2 x 8 against 8 x 2 patches of the same pictures: the coarser of both is 2 x 2, and means are taken."""
    wide, high = (ModelOutputs(torch.zeros(1, 2), features={0: torch.arange(16.0).view(1, 16, 1)}, grids=[grid])
                  for grid in ((2, 8), (8, 2)))
    one, other = joined_tokens(wide, high, (0, 0))
    assert joined_grid(wide, high, (0, 0)) == (2, 2)
    assert one.flatten().tolist() == [1.5, 5.5, 9.5, 13.5] and other.flatten().tolist() == [3, 4, 11, 12]
    same = joined_tokens(wide, wide, (0, 0))
    assert torch.equal(same[0], wide.features[0])


def test_attention_on_a_grid_of_no_square_is_averaged_by_places():
    weights = torch.eye(8).view(1, 1, 8, 8)                # 2 x 4 tokens, each looks at itself
    found = features.image_attention(weights, 0, (2, 2), grid=(2, 4))
    assert torch.equal(found, torch.eye(4).view(1, 1, 4, 4))
    with pytest.raises(LabError, match="image_attention: 8 tokens, 0 of them in front, form no square; give grid="):
        features.image_attention(weights, 0, (2, 2))


@pytest.mark.parametrize("objective, teacher", [
    (objective, teacher) for objective in OBJECTIVES for teacher in ("finer", "as many, upright", "CNN")
    if teacher != "CNN" or not hasattr(objective, "joined")])           # a CNN has no attention
def test_every_objective_learns_from_a_teacher_of_another_grid(objective, teacher):
    teachers = {"finer": lambda: made(patch_size=2), 
                "as many, upright": lambda: made("timm", img_size=(12, 20), patch_size=(2, 10)),
                "CNN": lambda: made("lab_cnn", widths=(12, 24))}
    student, wise = made(), teachers[teacher]()
    history = distill(student, wise, set_of(), {"term": objective}, steps=2, batch_size=8, precision="float32",
                      progress=False)
    assert torch.tensor(history.loss).isfinite().all() and history.loss[0] > 0
    assert not torch.equal(student.blocks[0].attn.qkv.weight, made().blocks[0].attn.qkv.weight)


def test_the_loss_of_a_model_to_itself_is_none_on_any_grid():
    model, images = made(), inputs_of(count=4)
    seen = collect_outputs(model, images, features=(0, 1), attention=(0,))
    for objective in (features.AttentionTransfer(0, 0), features.AttentionWeights(0, 0), features.Hint(0, 0, whitened=False)):
        assert objective(seen, seen, None).abs() < 1e-6


def test_dropped_tokens_are_no_grid_even_where_their_number_is_a_square():
    pruned = prune_tokens(made(), 0.6, (0,), fuse=False)           # 9 of 15 patches
    shown = collect_outputs(pruned, inputs_of(), features=(-1,))
    with pytest.raises(LabError, match="features of layer -1: 10 tokens, 1 of them in front, form no grid of 3 x 5"):
        shown.maps(-1)


def test_stored_logits_of_oblong_pictures_are_what_the_teacher_says(tmp_path):
    wise, pairs = made("timm", depth=2), set_of()
    settings = {"steps": 2, "batch_size": 8, "augment": ("flip", "crop")}
    stored = store_logits(wise, pairs, tmp_path / "logits", progress=False, **settings)
    runs = [distill(made(), source, pairs, {"soft": SoftTargets()}, progress=False, precision="float32",
                    teacher_precision="float32", **settings)
            for source in (stored, wise)]
    torch.testing.assert_close(torch.tensor(runs[0].loss), torch.tensor(runs[1].loss), rtol=0.01, atol=1e-4)
