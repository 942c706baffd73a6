"""The live box without a front end: values are set as a browser would set them, outputs read."""

import io
import re

import pytest
import torch
from PIL import Image
from uploading import choose, is_empty

from lightvit_lab import data, models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import class_attention, record_attention, relevance_map
from lightvit_lab.widgets import attention_explorer

PICTURES = data.load("shapes", "test", count=3)
FINDING = "Early blocks look around themselves, later ones further."


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = models.create_model("lab_vit_student").eval()
    with torch.no_grad():                         # fresh weights look evenly; these do not
        for block in made.blocks:
            block.attn.qkv.weight.mul_(6)
    return made


@pytest.fixture
def box(model):
    return attention_explorer(model, PICTURES, {"class attention": class_attention})


def recorded(model, picture):
    with torch.no_grad(), record_attention(model) as maps:
        logits = model(PICTURES.inputs[picture:picture + 1])
    return maps, logits


def encoded(picture, kind="PNG", **settings):
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def test_the_box_says_weight_and_place_as_recorded_for_what_is_chosen(model, box):
    box.picture.value, box.block.value, box.head.value = 1, 2, 3
    box.class_token.value, box.row.value, box.column.value = False, 6, 1
    row = recorded(model, 1)[0][2][0, 3, 1 + 6 * 8 + 1]
    best = int(row[1:].argmax())
    found = re.search(r"block 2, head 3: the patch at row 6, column 1 looks most at row (\d), column (\d): ([\d.]+), "
                      r"([\d.]+) times a fair share", box.summary.value)
    assert found and (int(found[1]), int(found[2])) == divmod(best, 8), box.summary.value
    assert float(found[3]) == pytest.approx(row[1 + best].item(), abs=0.006)
    assert float(found[4]) == pytest.approx(65 * row[1 + best].item(), rel=0.02, abs=0.06)


def test_the_answer_is_the_models_own_with_its_probability(model, box):
    box.picture.value = 2
    probability, label = recorded(model, 2)[1].softmax(-1)[0].max(0)
    assert f"The model says {PICTURES.class_names[label]}, with probability {probability.item():.0%}." in box.summary.value


def test_every_change_is_drawn_and_looking_back_runs_the_model_no_more(model, box):
    runs, drawings = [], [box.drawing.value]
    handle = model.register_forward_pre_hook(lambda *_: runs.append(1))
    for part, value in ((box.block, 0), (box.head, 1), (box.class_token, False), (box.row, 0), (box.column, 0),
                        (box.method, "rollout"), (box.method, "relevance")):
        part.value = value
        drawings.append(box.drawing.value)
    assert len(set(drawings)) == len(drawings) and not runs
    box.picture.value = 1
    first = len(runs)
    box.picture.value = 0
    box.picture.value = 1
    handle.remove()
    assert len(runs) == first > 0


def test_the_data_table_shows_the_chosen_map_on_demand(model, box):
    assert box.values.value == ""
    box.block.value, box.head.value, box.table.value = 0, 2, True
    cells = torch.tensor([float(cell) for cell in re.findall(r"<td>([^<]+)</td>", box.values.value)])
    assert cells.allclose(recorded(model, 0)[0][0][0, 2, 0, 1:], atol=0.0055)


def test_choices_that_a_method_does_not_have_are_switched_off(box):
    assert not box.block.disabled and box.row.disabled
    box.method.value = "class attention"
    assert box.block.disabled and box.head.disabled and box.class_token.disabled and "is highest at" in box.summary.value
    box.method.value, box.class_token.value = "rollout", False
    assert box.head.disabled and not box.row.disabled and "rests most on" in box.summary.value


def test_an_own_picture_is_turned_upright_cut_to_its_centre_and_normalised(model, box):
    wide = Image.new("RGB", (300, 100), "blue")                 # its middle third: red on the left, green on the right
    wide.paste("red", (100, 0, 150, 100))
    wide.paste("lime", (150, 0, 200, 100))
    exif = Image.Exif()
    exif[0x0112] = 3                                                # lies upside down: turn by half
    choose(box.upload, ("own.jpg", encoded(wide, "JPEG", quality=95, exif=exif)))
    assert box.picture.value == 3 and box.picture.label == "3: own.jpg" and is_empty(box.upload)
    image = box.album.images[3]
    assert image.shape == (3, 32, 32) and image[:, 16, 4].argmax() == 1 and image[:, 16, 28].argmax() == 0
    inputs = (image[None] - PICTURES.mean.view(1, 3, 1, 1)) / PICTURES.std.view(1, 3, 1, 1)
    with torch.no_grad():
        expected = model(inputs).softmax(-1).max().item()
    assert f"with probability {expected:.0%}" in box.summary.value


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_grey_and_see_through_pictures_of_any_size_are_welcome(box, kind):
    choose(box.upload, ("a", encoded(Image.new("RGBA", (7, 90), (9, 9, 9, 99)), kind)),
           ("b", encoded(Image.new("L", (500, 33), 200), kind)))
    assert box.picture.label == "4: b" and box.message.value == "" and box.album.images.shape[0] == 5


