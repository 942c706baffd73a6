"""Losses against loops written from the papers, hand-worked cases and what must not change them; joins that must not pass."""

import math
from itertools import permutations

import pytest
import timm
import torch
from torch import nn

from lightvit_lab import checkpoint, models
from lightvit_lab.compression.pruning import prune_embedding
from lightvit_lab.distillation import feature_distillation as features
from lightvit_lab.distillation.feature_distillation.mimicking import Generator, draw_hidden
from lightvit_lab.distillation.model_outputs import ModelOutputs, collect_outputs
from lightvit_lab.dynamic.early_exit import add_exits, add_halting, add_skipping
from lightvit_lab.dynamic.token_merging import merge_tokens
from lightvit_lab.dynamic.token_pruning import coarse_to_fine, prune_tokens
from lightvit_lab.errors import LabError
from lightvit_lab.training import Batch


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _rotation(width: int) -> torch.Tensor:
    """An orthogonal map of channels: lengths and angles stay, every number changes."""
    return torch.linalg.qr(_random(width, width, seed=9))[0]


def _attention(*shape: int, seed: int = 0) -> torch.Tensor:
    return (3 * _random(*shape, seed=seed)).softmax(-1)


def _batch(step: int = 1, count: int = 4) -> Batch:
    return Batch(torch.zeros(count, 3, 8, 8), torch.zeros(count, dtype=torch.long), torch.arange(count), step=step)


def _seen(shown: torch.Tensor, prefix: int = 0, attention: torch.Tensor | None = None,
          values: torch.Tensor | None = None) -> ModelOutputs:
    found = dict.fromkeys((0, 1, -1, -2), shown)
    return ModelOutputs(torch.zeros(len(shown), 2), features=found, attention={} if attention is None else {-1: attention},
                values={} if values is None else {-1: values}, prefix=prefix)


TWO = {
    "attention transfer": (lambda a, b: features.attention_transfer_loss(a, b), (4, 6, 5, 5)),
    "attention weights": (lambda a, b: features.attention_weights_loss(a.softmax(-1), b.softmax(-1)), (4, 2, 9, 9)),
    "value relations": (lambda a, b: features.value_relations_loss(a, b), (4, 2, 9, 6)),
    "similarity": (lambda a, b: features.similarity_loss(a, b), (4, 9, 6)),
    "relational": (lambda a, b: features.relational_loss(a, b), (4, 6)),
    "manifold": (lambda a, b: features.manifold_loss(a, b, samples=20), (4, 9, 6)),
    "hints": (lambda a, b: features.hint_loss(a, b), (4, 9, 6)),
}


@pytest.mark.parametrize("name", TWO)
def test_a_student_that_shows_what_the_teacher_shows_loses_nothing_and_any_other_does(name):
    loss, shape = TWO[name]
    shown = _random(*shape)
    assert loss(shown, shown.clone()).item() == pytest.approx(0, abs=1e-6)
    assert loss(shown, _random(*shape, seed=1)).item() > 1e-3


@pytest.mark.parametrize("name", TWO)
def test_the_student_is_pulled_and_the_teacher_never(name):
    loss, shape = TWO[name]
    student, teacher = _random(*shape).requires_grad_(), _random(*shape, seed=1).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0 and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", TWO)
def test_following_the_gradient_brings_the_student_closer(name):
    loss, shape = TWO[name]
    student, teacher = _random(*shape).requires_grad_(), _random(*shape, seed=1)
    torch.manual_seed(0)
    before = loss(student, teacher)
    before.backward()
    torch.manual_seed(0)
    assert loss(student.detach() - 0.1 * student.grad, teacher) < before


@pytest.mark.parametrize("name", ["attention transfer", "similarity", "relational", "manifold"])
def test_gradients_stay_finite_where_features_vanish_or_repeat(name):
    loss, shape = TWO[name]
    student = torch.zeros(shape, requires_grad=True)
    loss(student, torch.zeros(shape)).backward()
    assert torch.isfinite(student.grad).all()


