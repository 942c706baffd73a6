"""Pictures that are no squares: 3 x 5 patches through every model and transform, against what needs no grid."""

import pytest
import torch
from any_grid import KINDS, inputs_of, made, relaid, resized, turned
from drawn_weights import pictures

from lightvit_lab import checkpoint, data, models, profiling, training
from lightvit_lab.compression.low_rank import factors as low_rank, attention as low_rank_attention
from lightvit_lab.compression.pruning import pruners as pruning, unstructured as sparsity
from lightvit_lab.dynamic.early_exit import block_skipping, exits as early_exit, token_halting
from lightvit_lab.dynamic.token_pruning import coarse_fine, pruning as token_pruning
from lightvit_lab.dynamic.token_merging import diffrate, merging as token_merging
from lightvit_lab.dynamic.token_pruning.choosing import kept_patches
from lightvit_lab.errors import LabError
from lightvit_lab.profiling.estimates import estimate_vit


def set_of(size=(12, 20), count=32):
    """Pictures of which the left half is bright, and those of which the right half is."""
    pixels = torch.randint(0, 100, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 2
    half = size[1] // 2
    for picture, label in zip(pixels, labels.tolist()):
        picture[..., label * half:(label + 1) * half] += 100
    return data.Pictures("made up", "train", pixels, labels, tuple("lr"), torch.full((3,), 0.4), torch.full((3,), 0.3))


TRANSFORMS = {
    "merge": lambda model, seen: token_merging.merge_tokens(model, 2),
    "merge, restored": lambda model, seen: token_merging.merge_tokens(model, 2, mode="prune", restore=True),
    "merge, clusters": lambda model, seen: token_merging.merge_tokens(model, 2, matching="clusters"),
    "reduce": lambda model, seen: diffrate.reduce_tokens(model, 1, 1),
    "evit": lambda model, seen: token_pruning.prune_tokens(model, 0.6, (1,)),
    "topk": lambda model, seen: token_pruning.prune_tokens(model, 0.6, (1,), method="topk"),
    "dynamicvit": lambda model, seen: token_pruning.prune_tokens(model, 0.6, (1,), method="dynamicvit"),
    "ats": lambda model, seen: token_pruning.prune_tokens(model, 0.6, (1,), method="ats"),
    "ats, padded": lambda model, seen: token_pruning.prune_tokens(model, 0.6, (1,), method="ats", lengths="padded"),
    "halting": lambda model, seen: token_halting.add_halting(model, 0.3, 0.4),
    "exits": lambda model, seen: early_exit.add_exits(model, [1]),
    "lgvit exits": lambda model, seen: early_exit.add_exits(model, [1], head="lgvit"),
    "skipping": lambda model, seen: block_skipping.add_skipping(model, [1]),
    "mlp": lambda model, seen: pruning.prune_mlp(model, 0.5, "activation", seen),
    "heads": lambda model, seen: pruning.prune_heads(model, 0.34),
    "head width": lambda model, seen: pruning.prune_head_width(model, 0.5),
    "embedding": lambda model, seen: pruning.prune_embedding(model, 0.25),
    "blocks": lambda model, seen: pruning.prune_blocks(model, 0.34),
    "weights": lambda model, seen: sparsity.prune_weights(model, 0.5, "wanda", seen),
    "factors": lambda model, seen: low_rank.factorize(model, 6, calibration=seen),
    "linformer": lambda model, seen: low_rank_attention.replace_attention(model, "linformer", 6),
    "nystrom": lambda model, seen: low_rank_attention.replace_attention(model, "nystrom", 6),
}


def transformed(name, model, seen):
    torch.manual_seed(0)            # parts that are added begin with drawn weights
    return TRANSFORMS[name](model, seen).eval()


BY_CLASS_TOKEN = ("reduce", "evit", "ats", "ats, padded", "topk", "halting", "lgvit exits")
FITTING = [(kind, name) for kind in ("patches", "timm", "timm, registers") for name in TRANSFORMS
           if kind != "timm, registers" or name not in BY_CLASS_TOKEN]      # its head reads the mean


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_picture_turned_says_the_same_to_a_model_turned_so_that_height_comes_first(kind):
    images, model = inputs_of(kind), made(kind)
    torch.testing.assert_close(turned(kind)(images.mT), model(images), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(images), model(images.flip(-1)), atol=1e-3)       # places do count


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("lab_cnn", "lab_lightvit")])
@torch.no_grad()
def test_a_file_brings_back_a_model_of_no_square_and_its_pictures(kind, tmp_path):
    model = made(kind)
    checkpoint.save(model, tmp_path / "model.safetensors")
    again = checkpoint.load(tmp_path / "model.safetensors")
    assert torch.equal(again(inputs_of(kind)), model(inputs_of(kind)))
    assert getattr(again, "image_size", None) == getattr(model, "image_size", None)


@pytest.mark.parametrize("name, tokens", [("lab_vit", 1 + 15), ("cct_2_3x2", 15)])
def test_an_image_size_may_be_a_pair_of_any_numbers_and_one_number_stays_one(name, tokens):
    for size in ((12, 20), [12.0, 20], torch.zeros(1, 3, 12, 20).shape[2:]):
        model = models.create_model(name, image_size=size)
        assert model.image_size == (12, 20) and model.pos_embed.shape[1] == tokens
    assert models.create_model(name, image_size=20.0).image_size == 20
    with pytest.raises(LabError, match=r"images are 20 x 12 pixels, the model takes 12 x 20;.*image_size=\(20, 12\)"):
        model(torch.zeros(1, 3, 20, 12))


