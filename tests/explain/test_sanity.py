import json
from functools import partial

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lightvit_lab import data, models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import edge_map, grad_cam, random_map, relevance_map, rollout_map, sanity, sanity_check


def student() -> nn.Module:
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.mul_(3.0 if "blocks" in name and weights.ndim > 1 else 1.0)
    return model


def shapes(count: int) -> torch.Tensor:
    return data.load("shapes", "test", count=count).inputs


def test_rank_correlation_is_scipy_s_also_with_ties():
    torch.manual_seed(0)
    one, other = torch.randint(0, 5, (4, 3, 7)).float(), torch.randn(4, 3, 7)
    found = sanity.rank_correlation(one, other)
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, other)]
    assert found.tolist() == pytest.approx(expected)
    assert sanity.rank_correlation(one, -one).tolist() == pytest.approx([-1.0] * 4)


def test_rank_correlation_of_constant_maps_is_defined():
    flat, other = torch.ones(1, 2, 2), torch.rand(1, 2, 2)
    assert sanity.rank_correlation(flat, other).item() == 0 and sanity.rank_correlation(flat, 0 * flat).item() == 1


@pytest.mark.parametrize("explainer", [edge_map, random_map(3)])
def test_a_map_that_knows_nothing_of_the_model_is_found_out(explainer):
    found = sanity_check(explainer, student(), shapes(3))
    assert found.unchanged and all(value == pytest.approx(1.0) for value in found.correlations.values())
    assert "does not depend on the weights (rank correlation 1.00 after all were drawn anew)" in str(found)
    assert str(found).startswith(explainer.__name__)


def test_relevance_changes_with_the_weights_and_says_so():
    found = sanity_check(relevance_map, student(), shapes(8))
    assert not found.unchanged and found.correlations["everything"] < 0.5
    assert str(found).startswith("relevance_map: depends on the weights")
    json.dumps(found.correlations)


def test_the_cascade_goes_from_the_head_through_the_blocks_to_everything():
    stages = list(sanity_check(edge_map, student(), shapes(1)).correlations)
    assert stages == ["head", "blocks.3", "blocks.2", "blocks.1", "blocks.0", "everything"]


def test_each_stage_draws_its_own_part_and_leaves_the_parts_before_it():
    model, states = student(), []

    def watcher(model: nn.Module, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        states.append(({key: tensor.clone() for key, tensor in model.state_dict().items()}, target))
        return torch.rand(len(inputs), 2, 2)

    with torch.no_grad():
        model.pos_embed.normal_()
    sanity_check(watcher, model, shapes(2))
    original, target = states[0]
    changed = [{key for key in state if not torch.equal(state[key], original[key])} for state, _ in states]
    assert "head.weight" in changed[1] and not any(key.startswith("blocks") for key in changed[1])
    assert "blocks.3.attn.qkv.weight" in changed[2] and not any(key.startswith("blocks.2") for key in changed[2])
    assert not any(key in changed[-2] for key in ("pos_embed", "cls_token", "patch_embed.proj.0.weight"))
    assert {"pos_embed", "cls_token", "patch_embed.proj.0.weight"} <= changed[-1]
    assert all(torch.equal(later, target) for _, later in states)
    with torch.no_grad():
        assert torch.equal(target, model.eval()(shapes(2)).argmax(1))


def test_a_map_of_the_blocks_alone_does_not_change_with_the_head():
    correlations = sanity_check(rollout_map, student(), shapes(2)).correlations
    assert correlations["head"] == pytest.approx(1.0) and correlations["blocks.0"] < 0.999


def test_the_model_and_the_random_state_stay_as_they_are_and_the_seed_repeats():
    model = student().train()
    before, state = {key: tensor.clone() for key, tensor in model.state_dict().items()}, torch.get_rng_state()
    first = sanity_check(grad_cam, model, shapes(2), target=3, seed=4)
    assert torch.equal(state, torch.get_rng_state()) and model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    torch.rand(5)
    assert sanity_check(grad_cam, model, shapes(2), target=3, seed=4).correlations == first.correlations
    assert sanity_check(grad_cam, model, shapes(2), target=3, seed=5).correlations != first.correlations


def test_bare_parameters_keep_their_mean_and_spread_and_lose_their_values():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.values = nn.Parameter(torch.randn(5000) * 2 + 3)

    torch.manual_seed(0)
    table = Table()
    before = table.values.detach().clone()
    sanity.draw_anew(table)
    assert table.values.mean().item() == pytest.approx(before.mean().item(), abs=0.1)
    assert table.values.std().item() == pytest.approx(before.std().item(), abs=0.1)
    assert torch.corrcoef(torch.stack([table.values.detach(), before]))[0, 1].abs() < 0.05


@pytest.mark.parametrize("name, stages", [
    ("lab_cnn", ["head", "stages.2", "stages.1", "stages.0", "stem.1", "stem.0", "everything"]),
    ("lab_lightvit", ["head", "neck.1", "neck.0", "norm", "stages.1", "stages.0", "everything"]),
])
def test_other_models_have_stages_too_and_every_weight_is_drawn_at_the_end(name, stages):
    model = models.create_model(name)
    assert list(sanity.stages(model)) == stages
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(7.0)
    sanity.draw_anew(model)
    assert all((weights != 7.0).any() or "table" in key or "token" in key for key, weights in model.named_parameters())


def test_a_part_without_children_is_one_stage():
    assert list(sanity.stages(nn.Linear(2, 2))) == ["everything"]


def test_bad_input_is_refused():
    model = student()
    with pytest.raises(LabError, match="explainer is str"):
        sanity_check("edge_map", model, shapes(1))
    with pytest.raises(LabError, match="target 10 is out of range"):
        sanity_check(edge_map, model, shapes(1), target=10)
    with pytest.raises(LabError, match="sanity_check: .*: maps are list"):
        sanity_check(partial(lambda *given: [1]), model, shapes(1))