# attention

def test_an_attention_map_is_the_energy_of_the_channels_scaled_to_length_one():
    maps = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [1.0, 0.0]]]])     # energies 2, 0, 1, 4
    expected = torch.tensor([[[2.0, 0.0], [1.0, 4.0]]]) / math.sqrt(21)
    torch.testing.assert_close(features.attention_map(maps), expected)


def test_maps_that_look_at_different_places_lose_two_and_scale_and_channels_do_not_count():
    left, right = torch.zeros(3, 4, 2, 2), torch.zeros(3, 4, 2, 2)
    left[..., 0], right[..., 1] = 1.0, 5.0
    assert features.attention_transfer_loss(left, right).item() == pytest.approx(2)
    maps = _random(3, 8, 4, 4)
    turned = 7 * torch.einsum("dc,bchw->bdhw", _rotation(8), maps)
    assert features.attention_transfer_loss(turned, maps).item() == pytest.approx(0, abs=1e-6)


def test_maps_of_a_finer_grid_are_averaged_to_the_coarser_from_either_side():
    coarse = _random(2, 3, 4, 4)
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert features.attention_transfer_loss(fine, coarse).item() == pytest.approx(0, abs=1e-6)
    assert features.attention_transfer_loss(coarse, fine).item() == pytest.approx(0, abs=1e-6)


