import math

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lightvit_lab import data, models, training
from lightvit_lab.errors import LabError
from lightvit_lab.training.augment import batch_order
from lightvit_lab.training.optimizers import decay_groups, schedule_factor


def _pictures(count: int = 64) -> data.Pictures:
    """Bright and dark pictures, so easy that a linear model must learn them in seconds."""
    labels = torch.arange(count) % 2
    pixels = (labels * 200).byte().view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return data.Pictures("made up", "train", pixels, labels, ("dark", "bright"), torch.full((3,), 0.4), torch.full((3,), 0.4))


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def test_fit_learns_what_can_be_learned():
    model = _linear()
    history = training.fit(model, _pictures(), epochs=10, lr=1e-2, batch_size=16, threads=1, progress=False)
    assert training.evaluate(model, _pictures()).accuracy == 1.0
    assert history.loss[-1] < 0.1 * history.loss[0] and len(history.loss) == 40 and history.images_seen == 640


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    def weights(seed):
        model = _linear()
        training.fit(model, _pictures(), steps=5, batch_size=16, seed=seed, threads=1, progress=False)
        return model[1].weight
    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


def _gradients(**settings) -> list[torch.Tensor]:
    """The whole gradient, as one vector, that the optimizer is given at each of three steps."""
    model, found = _linear(), []
    hook = register_optimizer_step_pre_hook(
        lambda *_: found.append(torch.cat([value.grad.flatten() for value in model.parameters()])))
    try:
        training.fit(model, _pictures(), steps=3, batch_size=16, lr=1e-9, threads=1, precision="float32",
                     progress=False, **settings)
    finally:
        hook.remove()
    return found


def test_gradients_longer_than_clip_are_cut_to_it_and_keep_their_direction():
    whole, clipped, left = _gradients(clip=None), _gradients(clip=0.05), _gradients(clip=1e3)
    assert len(whole) == 3 and all(gradient.norm() > 0.1 for gradient in whole)
    for gradient, cut, same in zip(whole, clipped, left, strict=True):
        assert torch.allclose(cut, 0.05 * gradient / gradient.norm(), atol=1e-5)
        assert torch.allclose(same, gradient, atol=1e-5)
    assert torch.allclose(torch.stack(_gradients()).norm(dim=1), torch.stack(whole).norm(dim=1).clamp(max=1.0), atol=1e-4)


def test_fit_leaves_the_model_ready_to_be_used_in_eval_mode_in_every_part():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Sequential(nn.Linear(192, 2)))
    for validation in (None, _pictures(16)):
        model.train()
        training.fit(model, _pictures(), steps=2, batch_size=16, validation=validation, threads=1, precision="float32",
                     progress=False)
        assert [part.training for part in model.modules()] == [False] * 5


def test_probing_the_threads_leaves_the_run_as_it_is():
    models_ = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)) for _ in range(2)]
    models_[1].load_state_dict(models_[0].state_dict())
    threads = torch.get_num_threads()
    for model, choice in zip(models_, (None, threads)):
        training.fit(model, _pictures(), steps=3, batch_size=16, threads=choice, precision="float32", progress=False)
    torch.set_num_threads(threads)
    for one, other in zip(models_[0].state_dict().values(), models_[1].state_dict().values()):
        assert torch.allclose(one.float(), other.float(), atol=1e-6)


def test_every_epoch_sees_every_picture_once():
    order = torch.cat([batch_order(10, 4, step, seed=0) for step in range(1, 6)])
    assert sorted(order[:10].tolist()) == sorted(order[10:].tolist()) == list(range(10))


def test_rate_rises_to_one_and_falls_to_nearly_nothing():
    rates = [schedule_factor(step, 100, 0.1) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[99] < 1e-3
    assert rates[55] == pytest.approx(0.5)


def test_norms_biases_positions_and_class_token_are_not_decayed():
    model = models.create_model("lab_vit_student")
    decayed = {id(value) for value in decay_groups(model, 0.1)[0]["params"]}
    for name, value in model.named_parameters():
        assert (id(value) in decayed) == (value.ndim > 1 and name not in ("cls_token", "pos_embed")), name


def test_validation_is_scored_as_often_as_asked_and_ends_with_the_last_step():
    history = training.fit(_linear(), _pictures(), steps=10, batch_size=16, validation=_pictures(8), checks=4, threads=1,
                           progress=False)
    assert [step for step, _ in history.scores] == [3, 5, 8, 10]


@pytest.mark.parametrize("arguments, words", [
    (dict(epochs=0), "no training"), (dict(lr=0), "lr=0"), (dict(batch_size=0), "batch_size=0"), (dict(steps=0), "steps=0"),
])
def test_runs_that_are_none_are_refused(arguments, words):
    with pytest.raises(LabError, match=words):
        training.fit(_linear(), _pictures(), **arguments)


def test_a_run_that_diverges_says_so_and_what_to_try():
    model = _linear()
    nn.init.constant_(model[1].weight, math.inf)
    with pytest.raises(LabError, match="loss is nan at step 1.*Try lr=0.00025"):
        training.fit(model, _pictures(), lr=1e-3, threads=1, progress=False)


def test_evaluate_counts_by_hand():
    class Bright(nn.Module):
        def forward(self, inputs):
            return torch.stack([torch.zeros(len(inputs)), torch.ones(len(inputs))], 1)
    score = training.evaluate(Bright(), _pictures(10))
    assert (score.accuracy, score.count) == (0.5, 10)


@pytest.mark.parametrize("successes, count, low, high", [   # R: prop.test(x, n, correct=FALSE)
    (5, 10, 0.2366, 0.7634), (0, 20, 0.0, 0.1611), (95, 100, 0.8882, 0.9785)])
def test_wilson_interval_is_that_of_the_tables(successes, count, low, high):
    assert training.wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-4)
    score = training.Score.of(successes, count)
    assert (score.accuracy, score.low, score.high) == pytest.approx((successes / count, low, high), abs=1e-4)
    assert score.count == count


