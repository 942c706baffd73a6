"""Checks of the exercises in `chapters/distillation/feature_distillation`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine import Exercise, Mistake


def _attention_map(maps: Tensor) -> Tensor:
    return F.normalize(maps.pow(2).mean(dim=1).flatten(1), dim=1)


def _map_not_normalised(maps: Tensor) -> Tensor:
    return maps.pow(2).mean(dim=1).flatten(1)


def _map_signed(maps: Tensor) -> Tensor:
    return F.normalize(maps.mean(dim=1).flatten(1), dim=1)


def _map_square_of_mean(maps: Tensor) -> Tensor:
    return F.normalize(maps.mean(dim=1).pow(2).flatten(1), dim=1)


def _map_absolute(maps: Tensor) -> Tensor:
    return F.normalize(maps.abs().mean(dim=1).flatten(1), dim=1)


def _map_over_the_batch(maps: Tensor) -> Tensor:
    found = maps.pow(2).mean(dim=1).flatten(1)
    return found / found.norm()


def _map_sums_to_one(maps: Tensor) -> Tensor:
    return F.normalize(maps.pow(2).mean(dim=1).flatten(1), p=1, dim=1)


def _map_over_places(maps: Tensor) -> Tensor:
    return F.normalize(maps.pow(2).mean(dim=(2, 3)), dim=1)


def _maps(generator: torch.Generator) -> list[tuple]:
    return [(torch.randn(size, generator=generator) + 0.3,) for size in ((3, 5, 4, 4), (2, 8, 3, 3), (4, 2, 5, 5))]


def _gram(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return flat @ flat.T


def _similarity(student: Tensor, teacher: Tensor) -> Tensor:
    return (F.normalize(_gram(student), dim=1) - F.normalize(_gram(teacher), dim=1)).pow(2).mean()


def _similarity_of_channels(student: Tensor, teacher: Tensor) -> Tensor:
    def gram(maps: Tensor) -> Tensor:
        channels = maps.transpose(0, 1).flatten(1)
        return F.normalize(channels @ channels.T, dim=1)

    return (gram(student) - gram(teacher)).pow(2).mean()


def _similarity_summed(student: Tensor, teacher: Tensor) -> Tensor:
    return len(student) ** 2 * _similarity(student, teacher)


def _similarity_per_picture(student: Tensor, teacher: Tensor) -> Tensor:
    return len(student) * _similarity(student, teacher)


def _similarity_not_normalised(student: Tensor, teacher: Tensor) -> Tensor:
    return (_gram(student) - _gram(teacher)).pow(2).mean()


def _similarity_by_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    cosines = [_gram(F.normalize(features.flatten(1), dim=1)) for features in (student, teacher)]
    return (cosines[0] - cosines[1]).pow(2).mean()


def _batches(generator: torch.Generator) -> list[tuple]:
    """Maps of student and teacher with as many channels, so that comparing channels raises nothing."""
    return [tuple(torch.randn(size, 6, side, side, generator=generator) + 0.2 for side in (4, 3)) for size in (5, 4, 7)]


def _relations(tokens: Tensor) -> Tensor:
    """Cosine of each pair of the last but one dimension."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.transpose(-2, -1)


def _within(student: Tensor, teacher: Tensor) -> Tensor:
    return (_relations(student[:, 1:]) - _relations(teacher[:, 1:])).pow(2).mean()


def _within_class_token_kept(student: Tensor, teacher: Tensor) -> Tensor:
    return (_relations(student) - _relations(teacher)).pow(2).mean()


def _within_last_dropped(student: Tensor, teacher: Tensor) -> Tensor:
    return (_relations(student[:, :-1]) - _relations(teacher[:, :-1])).pow(2).mean()


def _within_places(student: Tensor, teacher: Tensor) -> Tensor:
    between = [_relations(tokens[:, 1:].transpose(0, 1)) for tokens in (student, teacher)]
    return (between[0] - between[1]).pow(2).mean()


def _within_not_normalised(student: Tensor, teacher: Tensor) -> Tensor:
    products = [tokens[:, 1:] @ tokens[:, 1:].transpose(1, 2) for tokens in (student, teacher)]
    return (products[0] - products[1]).pow(2).mean()