def test_align_takes_means_where_a_side_shrinks_and_keeps_the_mean_where_it_grows():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(features.align(maps, (2, 2)), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert features.align(maps, (4, 4)) is maps or torch.equal(features.align(maps, (4, 4)), maps)
    grown = features.align(maps, (8, 8))
    assert grown.shape == (1, 1, 8, 8) and grown.mean().item() == pytest.approx(7.5)
    assert features.align(maps, (2, 8)).shape == (1, 1, 2, 8)


def test_attention_weights_are_compared_by_kl_from_the_teacher_row_by_row():
    student, teacher = _attention(2, 3, 5, 5), _attention(2, 3, 5, 5, seed=1)
    rows = [sum(t * math.log(t / s) for s, t in zip(one.tolist(), other.tolist()))
            for one, other in zip(student.flatten(0, 2), teacher.flatten(0, 2))]
    assert features.attention_weights_loss(student, teacher).item() == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_heads_are_averaged_only_where_their_numbers_differ():
    four = _attention(2, 4, 5, 5)
    mean = four.mean(1, keepdim=True)
    assert features.attention_weights_loss(four, mean).item() == pytest.approx(0, abs=1e-6)
    assert features.attention_weights_loss(four, mean.expand(-1, 4, -1, -1)).item() > 0.01


def test_weights_that_are_exactly_zero_give_a_finite_loss():
    teacher = torch.eye(4).expand(1, 1, 4, 4)
    student = torch.eye(4).flip(0).expand(1, 1, 4, 4).clone().requires_grad_()
    loss = features.attention_weights_loss(student, teacher)
    loss.backward()
    assert math.isfinite(loss.item()) and torch.isfinite(student.grad).all() and loss > 10


def test_attention_on_a_coarser_grid_sums_what_is_looked_at_and_averages_who_looks():
    weights = _attention(2, 3, 17, 17)                            # a token in front, and 4 x 4
    found = features.image_attention(weights, prefix=1, size=(2, 2))
    inner = weights[:, :, 1:, 1:]
    cells = [[4 * (2 * a + i) + 2 * b + j for i in (0, 1) for j in (0, 1)] for a in (0, 1) for b in (0, 1)]
    for row, queries in enumerate(cells):
        seen = torch.stack([inner[:, :, queries][..., keys].sum((-2, -1)) for keys in cells], -1)
        torch.testing.assert_close(found[:, :, row], seen / seen.sum(-1, keepdim=True))
    torch.testing.assert_close(features.image_attention(inner, 0, (4, 4)), inner / inner.sum(-1, keepdim=True))


def test_attention_of_vits_of_other_tokens_and_heads_is_joined_on_the_coarser_grid():
    student = _seen(_random(4, 65, 8), 1, _attention(4, 4, 65, 65))
    for prefix, tokens, heads in ((2, 66, 4), (1, 197, 12), (0, 16, 2)):
        teacher = _seen(_random(4, tokens, 8), prefix, _attention(4, heads, tokens, tokens, seed=1))
        loss = features.AttentionWeights()(student, teacher, _batch())
        assert math.isfinite(loss.item()) and loss > 0.1
    same = _seen(_random(4, 65, 8), 1, student.attention[-1].clone())
    assert features.AttentionWeights()(student, same, _batch()).item() == pytest.approx(0, abs=1e-6)


def _relations(values: torch.Tensor) -> list[list[float]]:
    """Rows of one head's value relations, from values (N, head_dim), written out as in the paper."""
    scores = [[sum(a * b for a, b in zip(one, other)) / math.sqrt(len(one)) for other in values.tolist()]
              for one in values.tolist()]
    return [[math.exp(score) / sum(map(math.exp, row)) for score in row] for row in scores]


def test_value_relations_are_compared_as_minilm_writes_them_head_by_head_and_token_by_token():
    student, teacher, rows = _random(2, 3, 5, 4), _random(2, 3, 5, 8, seed=1), []
    for ours, theirs in zip(student.flatten(0, 1), teacher.flatten(0, 1)):
        rows += [sum(q * math.log(q / p) for p, q in zip(*pair)) for pair in zip(_relations(ours), _relations(theirs))]
    assert len(rows) == 2 * 3 * 5
    assert features.value_relations_loss(student, teacher).item() == pytest.approx(sum(rows) / len(rows), rel=1e-4)


def test_values_of_other_heads_are_joined_and_split_into_heads_that_both_can_have():
    student, teacher = _random(2, 4, 5, 3), _random(2, 6, 5, 2, seed=1)
    wide = [values.transpose(1, 2).reshape(2, 5, 2, 6).transpose(1, 2) for values in (student, teacher)]     # two heads of 6
    expected = features.value_relations_loss(*wide).item()
    assert features.value_relations_loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


def test_values_of_vits_of_other_tokens_are_joined_on_the_coarser_grid_by_their_means():
    values, coarse = _random(4, 2, 65, 3), torch.zeros(4, 2, 16, 3)
    for row in range(4):
        for column in range(4):
            cells = [1 + 8 * (2 * row + i) + 2 * column + j for i in (0, 1) for j in (0, 1)]
            coarse[:, :, 4 * row + column] = values[:, :, cells].mean(2)
    torch.testing.assert_close(features.image_values(values, 1, (4, 4)), coarse)
    student, teacher = _seen(_random(4, 65, 8), 1, values=values), _seen(_random(4, 16, 8), 0, values=coarse)
    assert features.ValueRelations()(student, teacher, _batch()).item() == pytest.approx(0, abs=1e-6)
    same = _seen(_random(4, 65, 8), 1, values=values.clone())
    assert features.ValueRelations()(student, same, _batch()).item() == pytest.approx(0, abs=1e-6)
    same.values[-1][:, :, 0] += 3                                         # the class token takes part
    assert features.ValueRelations()(student, same, _batch()).item() > 1e-3


# structure

def test_similarity_equals_a_loop_over_the_pictures():
    student, teacher = _random(5, 3, 4), _random(5, 2, 7, seed=1)

    def rows(shown):
        alike = [[(one * other).sum().item() for other in shown] for one in shown]
        return [[value / math.sqrt(sum(each**2 for each in row)) for value in row] for row in alike]

    total = sum((a - b) ** 2 for one, other in zip(rows(student), rows(teacher)) for a, b in zip(one, other))
    assert features.similarity_loss(student, teacher).item() == pytest.approx(total / 25, rel=1e-4)


@pytest.mark.parametrize("name", ["similarity", "relational", "manifold"])
def test_turning_and_scaling_the_channels_changes_no_structure(name):
    loss, shape = TWO[name]
    shown = _random(*shape)
    assert loss(3 * shown @ _rotation(shape[-1]), shown).item() == pytest.approx(0, abs=1e-6)


def test_relational_loss_ignores_where_the_embedding_lies_and_similarity_does_not():
    shown = _random(5, 6)
    assert features.relational_loss(shown + 4, shown).item() == pytest.approx(0, abs=1e-5)
    assert features.similarity_loss(shown + 4, shown).item() > 1e-3


def _huber(one: float, other: float) -> float:
    gap = abs(one - other)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def test_relational_loss_equals_loops_over_all_pairs_and_triples():
    student, teacher = 3 * _random(5, 4).double(), 3 * _random(5, 7, seed=1).double()

    def distances(shown):
        found = {(i, j): (shown[i] - shown[j]).norm().item() for i, j in permutations(range(5), 2)}
        mean = sum(found.values()) / len(found)
        return {pair: value / mean for pair, value in found.items()}

    def cosine(shown, i, j, k):
        one, other = shown[i] - shown[j], shown[k] - shown[j]
        return (one @ other / one.norm() / other.norm()).item()

    far, near = distances(student), distances(teacher)
    pairs = sum(_huber(far[pair], near[pair]) for pair in far) / len(far)
    each = [_huber(cosine(student, *three), cosine(teacher, *three)) for three in permutations(range(5), 3)]
    for distance, angle in ((1, 0), (0, 1), (1, 2)):
        expected = distance * pairs + angle * sum(each) / len(each)
        assert features.relational_loss(student, teacher, distance, angle).item() == pytest.approx(expected, rel=1e-5)


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one @ other / one.norm() / other.norm()).item()


