"""Known wrong answers to the exercises of `chapters/distillation/feature_distillation`."""

from .. import Mistake

MISTAKES = {
    "feature_distillation.attention_map": (
        Mistake("not normalised", "The map of a loud layer is now larger than that of a quiet one, "
                "and the loss compares loudness.", "Divide each picture's map by its norm: "
                "F.normalize(..., dim=1).", swap={"F.normalize": "", ", dim=1": ""}),
        Mistake("signed", "You averaged the values themselves: what is strongly negative in one "
                "channel cancels what is strongly positive in another.",
                "Square first: maps.pow(2).mean(dim=1).", swap={".pow(2)": ""}),
        Mistake("square of the mean", "You squared after the mean, when the signs had already "
                "cancelled.", "First the square of each value, then the mean over channels.",
                swap={"pow(2).mean(dim=1)": "mean(dim=1).pow(2)"}),
        Mistake("absolute", "This is the mean of absolute values, a relative of the map we asked "
                "for.", "Take squares: they give a place where one channel shouts more than one "
                "where all murmur.", swap={"pow(2)": "abs()"}),
        Mistake("normalised over the batch", "You divided by one norm for the whole batch: a "
                "picture's map now depends on its neighbours.",
                "One norm a picture: F.normalize(..., dim=1).", swap={", dim=1": ", dim=(0, 1)"}),
        Mistake("sums to one", "Your maps sum to 1. Asked for was a Euclidean norm of 1.",
                "F.normalize(..., dim=1) with its default p=2.", swap={", dim=1": ", p=1, dim=1"}),
        Mistake("mean over places", "You averaged over places and kept the channels. A map keeps "
                "places.", "Channels are dimension 1: mean(dim=1), then flatten(1).",
                swap={"mean(dim=1)": "mean(dim=(2, 3))"}),
        Mistake("root taken", "You took the norm over channels: the root flattens the map.",
                "The squares themselves: maps.pow(2).mean(dim=1).",
                swap={"pow(2).mean(dim=1)": "norm(dim=1)"})),
    "feature_distillation.similarity": (
        Mistake("channels", "Your matrices compare channels. It raised nothing only since both "
                "networks have as many here.", "Flatten each picture to one row: maps.flatten(1), "
                "then rows @ rows.T.", swap={".flatten(1)": ".transpose(0, 1).flatten(1)"}),
        Mistake("summed", "The squares are added up: a batch twice as large weighs four times as "
                "much.", "Take the mean over all B * B entries.", swap={".mean()": ".sum()"}),
        Mistake("divided by B", "You divided by B. There are B * B entries.", "pow(2).mean().",
                swap={".mean()": ".sum() / len(student)"}),
        Mistake("not normalised", "The matrices grow with the number of values in a map and with "
                "their size, so these two cannot be compared.",
                "Divide each row of both by its norm before subtracting.",
                swap={"F.normalize(flat @ flat.T, dim=1)": "flat @ flat.T"}),
        Mistake("cosines", "You normalised the features, which gives cosines: a relative of this "
                "loss. Asked for are normalised rows of the matrix of products.",
                "First the products, then F.normalize(products, dim=1).",
                swap={"F.normalize(flat @ flat.T, dim=1)": "flat @ flat.T",
                      "features.flatten(1)": "F.normalize(features.flatten(1), dim=1)"})),
    "feature_distillation.budget": (
        Mistake("upside down", "This is the share that is left. We asked how many times smaller.",
                "One over it.", swap={"** 2 /": "** -2 *"}),
        Mistake("within pictures alone", "You counted the patches within pictures alone.",
                "Add 196 matrices of 128 x 128, and one of 192 x 192.",
                swap={" + 196 * 128**2 + 192**2": ""}),
        Mistake("without the sample", "The sampled patches have a matrix, too.", "Add 192 * 192.",
                swap={" + 192**2": ""}),
        Mistake("one matrix of each", "You counted one picture and one place. There are 128 "
                "pictures and 196 places.", "128 matrices of 196 x 196, 196 of 128 x 128, one of "
                "192 x 192.", swap={"128 * 196**2 + 196 * 128**2": "196**2 + 128**2"}),
        Mistake("sides", "You compared the sides of the matrices. We asked for entries.",
                "Square the sides, and count how many matrices of each there are.",
                answer=128 * 196 / (128 + 196 + 192))),
    "feature_distillation.within": (
        Mistake("class token kept", "Your relations have a row too many: token 0 is the class "
                "token, and no patch.", "Drop it from both: tokens[:, 1:].", swap={"[:, 1:]": ""}),
        Mistake("last patch dropped", "You dropped the last patch. The class token stands in "
                "front.", "Leave out entry 0, not entry -1.", swap={"1:]": ":-1]"}),
        Mistake("across pictures", "You compared the same place of different pictures. That is the "
                "second part; this is about patches of one picture.",
                "Relations are (batch, patches, patches): unit @ unit.transpose(1, 2).",
                swap={"[:, 1:]": "[:, 1:].transpose(0, 1)"}),
        Mistake("not normalised", "These are products of tokens as they come: a wider or louder "
                "model has larger ones.", "Give each token the norm 1 first: F.normalize(tokens, "
                "dim=-1).", swap={"F.normalize": "", ", dim=-1": ""}),
        Mistake("summed", "You added up the entries of a picture's matrix; with more patches the "
                "loss would grow.", "The mean over all entries: pow(2).mean().",
                swap={".mean()": ".sum(dim=(1, 2)).mean()"}),
        Mistake("normalised over patches", "You divided each channel by its norm over the patches.",
                "One norm a token, over its channels: dim=-1.", swap={"dim=-1": "dim=1"}),
        Mistake("centred", "You took each token's mean away first. That is Pearson's correlation, "
                "no cosine.", "Normalise the tokens as they are.",
                swap={"F.normalize(tokens[:, 1:]":
                      "F.normalize(tokens[:, 1:] - tokens[:, 1:].mean(dim=-1, keepdim=True)"}),
        Mistake("itself left out", "You left out the pairs of a patch with itself: they differ by "
                "nothing, and count in the mean.", "The mean over all entries: pow(2).mean().",
                swap={"pow(2).mean()": "pow(2).sum() / relations[0].triu(1).numel() * "
                      "relations[0].shape[1] / (relations[0].shape[1] - 1)"})),
    "feature_distillation.hint": (
        Mistake("gradients into the teacher", "The value is right, but a gradient flows into the "
                "teacher: it would learn to be like its student.", "teacher.detach().",
                swap={".detach()": ""}),
        Mistake("student detached", "The value is right, but nothing flows into the student: the "
                "projector alone would learn.", "Detach the teacher, not the student.",
                swap={"student @": "student.detach() @"}),
        Mistake("projector detached", "The value is right, but the projector never learns: the "
                "student must fit whatever it was drawn as.", "Do not detach the weight.",
                swap={"@ weight": "@ weight.detach()"}),
        Mistake("not projected", "You compared before projecting. Channel 3 of the one network has "
                "nothing to do with channel 3 of the other, even where they are as many.",
                "student @ weight first.", swap={" @ weight": ""}),
        Mistake("teacher projected", "You mapped the teacher into the student's width. A projector "
                "on that side can learn to give zeros, which any student copies.",
                "Map the student: student @ weight.",
                swap={" @ weight": "", "detach()": "detach() @ weight.T"}),
        Mistake("sum", "This is a sum over all numbers: its weight beside the labels' loss would "
                "change with batch, tokens and width.", "Take the mean: .pow(2).mean().",
                swap={".mean()": ".sum()"}),
        Mistake("not halved", "This is the whole mean squared difference. Asked for was half of "
                "it, as in the formula.", "Divide by 2.", swap={" / 2": ""}),
        Mistake("sum a picture", "You divided by the number of pictures alone; the loss still "
                "grows with tokens and width.", "Take the mean over all numbers: .pow(2).mean().",
                swap={".mean()": ".sum() / len(student)"})),
    "feature_distillation.unreachable": (
        Mistake("what is reached", "This is the share that can be reached. We asked for the rest.",
                "1 minus it.", swap={"width:]": ":width]"}),
        Mistake("not squared", "Energy is made of squares.",
                "Square the singular values before you add.", swap={".pow(2)": ""}),
        Mistake("one too many", "You kept one direction too many.", "values[width:] are lost: the "
                "first `width` are numbers 0 to width - 1.", swap={"width:]": "width + 1:]"}),
        Mistake("centred", "You took the mean away first. The map has no bias, so it must reach "
                "the mean, too.", "The singular values of the features as they are.",
                swap={"(features)": "(features - features.mean(dim=0))"}),
        Mistake("first channels", "You kept the first channels of the teacher. A projector may mix "
                "all.", "Directions, not channels: torch.linalg.svdvals.",
                swap={"torch.linalg.svdvals(features).pow(2)": "features.pow(2).sum(dim=0)"}),
        Mistake("loudest channels", "You kept the teacher's loudest channels. Mixtures of channels "
                "do better.", "The best mixtures are the first singular directions.",
                swap={"torch.linalg.svdvals(features)": "features",
                      "pow(2)": "pow(2).sum(dim=0).sort(descending=True).values"}),
        Mistake("not divided", "This is the lost energy itself. Which share of all is it?",
                "Divide by the sum of all squares.", swap={" / energy.sum()": ""}),
        Mistake("ascending", "You dropped the smallest directions: eigenvalues come in ascending "
                "order.", "Flip them, or leave out the last `width`, not the first.",
                swap={"torch.linalg.svdvals(features).pow(2)":
                      "torch.linalg.eigvalsh(features.T @ features)"}),
        Mistake("squared once more", "Eigenvalues of the features' products are squares already.",
                "Square singular values, and leave eigenvalues as they are.",
                swap={"pow(2)": "pow(4)"})),
    "feature_distillation.layers": (
        Mistake("the last block", "Nobody reads the image tokens that leave the student's last "
                "block: the slope of the logits there is zero.", "Take the last block but one, or "
                "an earlier one.", answer=(3, 2)),
        Mistake("the first block", "A loss on block 0 teaches block 0 alone: nothing flows upwards "
                "from it.", "A loss on layer l teaches the blocks 0 to l.", answer=(0, 2)),
        Mistake("the teacher's first layer", "This layer of the teacher hardly tells "
                "the classes apart: read linearly, it is wrong on most of the new pictures.",
                "Read the teacher's layers linearly: the later ones know more.", answer=(2, 0))),
}

RUBRICS = {
    "feature_distillation.looks_alike": (
        (1, "says that the maps agree because the loss asked for just that: it shows that the term "
            "was minimised, on what it compares"),
        (1, "says that where features are strong is not what is done with them: the class token's "
            "reading, or the answer, need not follow"),
        (1, "asks for controls: the untrained student, one trained on labels alone, the maps of "
            "another picture, or a hill in the centre"),
        (1, "measures accuracy against labels alone at equal steps with several seeds, or with a "
            "wrong teacher, or agreement of the answers in place of maps")),
}