def _within_summed(student: Tensor, teacher: Tensor) -> Tensor:
    return (_relations(student[:, 1:]) - _relations(teacher[:, 1:])).pow(2).sum(dim=(1, 2)).mean()


def _within_normalised_over_tokens(student: Tensor, teacher: Tensor) -> Tensor:
    unit = [F.normalize(tokens[:, 1:], dim=1) for tokens in (student, teacher)]
    products = [tokens @ tokens.transpose(1, 2) for tokens in unit]
    return (products[0] - products[1]).pow(2).mean()


def _token_pairs(generator: torch.Generator) -> list[tuple]:
    return [tuple(torch.randn(size, 7, dim, generator=generator) for dim in (4, 9)) for size in (3, 2, 4)]


def _hint(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student @ weight - teacher.detach()).pow(2).mean() / 2


def _hint_teaches_the_teacher(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student @ weight - teacher).pow(2).mean() / 2


def _hint_student_detached(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student.detach() @ weight - teacher.detach()).pow(2).mean() / 2


def _hint_projector_detached(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student @ weight.detach() - teacher.detach()).pow(2).mean() / 2


def _hint_not_projected(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student - teacher.detach()).pow(2).mean() / 2


def _hint_teacher_projected(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student - teacher.detach() @ weight.T).pow(2).mean() / 2