def test_manifold_within_and_between_pictures_equals_loops_over_tokens():
    student, teacher = _random(3, 4, 5).double(), _random(3, 4, 8, seed=1).double()

    def gap(first, second):
        return (_cosine(student[first], student[second]) - _cosine(teacher[first], teacher[second])) ** 2

    within = [gap((b, i), (b, j)) for b in range(3) for i in range(4) for j in range(4)]
    between = [gap((a, i), (b, i)) for i in range(4) for a in range(3) for b in range(3)]
    for terms, expected in (((1, 0), within), ((0, 1), between)):
        loss = features.manifold_loss(student, teacher, intra=terms[0], inter=terms[1], sampled=0)
        assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)


def test_manifold_samples_compare_tokens_of_different_pictures_and_places():
    student, teacher = _random(3, 4, 5).double(), _random(3, 4, 8, seed=1).double()
    loss = features.manifold_loss(student, teacher, samples=10**6, intra=0, inter=0)       # all twelve, in some order
    flat, taught = student.flatten(0, 1), teacher.flatten(0, 1)
    gaps = [(_cosine(flat[i], flat[j]) - _cosine(taught[i], taught[j])) ** 2 for i in range(12) for j in range(12)]
    assert loss.item() == pytest.approx(sum(gaps) / 144, rel=1e-6)


def test_what_manifold_and_generation_draw_follows_from_the_step_alone():
    student, teacher = _seen(_random(4, 17, 6), 1), _seen(_random(4, 17, 6, seed=1), 1)
    manifold = features.Manifold(samples=8, intra=0, inter=0)
    generation = features.DeepGeneration().build(student, teacher)
    for term in (manifold, generation):
        torch.manual_seed(0)
        first = term(student, teacher, _batch(step=1)).item()
        torch.rand(5)
        assert term(student, teacher, _batch(step=1)).item() == first
        assert term(student, teacher, _batch(step=2)).item() != first


# mimicking

def test_a_hint_is_half_the_mean_squared_distance():
    assert features.hint_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])).item() == 1.0


