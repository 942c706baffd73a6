"""DynamicViT: the official numbers, masks that do what dropping does afterwards, and a loss that teaches."""

import copy
import weakref

import numpy
import pytest
import torch
from drawn_weights import fill, pictures
from small_vits import INPUTS, lab, reference
from torch import nn

from lightvit_lab import data, models, profiling
from lightvit_lab.dynamic.token_pruning import dynamicvit
from lightvit_lab.dynamic.token_pruning.dynamicvit import (
    DynamicViTObjective, Predictor, fine_tune, kept_token_loss, masked_softmax, predictors, ratio_loss)
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.errors import LabError
from lightvit_lab.training import Batch


def official_predictors(dim: int, count: int) -> nn.ModuleList:
    """Predictors with the weights that the official names draw."""
    holder = nn.Module()
    holder.score_predictor = nn.ModuleList(Predictor(dim) for _ in range(count))
    return fill(holder).score_predictor


@torch.inference_mode()
def test_deit_tiny_says_what_the_official_dynamicvit_says():
    wanted = reference("dynamicvit")["model"]
    model = prune_tokens(fill(models.create_model("deit_tiny_patch16_224")), wanted["keep_ratio"], wanted["layers"],
                         "dynamicvit")
    for block, predictor in zip(predictors(model), official_predictors(192, 3), strict=True):
        block.predictor.load_state_dict(predictor.state_dict())
    logits = model(pictures(wanted["input"]["seed"], *wanted["input"]["shape"]))
    assert torch.allclose(logits[:, :10], torch.tensor(wanted["logits_first10"]), atol=1e-4)
    counted = profiling.count(model)
    assert (counted.params, counted.macs, counted.uncounted) == (wanted["params"], wanted["macs"], {})


def test_predictor_and_masked_softmax_are_the_official_ones():
    wanted, random = reference("dynamicvit"), numpy.random.RandomState
    kept = torch.from_numpy(random(1).rand(2, 49, 1) > 0.3).float()
    found = fill(Predictor(48))(pictures(0, 2, 49, 48), kept)[..., 0]
    assert torch.allclose(found, torch.tensor(wanted["predictor"]["keep_log_probability"]), atol=2e-5)
    kept = torch.from_numpy(random(11).rand(2, 17, 1) > 0.4).float()
    kept[:, 0] = 1
    weights = masked_softmax(2 * pictures(10, 2, 3, 17, 17), kept[:, None, None, :, 0])
    assert torch.allclose(weights[:, :, 5], torch.tensor(wanted["masked_softmax"]["row_5"]), atol=1e-6)


def test_masks_in_training_do_what_dropping_does_afterwards(monkeypatch):
    whole = lab(embedding="patch")                 # whose stem does not see in train mode what it does not see later
    model = prune_tokens(whole, [0.75, 0.5], (0, 1), "dynamicvit")
    counts, left = [block.count for block in predictors(model)] * 2, []

    def take_the_best(logits, hard):
        allowed = left[-1] if left else torch.ones_like(logits[..., 0])
        scores = logits[..., 0].masked_fill(allowed == 0, -torch.inf)
        left.append(torch.zeros_like(scores).scatter(1, scores.topk(counts[len(left)], dim=1).indices, 1.0))
        return torch.stack([left[-1], 1 - left[-1]], dim=-1)

    monkeypatch.setattr(dynamicvit.F, "gumbel_softmax", take_the_best)
    with torch.no_grad():
        trained = copy.deepcopy(model).train()(INPUTS)
        assert [int(mask.sum()) for mask in left] == [4 * 12, 4 * 6]
        apart = (trained - model(INPUTS)).abs().max()       # the published softmax adds a little to what it masks
        assert apart < 5e-4 < 0.1 < (trained - whole(INPUTS)).abs().max()


def test_losses_are_those_worked_out_by_hand():
    masks = [torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1]]), torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]])]
    assert ratio_loss(masks, [0.5, 0.5]).item() == pytest.approx((0 + 0.25 + 0.0625 + 0) / 4)
    tokens = torch.tensor([[[9.0, 9], [1, 2], [3, 4]]])
    assert kept_token_loss(tokens, torch.zeros(1, 3, 2), torch.tensor([[0.0, 1]]), 1).item() == pytest.approx(12.5)


