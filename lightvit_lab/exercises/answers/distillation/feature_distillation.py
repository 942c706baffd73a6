"""Known wrong answers to the exercises of `chapters/distillation/feature_distillation`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from .. import Mistake


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


def _relations(tokens: Tensor) -> Tensor:
    """Cosine of each pair of the last but one dimension."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.transpose(-2, -1)


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


MISTAKES = {
    "feature_distillation.attention_map": (
        Mistake("not normalised", "The map of a loud layer is now larger than that of a quiet one, and the loss compares loudness.",
                "Divide each picture's map by its norm: F.normalize(..., dim=1).", answer=_map_not_normalised),
        Mistake("signed", "You averaged the values themselves: what is strongly negative in one channel cancels what is strongly positive in another.",
                "Square first: maps.pow(2).mean(dim=1).", answer=_map_signed),
        Mistake("square of the mean", "You squared after the mean, when the signs had already cancelled.",
                "First the square of each value, then the mean over channels.", answer=_map_square_of_mean),
        Mistake("absolute", "This is the mean of absolute values, a relative of the map we asked for.",
                "Take squares: they give a place where one channel shouts more than one where all murmur.", answer=_map_absolute),
        Mistake("normalised over the batch", "You divided by one norm for the whole batch: a picture's map now depends on its neighbours.",
                "One norm a picture: F.normalize(..., dim=1).", answer=_map_over_the_batch),
        Mistake("sums to one", "Your maps sum to 1. Asked for was a Euclidean norm of 1.",
                "F.normalize(..., dim=1) with its default p=2.", answer=_map_sums_to_one),
        Mistake("mean over places", "You averaged over places and kept the channels. A map keeps places.",
                "Channels are dimension 1: mean(dim=1), then flatten(1).", answer=_map_over_places),
    ),
    "feature_distillation.similarity": (
        Mistake("channels", "Your matrices compare channels. It raised nothing only since both networks have as many here.",
                "Flatten each picture to one row: maps.flatten(1), then rows @ rows.T.", answer=_similarity_of_channels),
        Mistake("summed", "The squares are added up: a batch twice as large weighs four times as much.",
                "Take the mean over all B * B entries.", answer=_similarity_summed),
        Mistake("divided by B", "You divided by B. There are B * B entries.",
                "pow(2).mean().", answer=_similarity_per_picture),
        Mistake("not normalised", "The matrices grow with the number of values in a map and with their size, so these two cannot be compared.",
                "Divide each row of both by its norm before subtracting.", answer=_similarity_not_normalised),
        Mistake("cosines", "You normalised the features, which gives cosines: a relative of this loss. Asked for are normalised rows of the matrix of products.",
                "First the products, then F.normalize(products, dim=1).", answer=_similarity_by_cosine),
    ),
    "feature_distillation.budget": (
        Mistake("upside down", "This is the share that is left. We asked how many times smaller.",
                "One over it.", answer=(128 * 196**2 + 196 * 128**2 + 192**2) / (128 * 196) ** 2),
        Mistake("within pictures alone", "You counted the patches within pictures alone.",
                "Add 196 matrices of 128 x 128, and one of 192 x 192.", answer=(128 * 196) ** 2 / (128 * 196**2)),
        Mistake("without the sample", "The sampled patches have a matrix, too.",
                "Add 192 * 192.", answer=(128 * 196) ** 2 / (128 * 196**2 + 196 * 128**2)),
        Mistake("one matrix of each", "You counted one picture and one place. There are 128 pictures and 196 places.",
                "128 matrices of 196 x 196, 196 of 128 x 128, one of 192 x 192.", answer=(128 * 196) ** 2 / (196**2 + 128**2 + 192**2)),
        Mistake("sides", "You compared the sides of the matrices. We asked for entries.",
                "Square the sides, and count how many matrices of each there are.", answer=128 * 196 / (128 + 196 + 192)),
    ),
    "feature_distillation.within": (
        Mistake("class token kept", "Your relations have a row too many: token 0 is the class token, and no patch.",
                "Drop it from both: tokens[:, 1:].", answer=_within_class_token_kept),
        Mistake("last patch dropped", "You dropped the last patch. The class token stands in front.",
                "Leave out entry 0, not entry -1.", answer=_within_last_dropped),
        Mistake("across pictures", "You compared the same place of different pictures. That is the second part; this is about patches of one picture.",
                "Relations are (batch, patches, patches): unit @ unit.transpose(1, 2).", answer=_within_places),
        Mistake("not normalised", "These are products of tokens as they come: a wider or louder model has larger ones.",
                "Give each token the norm 1 first: F.normalize(tokens, dim=-1).", answer=_within_not_normalised),
        Mistake("summed", "You added up the entries of a picture's matrix; with more patches the loss would grow.",
                "The mean over all entries: pow(2).mean().", answer=_within_summed),
        Mistake("normalised over patches", "You divided each channel by its norm over the patches.",
                "One norm a token, over its channels: dim=-1.", answer=_within_normalised_over_tokens),
    ),
    "feature_distillation.hint": (
        Mistake("gradients into the teacher", "The value is right, but a gradient flows into the teacher: it would learn to be like its student.",
                "teacher.detach().", answer=_hint_teaches_the_teacher),
        Mistake("student detached", "The value is right, but nothing flows into the student: the projector alone would learn.",
                "Detach the teacher, not the student.", answer=_hint_student_detached),
        Mistake("projector detached", "The value is right, but the projector never learns: the student must fit whatever it was drawn as.",
                "Do not detach the weight.", answer=_hint_projector_detached),
        Mistake("not projected", "You compared before projecting. Channel 3 of the one network has nothing to do with channel 3 of the other, even where they are as many.",
                "student @ weight first.", answer=_hint_not_projected),
        Mistake("teacher projected", "You mapped the teacher into the student's width. A projector on that side can learn to give zeros, which any student copies.",
                "Map the student: student @ weight.", answer=_hint_teacher_projected),
        Mistake("sum", "This is a sum over all numbers: its weight beside the labels' loss would change with batch, tokens and width.",
                "Take the mean: .pow(2).mean().", answer=_hint_summed),
        Mistake("not halved", "This is the whole mean squared difference. Asked for was half of it, as in the formula.",
                "Divide by 2.", answer=_hint_not_halved),
        Mistake("sum a picture", "You divided by the number of pictures alone; the loss still grows with tokens and width.",
                "Take the mean over all numbers: .pow(2).mean().", answer=_hint_batchmean),
    ),
    "feature_distillation.unreachable": (
        Mistake("what is reached", "This is the share that can be reached. We asked for the rest.",
                "1 minus it.", answer=_energy_reached),
        Mistake("not squared", "Energy is made of squares.",
                "Square the singular values before you add.", answer=_energy_not_squared),
        Mistake("one too many", "You kept one direction too many.",
                "values[width:] are lost: the first `width` are numbers 0 to width - 1.", answer=_energy_one_too_many),
        Mistake("centred", "You took the mean away first. The map has no bias, so it must reach the mean, too.",
                "The singular values of the features as they are.", answer=_energy_centred),
        Mistake("first channels", "You kept the first channels of the teacher. A projector may mix all.",
                "Directions, not channels: torch.linalg.svdvals.", answer=_energy_of_channels),
        Mistake("loudest channels", "You kept the teacher's loudest channels. Mixtures of channels do better.",
                "The best mixtures are the first singular directions.", answer=_energy_of_loudest),
        Mistake("not divided", "This is the lost energy itself. Which share of all is it?",
                "Divide by the sum of all squares.", answer=_energy_absolute),
    ),
}