def test_whitened_targets_do_not_depend_on_the_teachers_scale_and_plain_ones_do():
    student, teacher, loud = (_seen(_random(4, 17, 6), 1), _seen(_random(4, 17, 6, seed=1), 1),
                              _seen(50 * _random(4, 17, 6, seed=1), 1))
    for whitened, alike in ((True, True), (False, False)):
        term = features.Hint(whitened=whitened)
        losses = [term(student, shown, _batch()).item() for shown in (teacher, loud)]
        assert (losses[0] == pytest.approx(losses[1], rel=1e-3)) is alike


def test_projectors_are_of_the_widths_shown_one_for_each_pair():
    student = _seen(_random(4, 65, 6), 1)
    teacher = ModelOutputs(torch.zeros(4, 2), features={0: _random(4, 3, 32, 32), 1: _random(4, 5, 16, 16)})
    built = features.ShallowMimic().build(student, teacher)
    assert [tuple(layer.weight.shape) for layer in built.projectors] == [(3, 6), (5, 6)]
    loss = built(student, teacher, _batch())
    loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in built.parameters())


def test_a_projector_finds_features_that_are_a_linear_map_of_the_students():
    shown = _random(4, 16, 6)
    student, teacher = _seen(shown), _seen(shown @ _random(6, 9, seed=1))
    built = features.Hint(whitened=False).build(student, teacher)
    optimizer = torch.optim.LBFGS(built.parameters(), max_iter=200)

    def closure():
        optimizer.zero_grad()
        loss = built(student, teacher, _batch())
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() < 1e-4


def test_the_last_layer_is_compared_with_the_class_token_where_both_have_one():
    student, teacher = _seen(_random(4, 17, 6), 1), _seen(_random(4, 17, 9, seed=1), 1)
    lifted = _seen(_random(4, 17, 9), 1)
    before = features.LiftedLastLayer()(lifted, teacher, _batch()).item()
    teacher.features[-1][:, 0] = _random(4, 9, seed=5)
    assert features.LiftedLastLayer()(lifted, teacher, _batch()).item() != before
    maps = ModelOutputs(torch.zeros(4, 2), features={-1: _random(4, 9, 4, 4)})
    assert features.LiftedLastLayer()(lifted, maps, _batch()).item() > 0
    with pytest.raises(LabError, match=r"width 6 and the teacher's 9; lift_last_layer\(student, 9\)"):
        features.LiftedLastLayer()(student, teacher, _batch())