def test_a_broken_file_is_a_message_in_the_box_and_whole_ones_beside_it_are_taken(box):
    whole = encoded(Image.new("RGB", (50, 50), "red"))
    choose(box.upload, ("<torn>.png", whole[:60]), ("empty.png", b""), ("whole.png", whole))
    assert "&lt;torn&gt;.png cannot be read as a picture" in box.message.value and "empty.png" in box.message.value
    assert box.picture.label == "3: whole.png" and len(box.picture.options) == 4
    box.picture.value = 0
    assert box.message.value == ""


def test_a_picture_that_unpacks_to_gigabytes_is_a_message_in_the_box(box):
    bomb = encoded(Image.new("1", (13_312, 13_312)))
    assert len(bomb) < 2**20
    choose(box.upload, ("bomb.png", bomb))
    assert "bomb.png cannot be read as a picture (it has 13312 x 13312 pixels" in box.message.value
    assert len(box.picture.options) == 3


def test_an_explainer_that_fails_is_a_message_too(model):
    def fails(*_):
        raise RuntimeError("no <gradient>")
    box = attention_explorer(model, PICTURES, {"failing": fails, "of other size": lambda *_: torch.ones(2, 8, 8)})
    box.method.value = "failing"
    assert "failing: no &lt;gradient&gt;" in box.message.value
    box.method.value = "of other size"
    assert "has shape (2, 8, 8)" in box.message.value
    box.method.value = "rollout"
    assert box.message.value == ""


def test_the_static_twin_has_the_maps_of_the_recorder(model, box):
    twin = box.static(FINDING, count=2).atlas
    assert list(twin.methods) == ["attention", "rollout", "relevance", "class attention"] and len(twin.images) == 2
    maps = recorded(model, 1)[0]
    assert twin.methods["attention"].values[1, 3, 2, 9].flatten().allclose(maps[3][0, 2, 9, 1:], atol=1e-5)
    with pytest.raises(LabError, match="count=4"):
        box.static(FINDING, count=4)
    with pytest.raises(LabError, match="finding"):
        box.static("")


def test_models_without_one_square_map_a_head_need_explainers_and_work_with_them():
    light = models.create_model("lab_lightvit").eval()
    with pytest.raises(LabError, match="give explainers"):
        attention_explorer(light, PICTURES)
    net = models.create_model("lab_cnn").eval()
    box = attention_explorer(net, PICTURES, {"bright": lambda _, inputs, __: inputs.mean(1)})
    assert box.method.options == ("bright",) and box.message.value == ""
    assert "bright is highest at row" in box.summary.value


def test_a_model_without_class_token_starts_from_its_middle_patch():
    box = attention_explorer(models.create_model("lab_cct").eval(), PICTURES)
    assert box.class_token.disabled and not box.class_token.value and "the patch at row" in box.summary.value


def test_every_control_has_a_label(box):
    controls = [part for part in box.children[0].children] + [box.table]
    assert len(controls) == 9 and all(part.description for part in controls)


@pytest.mark.parametrize("pictures, explainers, expected", [
    (PICTURES.images[:2], None, "pictures=Tensor"), (PICTURES.images, None, "pictures=OnDemand"),
    (PICTURES, {"rollout": class_attention}, "explainers rollout"),
    (PICTURES, {"none": None}, "explainers none")])
def test_what_the_box_cannot_show_is_refused(model, pictures, explainers, expected):
    with pytest.raises(LabError, match=expected):
        attention_explorer(model, pictures, explainers)


@pytest.mark.parametrize("settings, options", [
    ({"class_token": False, "global_pool": "avg", "reg_tokens": 3}, ("attention", "rollout", "relevance")),
    ({"global_pool": "avg", "reg_tokens": 2}, ("attention", "rollout", "relevance")), ({"reg_tokens": 2}, None)])
def test_the_box_has_the_maps_of_what_the_head_reads_where_that_is_no_class_token(settings, options):
    torch.manual_seed(0)
    made = models.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10, **settings)
    box = attention_explorer(made.eval(), PICTURES)
    if options is None:         # the class token is read: nothing is added, and the registers stay extra tokens
        assert box.method.options == ("attention", "rollout", "relevance") and box.class_token.value
        return
    assert box.method.options == (*options, "rollout of the head", "relevance of the head")
    assert box.class_token.disabled == (not settings.get("class_token", True))
    box.method.value = "relevance of the head"
    expected, target = made(PICTURES.inputs[:1]).argmax(1), box.album
    found = target.atlas(0, "relevance of the head").methods["relevance of the head"].values[0, 0, 0, 0]
    assert torch.allclose(found, relevance_map(made, PICTURES.inputs[:1], expected)[0], atol=1e-5)
    assert "relevance of the head is highest at" in box.summary.value
    box.method.value = "attention"
    assert not box.message.value and box.static("where this model looks today")


def test_a_model_in_half_precision_has_a_box():
    box = attention_explorer(models.create_model("lab_vit_student").bfloat16(), PICTURES)
    assert not box.message.value and "The model says" in box.summary.value
