"""The box of whole-model views without a front end: values are set as a browser would set them, figures read."""

import io

import pytest
import torch
from PIL import Image
from uploading import choose, is_empty

from lightvit_lab import data, models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import attention_distance, record_attention, rollout
from lightvit_lab.widgets import attention_views, views

PICTURES = data.load("shapes", "test", count=2)


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(views, "show", found.append)
    return found


def recorded(model, picture):
    with torch.no_grad(), record_attention(model) as maps:
        model(PICTURES.inputs[picture:picture + 1])
    return list(maps)


def test_every_view_of_a_vit_draws_what_was_recorded_for_the_chosen_picture(shown):
    model = models.create_model("lab_vit_student").eval()
    box = attention_views(model, PICTURES)
    box.picture.value = 1
    maps = recorded(model, 1)
    sheet = box.figure.data[1].z                                   # maps of 8 x 8 with a free row and column between
    assert sheet[9 * 2 + 3][9 * 1 + 5] == pytest.approx(65 * maps[2][0, 1, 0, 1 + 3 * 8 + 5].item(), abs=1e-3)
    box.view.value = "rollout by depth"
    assert box.figure.data[-1].z[7][2] == pytest.approx(65 * rollout(maps)[0, 0, 1 + 58].item(), abs=1e-3)
    box.view.value = "attention distance"
    assert box.figure.data[1].y == pytest.approx(attention_distance(maps).mean(1).tolist(), abs=1e-3)
    assert shown[-1] is box.figure and len(shown) == 4 and model.blocks[0].attn.fused


def test_light_vit_shows_what_its_global_tokens_take_and_hand_back(shown):
    model = models.create_model("lab_lightvit").eval()
    box = attention_views(model, PICTURES)
    blocks = recorded(model, 0)
    assert list(box.view.options) == [f"global tokens, block {index}" for index, part in enumerate(blocks)
                                      if "aggregation" in part]
    takes = blocks[0]["aggregation"].mean(1)[0, 0] * blocks[0]["aggregation"].shape[-1]
    heat = next(trace for trace in box.figure.data if trace.type == "heatmap")
    assert heat.z[0][1] == pytest.approx(takes[1].item(), abs=2e-3)


def test_a_picture_of_ones_own_is_shown_and_a_broken_file_is_a_message(shown):
    box = attention_views(models.create_model("lab_vit_student").eval(), PICTURES)
    file = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(file, "PNG")
    choose(box.upload, ("red.png", file.getvalue()))
    assert box.picture.label == "2: red.png" and is_empty(box.upload) and box.message.value == ""
    assert (box.figure.data[0].z[0][0] == [255, 0, 0]).all()
    before = len(shown)
    choose(box.upload, ("broken.png", b"no picture"))
    assert "broken.png cannot be read" in box.message.value and len(shown) == before


def test_without_pictures_or_attention_there_is_no_box():
    with pytest.raises(LabError, match="no pictures"):
        attention_views(models.create_model("lab_vit_student"), [])
    with pytest.raises(LabError, match="no attention that can be read"):
        attention_views(models.create_model("lab_cnn"), PICTURES)


@pytest.mark.parametrize("settings, read", [
    ({"class_token": False, "global_pool": "avg", "reg_tokens": 3}, slice(3, None)),
    ({"global_pool": "avg"}, slice(1, None)), ({}, slice(0, 1)),
    ({"class_token": False, "global_pool": "avg"}, slice(None))])
def test_the_gallery_draws_the_rows_of_the_tokens_that_the_head_reads(settings, read):
    torch.manual_seed(0)
    made = models.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, num_classes=10, **settings)
    pictures = data.load("shapes", "test", count=1)
    with torch.no_grad(), record_attention(made.eval()) as maps:
        made(pictures.inputs)
    prefix = maps[0].shape[-1] - 16
    row = maps[0][0, 1, read].mean(0)[prefix:].view(4, 4) * maps[0].shape[-1]      # head 1, in fair shares
    box = attention_views(made, pictures)
    box.view.value = "all heads"
    sheet = next(trace for trace in box.figure.data if trace.type == "heatmap").z
    found = torch.tensor([list(line[5:9]) for line in sheet[:4]])                  # one column between heads of four
    assert torch.allclose(found, row, atol=0.001)