def _vit(library: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    if library == "timm":
        return timm.create_model("deit_tiny_patch16_224", img_size=32, patch_size=4, depth=2, num_classes=10,
                                 global_pool="avg", class_token=False, **arguments).eval()
    return models.create_model("lab_vit_student", depth=2, pool="mean", **arguments).eval()


@pytest.mark.parametrize("library", ["lab", "timm"])
def test_a_lift_stays_in_the_student_and_its_head_reads_the_mean_of_the_lifted_tokens(library):
    inputs = _random(3, 3, 32, 32)
    plain, student = _vit(library), features.lift_last_layer(_vit(library), 12)
    last = collect_outputs(plain, inputs, features=(1,)).features[1]
    lift, norm = student.blocks[-1]
    by_hand = torch.nn.functional.layer_norm(last @ lift.weight.T, (12,), norm.weight, norm.bias)
    found = collect_outputs(student, inputs, features=(-1,))
    torch.testing.assert_close(found.features[-1], by_hand)
    torch.testing.assert_close(found.logits, by_hand.mean(1) @ student.head.weight.T + student.head.bias)
    added = 12 * last.shape[-1] + 2 * 12                                   # the map and the norm's two vectors
    sizes = [sum(value.numel() for name, value in model.named_parameters() if "norm" not in name.split(".")[0] and
                 not name.startswith("head")) for model in (plain, student)]
    assert sizes[1] - sizes[0] == added and lift.bias is None


def test_a_lifted_copy_has_its_models_type_is_saved_and_loaded_and_leaves_the_model_as_it_was(tmp_path):
    plain, inputs = _vit("lab").double(), _random(3, 3, 32, 32)
    student = features.lift_last_layer(plain, 12)
    assert len(plain.blocks) == 2 and {value.dtype for value in student.parameters()} == {torch.float64}
    checkpoint.save(student.float(), tmp_path / "lifted.safetensors")
    assert torch.equal(checkpoint.load(tmp_path / "lifted.safetensors")(inputs), student(inputs))


def test_both_heads_of_a_distilled_model_read_the_lifted_tokens():
    model = models.create_model("deit_tiny_distilled_patch16_224", img_size=32, embed_dim=24, depth=2, num_classes=5)
    lifted, inputs = features.lift_last_layer(model, 12).eval(), _random(2, 3, 32, 32)
    tokens = collect_outputs(lifted, inputs, features=(-1,)).features[-1]
    assert tokens.shape[-1] == 12 and lifted.head_dist.weight.shape == (5, 12)
    both = (lifted.head(tokens[:, 0]) + lifted.head_dist(tokens[:, 1])) / 2
    torch.testing.assert_close(lifted(inputs), both)


@pytest.mark.parametrize("width", [24, 30])
@pytest.mark.parametrize("change", [
    lambda model: features.lift_last_layer(model, 12), lambda model: prune_embedding(model, 0.5),
    lambda model: add_exits(model, [0]), lambda model: add_skipping(model, [1]), add_halting, lambda model: coarse_to_fine(model, 1.0),
    lambda model: merge_tokens(model, 2), lambda model: prune_tokens(model, 0.5, (1,))])
def test_what_needs_tokens_of_one_width_says_that_it_comes_before_the_lift(change, width):
    lifted = features.lift_last_layer(models.create_model("lab_vit_student", image_size=16, dim=24), width)
    with pytest.raises(LabError, match="lift|before its blocks were replaced"):
        change(lifted)


def test_a_model_without_blocks_is_lifted_too():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=0, num_classes=5)
    assert features.lift_last_layer(model, 12)(_random(2, 3, 32, 32)).shape == (2, 5)


def test_a_lift_is_refused_for_what_is_no_plain_vit_and_for_no_width():
    with pytest.raises(LabError, match="lift_last_layer: ResidualNetwork is no plain ViT"):
        features.lift_last_layer(models.create_model("lab_cnn"), 8)
    with pytest.raises(LabError, match="width=0"):
        features.lift_last_layer(_vit("lab"), 0)


def test_generation_sees_no_hidden_token_and_learns_from_hidden_ones_alone():
    make, tokens = Generator(6, 9), _random(2, 16, 6)
    hidden = draw_hidden(2, 16, 0.5, torch.Generator().manual_seed(0))
    assert hidden.sum(1).tolist() == [8, 8]
    made = make(tokens, hidden)
    torch.testing.assert_close(make(torch.where(hidden[..., None], 99.0, tokens), hidden), made)
    student, teacher = _seen(tokens), _seen(_random(2, 16, 9, seed=1))
    built = features.DeepGeneration().build(student, teacher)
    grad = torch.autograd.grad(built(student, teacher, _batch()), built.generators[0].mask_token)[0]
    assert grad.abs().sum() > 0


# joins

JOINS = {
    "maps of a last stage": _random(4, 128, 8, 8, seed=1),
    "maps of an earlier stage": _random(4, 64, 16, 16, seed=1),
    "tokens of another width and number": _random(4, 197, 192, seed=1),
    "tokens alike": _random(4, 65, 64, seed=1),
}
OBJECTIVES = [features.AttentionTransfer, features.Similarity, features.Relational, features.Manifold, features.Hint,
              features.ShallowMimic, features.DeepGeneration]


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_vits_tokens_are_joined_to_any_layer_of_any_teacher(kind, name):
    tokens = _random(4, 65, 64).requires_grad_()
    student, teacher = _seen(tokens, 1), _seen(JOINS[name], 0 if JOINS[name].ndim == 4 else 1)
    objective = kind()
    term = objective.build(student, teacher) if hasattr(objective, "build") else objective
    loss = term(student, teacher, _batch())
    loss.backward()
    assert loss.shape == () and loss.item() > 0 and tokens.grad.abs().sum() > 0


