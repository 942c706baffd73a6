"""What blocks remember of the last pass moves with their weights, so that nothing stays where a model has been."""

import pytest
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.dynamic.token_merging.diffrate import reduce_tokens
from lightvit_lab.dynamic.token_merging.merging import merge_tokens
from lightvit_lab.dynamic.token_merging.rates import rate_model
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.models.timm_parts import LastPass
from lightvit_lab.runtime.running import map_tensors


def remembered(model: nn.Module) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for module in model.modules():
        for shared in vars(module).values():
            if isinstance(shared, LastPass):
                map_tensors(vars(shared), lambda tensor: found.append(tensor) or tensor)
    return found


@pytest.mark.parametrize("name", ["merged", "reduced", "rates", "ats", "dynamicvit"])
def test_tensors_of_the_last_pass_go_where_the_model_goes(name):
    torch.manual_seed(0)
    whole = models.create_model("lab_vit", dim=32, depth=3)
    made = {"merged": lambda: merge_tokens(whole, 4), "reduced": lambda: reduce_tokens(whole, 2, 2), "rates": lambda: rate_model(whole)}
    model = made[name]() if name in made else prune_tokens(whole, 0.5, (1,), name)
    if name == "dynamicvit":
        model.train()
    model(torch.randn(2, 3, 32, 32))
    before = remembered(model)
    assert before and all(tensor.device.type == "cpu" for tensor in before)
    model.to("meta")
    assert all(tensor.device.type == "meta" for tensor in remembered(model))
