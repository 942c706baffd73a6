import pytest
import torch

from lightvit_lab import data
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import faults


def _symptoms(fault: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = faults.build(fault, patch_size=8, embedding="patch")
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.15)      # untrained, but not so flat that nothing shows
    return faults.symptoms(model, data.load("digits", "test", count=64))


SYMPTOMS = {fault: _symptoms(fault) for fault in faults.FAULTS}


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_rows_sum_to_one_unless_the_softmax_axis_is_wrong(fault):
    spread = SYMPTOMS[fault]["row_sum_high"] - SYMPTOMS[fault]["row_sum_low"]
    assert (spread > 0.1) == (fault == "wrong axis")


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_shuffled_patches_give_other_logits_unless_positions_are_missing(fault):
    torch.manual_seed(0)
    model, inputs = faults.build(fault, patch_size=8, embedding="patch").eval(), data.load("digits", count=16).inputs
    if fault != "no position":
        torch.nn.init.normal_(model.pos_embed)
    with torch.no_grad():
        same = torch.allclose(model(inputs), model(faults.ShufflePatches(8)(inputs)), atol=1e-4)
    assert same == (fault == "no position")


def test_a_missing_scale_makes_logits_larger_and_rows_more_peaked():
    assert SYMPTOMS["no scale"]["largest_logit"] > 2 * SYMPTOMS["healthy"]["largest_logit"]
    assert SYMPTOMS["no scale"]["entropy"] < SYMPTOMS["healthy"]["entropy"]


def test_shuffling_moves_patches_and_loses_no_pixel():
    pictures = torch.arange(2 * 3 * 16 * 16.0).view(2, 3, 16, 16)
    shuffled = faults.ShufflePatches(8)(pictures)
    assert not torch.equal(shuffled, pictures)
    assert torch.equal(shuffled.flatten().sort().values, pictures.flatten())


def test_patients_are_the_faults_and_unknown_ones_are_refused():
    assert sorted(faults.PATIENTS.values()) == sorted(set(faults.FAULTS) - {"healthy"})
    with pytest.raises(LabError, match='Did you mean "no scale"'):
        faults.build("no scal")