def test_several_pairs_count_by_their_mean():
    student = ModelOutputs(torch.zeros(4, 2), features={0: _random(4, 16, 6), 1: _random(4, 16, 6, seed=2)})
    teacher = ModelOutputs(torch.zeros(4, 2), features={-1: _random(4, 16, 9, seed=1)})
    for kind in (features.AttentionTransfer, features.Similarity, features.Relational):
        one, other, both = (kind(layers, -1 if isinstance(layers, int) else (-1, -1))(student, teacher, _batch()).item()
                            for layers in (0, 1, (0, 1)))
        assert both == pytest.approx((one + other) / 2, rel=1e-5) and one != other


@pytest.mark.parametrize("kind", [features.AttentionTransfer, features.Manifold, features.Hint, features.DeepGeneration])
def test_tokens_that_form_no_square_are_refused_with_what_needs_no_grid(kind):
    student, teacher = _seen(_random(4, 65, 6), 1), _seen(_random(4, 51, 6), 1)
    with pytest.raises(LabError, match=r"51 tokens, 1 of them in front.*Similarity, Relational"):
        objective = kind()
        (objective.build(student, teacher) if hasattr(objective, "build") else objective)(student, teacher, _batch())
    assert features.Similarity()(student, teacher, _batch()).item() > 0


@pytest.mark.parametrize("loss, least", [(features.similarity_loss, 2), (features.relational_loss, 3),
                                         (features.manifold_loss, 2)])
def test_losses_between_pictures_refuse_batches_without_any(loss, least):
    few = _random(least - 1, 9, 6)
    with pytest.raises(LabError, match=f"the batch has {least - 1}; give a batch_size of {least} or more"):
        loss(few, few)


BAD = {
    "other batches": (lambda: features.similarity_loss(_random(4, 6), _random(3, 6)), "4 pictures and the teacher's of 3"),
    "other tokens": (lambda: features.manifold_loss(_random(2, 9, 6), _random(2, 4, 6)), "9 tokens .* 4; align"),
    "other widths": (lambda: features.hint_loss(_random(2, 9, 6), _random(2, 9, 8)), "differ in shape; .*linear layer"),
    "other squares": (lambda: features.attention_weights_loss(_attention(1, 1, 5, 5), _attention(1, 1, 4, 4)),
                      "between 5 and 4 tokens .*image_attention"),
    "tokens for maps": (lambda: features.attention_map(_random(2, 9, 6)), r"\(2, 9, 6\); give \(B, C, h, w\)"),
    "no size": (lambda: features.align(_random(2, 3, 4, 4), (0, 2)), "size=0"),
    "one sample": (lambda: features.manifold_loss(_random(2, 9, 6), _random(2, 9, 6), samples=1), "samples=1"),
    "layers without partners": (lambda: features.Hint(student_layer=(0, 1)), "make no pairs"),
    "half a layer": (lambda: features.Similarity(student_layer=0.5), "student_layer=0.5; give a whole number"),
    "no layer": (lambda: features.Similarity(student_layer=(), teacher_layer=()), r"student_layer=\(\)"),
    "a negative weight": (lambda: features.Relational(weight=-1), "weight=-1"),
    "nothing hidden": (lambda: features.DeepGeneration(masked=0), "masked=0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_with_what_mends_it(name):
    call, message = BAD[name]
    with pytest.raises(LabError, match=message):
        call()


def test_objectives_are_known_by_their_parameters():
    assert "student_layer=-2" in repr(features.Hint()) and features.Hint() == features.Hint(-2, -2)
    assert features.AttentionTransfer(weight=3).weight == 3 and not isinstance(features.Hint(), nn.Module)