def _hint_summed(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return (student @ weight - teacher.detach()).pow(2).sum() / 2


def _hint_not_halved(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return 2 * _hint(student, teacher, weight)


def _hint_batchmean(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return _hint_summed(student, teacher, weight) / len(student)


def _with_gradients(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """The loss, and what flows back into student, teacher and projector; zeros where nothing does."""
    def differentiated(*tensors: Tensor) -> tuple[Tensor, ...]:
        value = loss(*tensors)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value, *map(torch.zeros_like, tensors)
        slopes = torch.autograd.grad(value, tensors, allow_unused=True)
        return value, *(torch.zeros_like(one) if slope is None else slope for one, slope in zip(tensors, slopes))

    return differentiated


def _hints(generator: torch.Generator) -> list[tuple]:
    """Student, teacher (as wide, so that not to project raises nothing) and projector, all with
    gradients.
    """
    shapes = ((3, 4, 5), (3, 4, 5), (5, 5))
    return [tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes) for _ in range(3)]


def _unreachable(features: Tensor, width: int) -> Tensor:
    energy = torch.linalg.svdvals(features).pow(2)
    return energy[width:].sum() / energy.sum()


def _energy_reached(features: Tensor, width: int) -> Tensor:
    return 1 - _unreachable(features, width)


def _energy_not_squared(features: Tensor, width: int) -> Tensor:
    values = torch.linalg.svdvals(features)
    return values[width:].sum() / values.sum()


def _energy_one_too_many(features: Tensor, width: int) -> Tensor:
    return _unreachable(features, width + 1)


def _energy_centred(features: Tensor, width: int) -> Tensor:
    return _unreachable(features - features.mean(dim=0), width)


def _energy_of_channels(features: Tensor, width: int) -> Tensor:
    energy = features.pow(2).sum(dim=0)
    return energy[width:].sum() / energy.sum()


def _energy_of_loudest(features: Tensor, width: int) -> Tensor:
    energy = features.pow(2).sum(dim=0).sort(descending=True).values
    return energy[width:].sum() / energy.sum()


def _energy_absolute(features: Tensor, width: int) -> Tensor:
    return torch.linalg.svdvals(features)[width:].pow(2).sum()


def _features(generator: torch.Generator) -> list[tuple]:
    """Features of 40 tokens and 8 channels: energy falls from direction to direction, and the mean
    is not zero.
    """
    def draw() -> Tensor:
        mixed = torch.randn(40, 8, generator=generator) * 0.7 ** torch.arange(8)
        return mixed @ torch.randn(8, 8, generator=generator) + 0.5

    return [(draw(), width) for width in (3, 2, 5)]


EXERCISES = (
    Exercise(
        id="feature_distillation.attention_map", prompt="The attention map of a layer's maps", points=2, minutes=8,
        solution=_attention_map, cases=_maps, mistakes=(
            Mistake("not normalised", _map_not_normalised, "The map of a loud layer is now larger than that of a quiet "
                    "one, and the loss compares loudness.",
                    "Divide each picture's map by its norm: F.normalize(..., dim=1)."),
            Mistake("signed", _map_signed, "You averaged the values themselves: what is strongly negative in one "
                    "channel cancels what is strongly positive in another.", "Square first: maps.pow(2).mean(dim=1)."),
            Mistake("square of the mean", _map_square_of_mean, "You squared after the mean, when the signs had already "
                    "cancelled.", "First the square of each value, then the mean over channels."),
            Mistake("absolute", _map_absolute, "This is the mean of absolute values, a relative of the map we asked "
                    "for.",
                    "Take squares: they give a place where one channel shouts more than one where all murmur."),
            Mistake("normalised over the batch", _map_over_the_batch, "You divided by one norm for the whole batch: a "
                    "picture's map now depends on its neighbours.", "One norm a picture: F.normalize(..., dim=1)."),
            Mistake("sums to one", _map_sums_to_one, "Your maps sum to 1. Asked for was a Euclidean norm of 1.",
                    "F.normalize(..., dim=1) with its default p=2."),
            Mistake("mean over places", _map_over_places, "You averaged over places and kept the channels. A map "
                    "keeps places.",
                    "Channels are dimension 1: mean(dim=1), then flatten(1)."),
        )),
    Exercise(
        id="feature_distillation.similarity", prompt="The loss that preserves similarities of pictures",
        points=2, minutes=10,
        solution=_similarity, cases=_batches, mistakes=(
            Mistake("channels", _similarity_of_channels, "Your matrices compare channels. It raised nothing only since "
                    "both networks have as many here.",
                    "Flatten each picture to one row: maps.flatten(1), then rows @ rows.T."),
            Mistake("summed", _similarity_summed, "The squares are added up: a batch twice as large weighs four "
                    "times as much.",
                    "Take the mean over all B * B entries."),
            Mistake("divided by B", _similarity_per_picture, "You divided by B. There are B * B entries.",
                    "pow(2).mean()."),
            Mistake("not normalised", _similarity_not_normalised, "The matrices grow with the number of values in a "
                    "map and with their size, so these two cannot be compared.",
                    "Divide each row of both by its norm before subtracting."),
            Mistake("cosines", _similarity_by_cosine, "You normalised the features, which gives cosines: a relative of "
                    "this loss. Asked for are normalised rows of the matrix of products.", "First the products, then "
                    "F.normalize(products, dim=1)."),
        )),
    Exercise(
        id="feature_distillation.budget", prompt="By which factor small matrices are smaller than one of all pairs",
        points=1, minutes=6, cases=None, tolerance=2e-3,
        solution=(128 * 196) ** 2 / (128 * 196**2 + 196 * 128**2 + 192**2), mistakes=(
            Mistake("upside down", (128 * 196**2 + 196 * 128**2 + 192**2) / (128 * 196) ** 2, "This is the share that "
                    "is left. We asked how many times smaller.", "One over it."),
            Mistake("within pictures alone", (128 * 196) ** 2 / (128 * 196**2), "You counted the patches within "
                    "pictures alone.",
                    "Add 196 matrices of 128 x 128, and one of 192 x 192."),
            Mistake("without the sample", (128 * 196) ** 2 / (128 * 196**2 + 196 * 128**2), "The sampled patches have "
                    "a matrix, too.", "Add 192 * 192."),
            Mistake("one matrix of each", (128 * 196) ** 2 / (196**2 + 128**2 + 192**2), "You counted one picture and "
                    "one place. There are 128 pictures and 196 places.",
                    "128 matrices of 196 x 196, 196 of 128 x 128, one of 192 x 192."),
            Mistake("sides", 128 * 196 / (128 + 196 + 192), "You compared the sides of the matrices. We asked for "
                    "entries.",
                    "Square the sides, and count how many matrices of each there are."),
        )),
    Exercise(
        id="feature_distillation.within", prompt="Relations between the patches of each picture", points=2, minutes=10,
        solution=_within, cases=_token_pairs, mistakes=(
            Mistake("class token kept", _within_class_token_kept, "Your relations have a row too many: token 0 is the "
                    "class token, and no patch.", "Drop it from both: tokens[:, 1:]."),
            Mistake("last patch dropped", _within_last_dropped, "You dropped the last patch. The class token stands "
                    "in front.",
                    "Leave out entry 0, not entry -1."),
            Mistake("across pictures", _within_places, "You compared the same place of different pictures. That is the "
                    "second part; this is about patches of one picture.", "Relations are (batch, patches, patches): "
                    "unit @ unit.transpose(1, 2)."),
            Mistake("not normalised", _within_not_normalised, "These are products of tokens as they come: a wider or "
                    "louder model has larger ones.", "Give each token the norm 1 first: F.normalize(tokens, dim=-1)."),
            Mistake("summed", _within_summed, "You added up the entries of a picture's matrix; with more patches the "
                    "loss would grow.", "The mean over all entries: pow(2).mean()."),
            Mistake("normalised over patches", _within_normalised_over_tokens, "You divided each channel by its norm "
                    "over the patches.", "One norm a token, over its channels: dim=-1."),
        )),
    Exercise(
        id="feature_distillation.hint", prompt="A hint through a projector that teaches whom it should",
        points=2, minutes=10,
        solution=_hint, cases=_hints, prepare=_with_gradients, mistakes=(
            Mistake("gradients into the teacher", _hint_teaches_the_teacher, "The value is right, but a gradient flows "
                    "into the teacher: it would learn to be like its student.", "teacher.detach()."),
            Mistake("student detached", _hint_student_detached, "The value is right, but nothing flows into the "
                    "student: the projector alone would learn.", "Detach the teacher, not the student."),
            Mistake("projector detached", _hint_projector_detached, "The value is right, but the projector never "
                    "learns: the student must fit whatever it was drawn as.", "Do not detach the weight."),
            Mistake("not projected", _hint_not_projected, "You compared before projecting. Channel 3 of the one "
                    "network has nothing to do with channel 3 of the other, even where they are as many.",
                    "student @ weight first."),
            Mistake("teacher projected", _hint_teacher_projected, "You mapped the teacher into the student's width. A "
                    "projector on that side can learn to give zeros, which any student copies.",
                    "Map the student: student @ weight."),
            Mistake("sum", _hint_summed, "This is a sum over all numbers: its weight beside the labels' loss would "
                    "change with batch, tokens and width.", "Take the mean: .pow(2).mean()."),
            Mistake("not halved", _hint_not_halved, "This is the whole mean squared difference. Asked for was half of "
                    "it, as in the formula.", "Divide by 2."),
            Mistake("sum a picture", _hint_batchmean, "You divided by the number of pictures alone; the loss still "
                    "grows with tokens and width.", "Take the mean over all numbers: .pow(2).mean()."),
        )),
    Exercise(
        id="feature_distillation.unreachable", prompt="What no student of a given width can reach",
        points=2, minutes=12,
        solution=_unreachable, cases=_features, tolerance=1e-4, mistakes=(
            Mistake("what is reached", _energy_reached, "This is the share that can be reached. We asked for the rest.",
                    "1 minus it."),
            Mistake("not squared", _energy_not_squared, "Energy is made of squares.",
                    "Square the singular values before you add."),
            Mistake("one too many", _energy_one_too_many, "You kept one direction too many.", "values[width:] are "
                    "lost: the first `width` are numbers 0 to width - 1."),
            Mistake("centred", _energy_centred, "You took the mean away first. The map has no bias, so it must reach "
                    "the mean, too.",
                    "The singular values of the features as they are."),
            Mistake("first channels", _energy_of_channels, "You kept the first channels of the teacher. A projector "
                    "may mix all.",
                    "Directions, not channels: torch.linalg.svdvals."),
            Mistake("loudest channels", _energy_of_loudest, "You kept the teacher's loudest channels. Mixtures of "
                    "channels do better.", "The best mixtures are the first singular directions."),
            Mistake("not divided", _energy_absolute, "This is the lost energy itself. Which share of all is it?",
                    "Divide by the sum of all squares."),
        )),
)
