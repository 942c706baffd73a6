import pytest
import timm
import torch

from lightvit_lab import models
from lightvit_lab.errors import LabError


@pytest.mark.parametrize("name", models.names())
def test_every_lab_model_runs_and_is_registered_with_timm(name):
    pictures = torch.zeros(2, 3, 32, 32)
    assert models.create_model(name)(pictures).shape == (2, 1000 if name in models.PUBLISHED else 10)
    assert timm.is_model(name)
    assert timm.create_model(name, num_classes=7)(pictures).shape == (2, 7)


def test_timm_names_are_built_by_timm():
    assert isinstance(models.create_model("test_vit"), timm.models.VisionTransformer)


def test_unknown_names_suggest_the_closest():
    with pytest.raises(LabError, match='Did you mean "lab_vit"'):
        models.create_model("lab_vitt")


def test_unknown_arguments_are_named():
    with pytest.raises(LabError, match="create_model.'lab_vit'.*widht"):
        models.create_model("lab_vit", widht=3)


def test_weights_that_do_not_exist_are_not_silently_left_out():
    with pytest.raises(LabError, match="no weights are published"):
        timm.create_model("lab_vit", pretrained=True)
    with pytest.raises(LabError, match="give the file that the authors publish to checkpoint.import_official"):
        models.create_model("lightvit_tiny", pretrained=True)
