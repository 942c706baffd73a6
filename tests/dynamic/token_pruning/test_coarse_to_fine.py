"""Coarse to fine: which patches the second look takes, and that pictures which are sure really leave the batch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small_vits import INPUTS, deit, lab

from lightvit_lab import checkpoint, models, profiling
from lightvit_lab.dynamic.token_pruning.coarse_fine import CoarseToFineObjective, by_region, coarse_to_fine
from lightvit_lab.errors import LabError
from lightvit_lab.training import Batch


def test_a_region_is_two_by_two_patches():
    assert by_region(torch.arange(16.0).view(1, 16, 1))[0, :, :, 0].tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@pytest.mark.parametrize("make", [lab, deit])
@torch.inference_mode()
def test_a_second_look_at_every_region_is_the_old_model(make):
    model = make()
    both = coarse_to_fine(model, 1.0, 1.0)
    assert torch.allclose(both(INPUTS), model(INPUTS), atol=1e-5)          # attention does not mind the order of tokens
    first, second = both.both_stages(INPUTS)
    assert torch.allclose(second, model(INPUTS), atol=1e-5) and not torch.allclose(first, second, atol=1e-2)


@torch.inference_mode()
def test_the_first_look_is_the_old_model_on_half_the_picture():
    model, looking = deit(), coarse_to_fine(deit(), 0.0)
    half = F.avg_pool2d(INPUTS, 2)
    places = F.avg_pool2d(model.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (4, 4)), 2).flatten(2).transpose(1, 2)
    tokens = model.patch_embed.proj(half).flatten(2).transpose(1, 2) + places
    tokens = torch.cat([(model.cls_token + model.pos_embed[:, :1]).expand(4, -1, -1), tokens], dim=1)
    assert torch.allclose(looking(INPUTS), model.head(model.norm(model.blocks(tokens))[:, 0]), atol=1e-5)


@torch.inference_mode()
def test_regions_matter_by_a_running_mean_from_zero_that_leaves_out_the_first_quarter_of_blocks(monkeypatch):
    looking = coarse_to_fine(lab(depth=4), 1.0)
    rows = [torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.5, 0.1, 0.1, 0.1]]),
            torch.tensor([[0.2, 0.1, 0.5, 0.1, 0.1]]), torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0]])]
    for block, row in zip(looking.blocks, rows, strict=True):
        monkeypatch.setattr(block, "forward", lambda tokens, row=row: (tokens, row))
    # 0.99^2 * 0.01 second + 0.99 * 0.01 third + 0.01 fourth (ChenMnZ/CF-ViT: beta 0.99, blocks 3 to 11 of 0 to 11)
    wanted = [0.009801 * 0.5 + 0.0099 * 0.1, 0.009801 * 0.1 + 0.0099 * 0.5, 0.009801 * 0.1 + 0.0099 * 0.1 + 0.01,
              0.009801 * 0.1 + 0.0099 * 0.1]
    assert torch.allclose(looking.coarse_stage(INPUTS[:1])[1], torch.tensor([wanted]), atol=1e-7)


@torch.inference_mode()
def test_reuse_adds_nothing_at_first_and_then_to_all_four_patches_of_a_region_what_its_coarse_token_says():
    model = lab()
    plain, looking = coarse_to_fine(model, 1.0), coarse_to_fine(model, 1.0, reuse=True)
    assert torch.equal(plain(INPUTS), looking(INPUTS))
    torch.manual_seed(1)
    torch.nn.init.normal_(looking.reuse[1].fc2.weight)
    seen = looking.coarse_stage(INPUTS)[2]
    added = looking.fine_tokens(INPUTS, seen) - plain.fine_tokens(INPUTS, seen)
    side = 2 * int(seen.shape[1]**0.5)               # the authors lay it on a map and enlarge that, nearest neighbour
    grid = looking.reuse(seen).transpose(1, 2).unflatten(2, (side // 2, side // 2))
    enlarged = F.interpolate(grid, (side, side), mode="nearest").flatten(2).transpose(1, 2)
    assert torch.allclose(added, by_region(enlarged).flatten(2), atol=1e-5) and added.abs().max() > 0.1


def test_labels_teach_the_fine_look_and_the_fine_look_teaches_the_coarse_one():
    looking, labels = coarse_to_fine(lab(), 1.0, reuse=True).train(), torch.arange(4)
    coarse, fine = looking.both_stages(INPUTS)
    loss, logits, terms = CoarseToFineObjective()(looking, Batch(INPUTS, labels, torch.arange(4)))
    wanted = fine.softmax(1)
    assert torch.allclose(terms["labels"], F.cross_entropy(fine, labels), atol=1e-5)
    assert torch.allclose(terms["coarse"], (wanted * (wanted.log() - coarse.log_softmax(1))).sum(1).mean(), atol=1e-5)
    assert torch.allclose(loss, terms["labels"] + terms["coarse"]) and torch.allclose(logits, fine, atol=1e-5)
    answers = coarse.detach().requires_grad_(), fine.detach().requires_grad_()
    looking.both_stages = lambda images: answers
    CoarseToFineObjective()(looking, Batch(INPUTS, labels, torch.arange(4)))[2]["coarse"].backward()
    assert answers[0].grad is not None and answers[1].grad is None          # the teacher does not learn from its pupil


@torch.inference_mode()
def test_who_is_sure_leaves_the_batch_and_the_rest_answers_as_alone():
    looking = coarse_to_fine(lab(), 1.0)
    first, second = looking.both_stages(INPUTS)
    sure = first.softmax(-1).amax(-1)
    looking.threshold, batches = sure.sort().values[2].item(), []
    looking.blocks[0].register_forward_pre_hook(lambda _module, given: batches.append(tuple(given[0].shape[:2])))
    unsure = sure < looking.threshold
    assert torch.allclose(looking(INPUTS), torch.where(unsure[:, None], second, first), atol=1e-5)
    assert batches == [(4, 1 + 4), (2, 1 + 2 * 4 + 2)]
    assert torch.allclose(looking(INPUTS[:1]), looking(INPUTS)[:1], atol=1e-5)


def test_a_threshold_that_nothing_reaches_costs_both_looks_and_zero_only_the_first():
    macs = [profiling.count(coarse_to_fine(lab(), threshold), (3, 16, 16)) for threshold in (0.0, 1.0)]
    assert macs[0].uncounted == macs[1].uncounted == {} and macs[0].macs < profiling.count(lab(), (3, 16, 16)).macs / 2
    assert macs[1].macs > 2 * macs[0].macs


@pytest.mark.parametrize("reuse", [False, True])
def test_it_trains_comes_back_from_a_file_and_leaves_the_old_model_alone(tmp_path, reuse):
    model = lab()
    before, looking = copy.deepcopy(model.state_dict()), coarse_to_fine(model, 0.5, reuse=reuse)
    sum(logits.square().sum() for logits in looking.train().both_stages(INPUTS)).backward()
    assert all(value.grad is not None for value in looking.parameters())
    assert {name for name in looking.state_dict() if not name.startswith("reuse.")} == set(before)
    checkpoint.save(looking.eval(), tmp_path / "looking.safetensors")
    with torch.no_grad():
        assert torch.equal(checkpoint.load(tmp_path / "looking.safetensors")(INPUTS), looking(INPUTS))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("make, given, words", [
    (lab, {"threshold": 1.5}, "0 <= threshold <= 1"), (lab, {"reuse": 2}, "reuse=2"), (lab, {"keep_ratio": 0}, "0 < keep_ratio <= 1"),
    (lambda: lab(image_size=12), {}, "two by two"), (lambda: lab(distilled=True), {}, "one class token"),
    (lambda: deit(class_token=False, global_pool="avg"), {}, "one class token"),
])
def test_what_does_not_fit_is_refused(make, given, words):
    with pytest.raises(LabError, match=words):
        coarse_to_fine(make(), **{"threshold": 0.5, **given})


@pytest.mark.parametrize("how", [{"dynamic_img_size": True}, {"dynamic_img_pad": True},
                                 {"dynamic_img_size": True, "dynamic_img_pad": True}])
def test_models_for_pictures_of_any_size_are_refused_when_made(how):
    model = models.create_model("vit_tiny_patch16_224", img_size=64, patch_size=16, embed_dim=48, depth=2, num_heads=3, **how)
    with pytest.raises(LabError, match="coarse_to_fine: this VisionTransformer takes pictures of any size"):
        coarse_to_fine(model, 0.7)