@pytest.mark.parametrize("name, size, words", [
    ("lab_vit", (12, 21), r"image_size\[1\]=21 is no multiple of 4.*give 20 or 24"),
    ("lab_vit", (12, 20, 3), "has 3 numbers; give one for both sides, or"),
    ("lab_vit", (12, 0), r"image_size\[1\]=0; give a number with 1 <="), ("lab_vit", "12", "image_size='12'"),
    ("lab_cct", (3, 20), "image_size=3; give a number with 4 <= image_size"), ("lab_cct", (20,), "has 1 numbers"),
])
def test_what_is_no_size_of_pictures_is_refused(name, size, words):
    with pytest.raises(LabError, match=words):
        models.create_model(name, image_size=size)


@pytest.mark.parametrize("kind, name", FITTING)
@torch.no_grad()
def test_transforms_see_tokens_in_reading_order_whatever_the_length_of_rows(kind, name):
    """3 x 5 patches, relaid as 15 x 1, are the same tokens."""
    images, whole = inputs_of(kind), made(kind)(inputs_of(kind))
    seen = pictures(3, 32, 3, 12, 20)
    wide, thin = transformed(name, made(kind), seen), transformed(name, resized(kind, (60, 4)), relaid(seen, 15, 1))
    logits = wide(images)
    assert logits.shape == (2, 10) and logits.isfinite().all()
    torch.testing.assert_close(logits, thin(relaid(images, 15, 1)), rtol=1e-4, atol=1e-5)
    if name not in ("exits", "lgvit exits", "skipping"):
        assert not torch.allclose(logits, whole, atol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMS)
@torch.no_grad()
def test_transformed_models_come_back_from_files_are_counted_and_take_pictures_the_right_way_round(name, tmp_path):
    model, images = transformed(name, made(), pictures(3, 32, 3, 12, 20)), inputs_of()
    checkpoint.save(model, tmp_path / "model.safetensors")
    assert torch.equal(checkpoint.load(tmp_path / "model.safetensors")(images), model(images))
    assert 0 < profiling.count(model, (3, 12, 20)).macs
    with pytest.raises(LabError, match="20 x 12"):
        model(images.mT)


def test_a_count_of_no_square_is_the_closed_formula_of_its_tokens():
    cost = estimate_vit((12, 20), 4, 24, 3, 10)
    found = profiling.count(models.create_model("lab_vit", image_size=(12, 20), dim=24, depth=3, num_heads=3,
                                                embedding="patch"), (3, 12, 20))
    assert (cost.tokens, cost.params, cost.macs) == (16, found.params, found.macs)
    assert estimate_vit(24, 4, 24, 3, 10) == estimate_vit((24, 24), 4, 24, 3, 10)
    with pytest.raises(LabError, match=r"estimate_vit: image_size\[1\]=21 is no multiple of 4"):
        estimate_vit((12, 21), 4)


@pytest.mark.parametrize("method", token_pruning.METHODS)
@torch.no_grad()
def test_patches_that_are_kept_are_named_in_reading_order(method):
    left = []
    for model, images in ((made(), inputs_of()), (resized("patches", (60, 4)), relaid(inputs_of(), 15, 1))):
        torch.manual_seed(0)
        pruned = token_pruning.prune_tokens(model, 0.4, (0,), method=method, fuse=False)
        left.append(kept_patches(pruned, images)[0])
    assert torch.equal(*left) and left[0].max() < 15
    assert left[0].shape == (2, 6) or method == "ats"       # which draws up to as many


@torch.no_grad()
def test_a_second_look_at_every_region_of_an_oblong_picture_is_the_old_model():
    model = made(image_size=(16, 24))
    both, images = coarse_fine.coarse_to_fine(model, 1.0, 1.0), pictures(1, 2, 3, 16, 24)
    torch.testing.assert_close(both(images), model(images), rtol=1e-4, atol=1e-5)
    half = torch.nn.functional.avg_pool2d(images, 2)
    places = model.pos_embed[0, 1:].view(4, 6, -1)
    means = torch.stack([places[2 * row:2 * row + 2, 2 * column:2 * column + 2].mean((0, 1))
                         for row in range(2) for column in range(3)])
    torch.testing.assert_close(both.coarse_tokens(images), model.patch_embed(half)[0] + means)
    with pytest.raises(LabError, match="coarse_to_fine: images are 24 x 16 pixels, the model takes 16 x 24"):
        both(images.mT)


def test_coarse_to_fine_refuses_a_grid_whose_regions_are_not_two_by_two():
    for model in (made(), made("timm")):
        with pytest.raises(LabError, match="3 x 5 patches cannot be taken two by two; give a model with an even"):
            coarse_fine.coarse_to_fine(model, 0.7)


@pytest.mark.parametrize("augment", [(), ("crop", "cutmix")])
def test_training_on_pictures_of_no_square_tells_left_from_right(augment):
    torch.manual_seed(0)
    model, pairs = models.create_model("lab_vit", image_size=(12, 20), dim=24, depth=2, num_heads=3), set_of()
    training.fit(model, pairs, steps=60, batch_size=16, lr=3e-3, augment=augment, precision="float32", progress=False)
    with torch.no_grad():
        assert (model(pairs.inputs[:32]).argmax(1) == pairs.labels).float().mean() > 0.9