def test_the_divergence_from_the_teacher_is_a_sum_over_classes_and_a_mean_over_pictures():
    teacher = lab()
    model = prune_tokens(lab(), 0.7, (0, 1), "dynamicvit").train()
    with torch.no_grad():
        teacher.head.bias.add_(torch.linspace(-1, 1, 10))
    _, logits, terms = DynamicViTObjective(teacher, kl=0.5)(model, Batch(INPUTS, torch.arange(4), torch.arange(4)))
    with torch.no_grad():
        wanted, found = teacher(INPUTS).double().softmax(-1).numpy(), logits.double().softmax(-1).numpy()
    divergences = [sum(p * numpy.log(p / q) for p, q in zip(*rows)) for rows in zip(wanted, found)]
    assert terms["kl"].item() == pytest.approx(0.5 * sum(divergences) / 4, rel=1e-4) and min(divergences) > 1e-3


def test_every_term_has_its_weight_and_gradients_reach_each_predictor():
    teacher = lab()
    model = prune_tokens(teacher, 0.7, (0, 1), "dynamicvit").train()
    loss, logits, terms = DynamicViTObjective(teacher)(model, Batch(INPUTS, torch.arange(4), torch.arange(4)))
    assert list(terms) == ["labels", "ratio", "kl", "tokens"]
    assert sum(terms.values()).item() == pytest.approx(loss.item())
    masks = predictors(model)[0].decisions.masks
    assert len(masks) == 2 and bool((masks[1] <= masks[0]).all())                       # who is gone stays gone
    assert terms["ratio"].item() == pytest.approx(2 * ratio_loss(masks, [0.7, 0.49]).item())
    loss.backward()
    assert all(block.predictor.in_conv[1].weight.grad.abs().sum() > 0 for block in predictors(model))


def test_the_terms_count_by_the_published_weights():
    """DynamicViT's code: ratio_weight=2, and 0.5 for both terms of distillation; each beside its term alone."""
    teacher, found = lab(), []
    with torch.no_grad():
        teacher.head.bias.add_(torch.linspace(-1, 1, 10))
    model, batch = prune_tokens(lab(), 0.7, (0, 1), "dynamicvit").train(), Batch(INPUTS, torch.arange(4), torch.arange(4))
    for objective in (DynamicViTObjective(teacher), DynamicViTObjective(teacher, ratio=1, kl=1, tokens=1)):
        torch.manual_seed(0)                           # the same tokens are kept
        found.append({name: term.item() for name, term in objective(model, batch)[2].items()})
    weights = {"labels": 1, "ratio": 2, "kl": 0.5, "tokens": 0.5}
    assert found[0] == pytest.approx({name: weight * found[1][name] for name, weight in weights.items()}, rel=1e-4)
    assert min(found[1].values()) > 0


def test_fine_tuning_moves_the_share_kept_to_its_goal():
    torch.manual_seed(0)
    teacher = lab(dim=16, depth=2)
    model = prune_tokens(teacher, 0.9, (1,), "dynamicvit")
    history = fine_tune(model, teacher, data.load("shapes", image_size=16, count=64), steps=40, batch_size=16, lr=1e-2,
                        kl=0.0, tokens=0.0, progress=False, threads=1, precision="float32", attention="fused")
    ratio = history.terms["ratio"]              # 2 (0.5 - 0.9)^2 at first
    assert sum(ratio[:4]) / 4 > 0.2 and sum(ratio[-4:]) / 4 < 0.08, (ratio[:4], ratio[-4:])


def test_no_training_step_is_kept_alive_by_the_finished_model():
    teacher = lab(dim=16, depth=2)
    model = prune_tokens(teacher, 0.7, (0, 1), "dynamicvit")
    held = predictors(model)[0].decisions
    fine_tune(model, teacher, data.load("shapes", image_size=16, count=16), steps=2, batch_size=8, progress=False, threads=1,
              precision="float32", attention="fused")
    assert held.masks == []
    for looked in (lambda: model.eval(), lambda: [setattr(part, "training", False) for part in model.modules()]):
        step = model.train()(INPUTS)
        alive = [weakref.ref(mask) for mask in held.masks]
        assert len(alive) == 2 and all(mask().requires_grad for mask in alive)      # a loss may still ask for them
        step.sum().backward()
        del step
        looked()
        model(INPUTS)
        assert held.masks == [] and all(mask() is None for mask in alive)


def test_a_model_without_predictors_is_refused_before_training():
    with pytest.raises(LabError, match='method="dynamicvit"'):
        fine_tune(lab(), lab(), data.load("shapes", image_size=16, count=8), steps=1)
