import pytest
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.training.optimizers import Muon, create_optimizers, orthogonalize, schedule_factor, step_all


def test_adamw_follows_torchs_plain_adamw():
    torch.manual_seed(0)
    ours, theirs = (nn.Linear(6, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    one = create_optimizers(ours, "adamw", 1e-2, 0.1)
    other = torch.optim.AdamW([{"params": [theirs.weight], "weight_decay": 0.1},
                               {"params": [theirs.bias], "weight_decay": 0.0}], lr=1e-2, foreach=False)
    inputs = torch.randn(5, 6)
    for _ in range(5):
        other.zero_grad()
        for layer in (ours, theirs):
            layer(inputs).square().sum().backward()
        step_all(one, 1e-2)
        other.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6) and torch.allclose(ours.bias, theirs.bias, atol=1e-6)


def test_muon_takes_hidden_matrices_and_leaves_the_rest_and_both_ends_to_adamw():
    model = models.create_model("lab_vit_student")
    muon, adamw = create_optimizers(model, "muon", 1e-3, 0.05)
    names = {id(value): name for name, value in model.named_parameters()}
    taken = {names[id(value)] for group in muon.param_groups for value in group["params"]}
    left = {names[id(value)] for group in adamw.param_groups for value in group["params"]}
    assert taken == {name for name, value in model.named_parameters()
                     if value.ndim == 2 and "blocks" in name or value.ndim == 4 and "proj.0" not in name}
    assert taken | left == set(names.values()) and not taken & left and {"head.weight", "pos_embed"} <= left


def test_heads_are_left_to_adamw_where_they_are_not_the_last_matrix():
    """A projector trained along, or the head of a distillation token, comes after them."""
    student = models.create_model("lab_vit_student", distilled=True)
    pair = nn.ModuleDict({"student": student, "projector": nn.Linear(64, 128)})
    alone, beside = (create_optimizers(model, "muon", 1e-3, 0.05)[0] for model in (student, pair))
    taken = [{id(value) for group in muon.param_groups for value in group["params"]} for muon in (alone, beside)]
    assert taken[0] == taken[1] and len(taken[0]) > 16
    assert not taken[0] & {id(student.head.weight), id(student.head_dist.weight), id(pair["projector"].weight)}


def test_orthogonalized_matrices_keep_their_directions_and_lose_their_stretch():
    torch.manual_seed(0)
    for shape in ((16, 40), (40, 16), (16, 16)):
        matrices = torch.stack([torch.randn(*shape), 1e3 * torch.randn(*shape)])     # one shall not scale the other
        for matrix, result in zip(matrices, orthogonalize(matrices)):
            left, _, right = torch.linalg.svd(matrix, full_matrices=False)
            turned = left.T @ result @ right.T                     # diagonal if the singular vectors are the same
            assert (turned - turned.diag().diag()).abs().max() < 1e-3
            assert 0.6 < turned.diag().min() and turned.diag().max() < 1.3


def test_matrices_of_one_shape_are_stepped_as_if_alone():
    torch.manual_seed(0)
    together = [nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(6, 2, 2)), nn.Parameter(torch.randn(4, 6))]
    alone = [nn.Parameter(value.detach().clone()) for value in together]
    optimizers = [Muon(together, 0.1, 0.1), *(Muon([value], 0.1, 0.1) for value in alone)]
    for _ in range(3):
        for value, other in zip(together, alone):
            value.grad = torch.randn_like(value)
            other.grad = value.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for value, other in zip(together, alone):
        assert torch.allclose(value, other, atol=1e-6)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_muon_follows_torchs_own():
    """Which computes in bfloat16: its steps differ from ours by about a hundredth of their size."""
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.zeros(24, 16)) for _ in range(2))
    one = Muon([ours], 0.1, 0.1)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(24, 16)
        for value, optimizer in ((ours, one), (theirs, other)):
            value.grad = gradient.clone()
            optimizer.step()
    assert (ours - theirs).norm() < 0.03 * theirs.norm()


def test_filters_are_stepped_as_matrices():
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(8, 4, 3, 3))
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    filters.grad = torch.randn(8, 4, 3, 3)
    matrix.grad = filters.grad.flatten(1)
    for value in (filters, matrix):
        Muon([value], 0.1, 0.0).step()
    assert torch.equal(filters.flatten(1), matrix)


def test_muon_says_when_the_model_has_no_use_for_it():
    with pytest.raises(LabError, match="hidden matrices, and Linear has none"):
        create_optimizers(nn.Linear(4, 2), "muon", 1e-3, 0.0)


def test_linear_schedule_falls_in_a_straight_line_to_zero():
    rates = [schedule_factor(step, 100, 0.2, "linear") for step in range(100)]
    assert rates[19] == rates[20] == 1.0 and rates[60] == pytest.approx(0.5) and rates[99] == pytest.approx(1 / 80)


TABLES = ("cls_token", "dist_token", "pos_embed", "reg_token", "global_token", "relative_position_bias_table",
          "attention_biases", "rel_pos", "latent", "gamma", "temperature", "pixel_pos", "patch_pos", "class_token")
OF_TIMM = {"vit_tiny_patch16_224": {"reg_tokens": 4}, "deit_tiny_distilled_patch16_224": {}, "beit_base_patch16_224":
           {"depth": 2}, "swin_tiny_patch4_window7_224": {"depths": (1, 1)}, "levit_128s": {}, "cait_xxs24_224":
           {"depth": 2}, "eva02_tiny_patch14_224": {"depth": 2}, "tnt_s_patch16_224": {"depth": 2}, "resnet18": {},
           "pit_ti_224": {}, "xcit_nano_12_p16_224": {"depth": 2},
           "vit_base_patch16_siglip_224": {"depth": 2}}


def handled(model):
    """Names that Muon takes, and names that are decayed."""
    names = {id(value): name for name, value in model.named_parameters()}
    muon, adamw = create_optimizers(model, "muon", 1e-3, 0.05)
    decayed = [group for group in adamw.param_groups if group["weight_decay"]]
    return [{names[id(value)] for group in groups for value in group["params"]} for groups in (muon.param_groups, decayed)]


@pytest.mark.parametrize("name", [*models.names(), *OF_TIMM])
def test_no_learned_table_of_any_model_goes_to_muon_or_into_weight_decay(name):
    model = models.create_model(name, **OF_TIMM.get(name, {}))
    known = {one for one, value in model.named_parameters()
             if value.ndim > 1 and any(part in one.rpartition(".")[2] for part in TABLES)}
    others = {one for one, value in model.named_parameters() if value.ndim > 1} - known
    muon, decayed = handled(model)
    assert not known & (muon | decayed) and muon | decayed == others
    assert known or name in ("lab_cnn", "resnet18", "pit_ti_224")


def test_tables_of_embeddings_parts_and_modules_of_ones_own_are_known_by_the_same_rule():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.table = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))

        def no_weight_decay(self):
            return {"table"}

    model = nn.Sequential(nn.Linear(3, 3), Part(), nn.Embedding(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    muon, decayed = handled(model)
    assert muon == {"0.weight", "1.matrix", "3.weight"} and decayed == {"4.weight"}
    twice = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(3, 3), nn.Linear(3, 2))
    twice[2].weight = twice[1].weight
    assert handled(twice)[0] == {"0.weight"}