def test_interval_of_three_seeds_is_students():
    middle, low, high = training.mean_interval([1.0, 2.0, 3.0])   # sd 1, t(2) = 4.303, / sqrt(3)
    assert (middle, high - middle, middle - low) == pytest.approx((2.0, 2.4843, 2.4843), abs=1e-3)


def test_an_interval_of_accuracies_ends_at_one_and_its_mean_and_lower_end_stay():
    free = training.mean_interval([0.98, 0.99, 1.0])          # 0.99 -+ 4.303 * 0.01 / sqrt(3)
    middle, low, high = training.mean_interval([0.98, 0.99, 1.0], within=(0, 1))
    assert free[2] == pytest.approx(1.01484, abs=1e-4) and (middle, low) == free[:2] and high == 1
    assert training.mean_interval([0.0, 0.01], within=(0, 1))[1] == 0
    with pytest.raises(LabError, match="0 <= value <= 1"):
        training.mean_interval([0.5, 98.0], within=(0, 1))


def test_a_paired_interval_is_that_of_the_differences_run_by_run():
    # +1.0, +1.1, +1.2: sd 0.1, t(2) = 4.303, / sqrt(3)
    found = training.paired_interval([61.0, 71.1, 81.2], [60.0, 70.0, 80.0])
    assert found == pytest.approx((1.1, 1.1 - 0.24843, 1.1 + 0.24843), abs=1e-4)
    with pytest.raises(LabError, match="2 values and 3 others"):
        training.paired_interval([1.0, 2.0], [1.0, 2.0, 3.0])


def test_one_run_has_no_interval():
    with pytest.raises(LabError, match="give a number with 2 <="):
        training.mean_interval([0.9])


def _dropping() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Dropout(0.5), nn.Linear(32, 2))


def _losses(model, **settings):
    """Of a run that can be repeated: a precision that is tried out can be another one the next time."""
    return training.fit(model, _pictures(), steps=4, batch_size=16, threads=1, precision="float32", progress=False,
                        **settings).loss


def test_gradients_that_others_left_are_not_stepped_along():
    clean, used = _linear(), _linear()
    used(_pictures().inputs).square().sum().backward()
    for model in (clean, used):
        training.fit(model, _pictures(), steps=1, batch_size=16, threads=1, precision="float32", progress=False)
    assert torch.equal(clean[1].weight, used[1].weight)
    assert all(value.grad is None for value in used.parameters())


def test_the_seed_covers_what_is_drawn_in_the_forward_pass():
    first = _losses(_dropping(), seed=1)
    torch.manual_seed(99)
    assert _losses(_dropping(), seed=1) == first and _losses(_dropping(), seed=2) != first


def test_no_two_steps_drop_the_same_units():
    masks = []
    def objective(model, batch):
        masks.append(torch.nn.functional.dropout(torch.ones(64), 0.5))
        return training.label_loss(model(batch.inputs), batch)
    training.fit(_linear(), _pictures(), steps=3, batch_size=16, threads=1, precision="float32", progress=False,
                 objective=objective)
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])


def test_training_leaves_the_global_random_states_as_they_were():
    model = _dropping()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    _losses(model, seed=1)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_training_works_where_gradients_are_switched_off_outside(outside):
    inside = _linear()
    with outside():
        found = _losses(inside)
    assert found == _losses(_linear())
    assert not any(value.is_inference() for value in inside.parameters())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_models_of_other_types_are_trained_and_scored_on_inputs_of_theirs(kind):
    model = _linear().to(kind)
    training.fit(model, _pictures(), epochs=10, lr=1e-2, batch_size=16, threads=1, progress=False)
    assert training.evaluate(model, _pictures()).accuracy == 1.0 and model[1].weight.dtype == kind


def test_scoring_gives_every_module_its_mode_back():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.BatchNorm1d(192).eval(), nn.Dropout()), nn.Linear(192, 2))
    model[1].eval()
    before = [module.training for module in model.modules()]
    training.evaluate(model, _pictures())
    assert [module.training for module in model.modules()] == before and True in before and False in before


def test_a_teacher_that_an_objective_holds_keeps_its_mode_and_the_run_names_its_machine():
    class Objective:
        def __init__(self, teacher):
            self.teacher = teacher

        def __call__(self, model, batch):
            return training.label_loss(model(batch.inputs) + 0 * self.teacher(batch.inputs).detach(), batch)

    teacher = _linear().eval()
    history = training.fit(_linear(), _pictures(), steps=1, batch_size=16, threads=1, progress=False,
                           objective=Objective(teacher))
    assert not teacher.training and history.choices["machine"].endswith(", 1 thread")
