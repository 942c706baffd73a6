"""Known wrong answers to the exercises of `chapters/distillation/feature_distillation`."""

from .. import Mistake

MISTAKES = {
    "feature_distillation.attention_map": (
        Mistake("not normalised", "The map of a layer with large features is now larger than that "
                "of other layers, and the loss compares these sizes.", "Divide each picture's map "
                "by its norm: F.normalize(..., dim=1).", swap={"F.normalize": "", ", dim=1": ""}),
        Mistake("signed", "You averaged the values themselves: a strongly negative value in one "
                "channel cancels a strongly positive one in another.",
                "Square first: maps.pow(2).mean(dim=1).", swap={".pow(2)": ""}),
        Mistake("square of the mean", "You squared after the mean. But in the mean, positive and "
                "negative values have already cancelled.", "First the square of each value, then "
                "the mean over channels.", swap={"pow(2).mean(dim=1)": "mean(dim=1).pow(2)"}),
        Mistake("absolute", "This is the mean of absolute values, a similar map, but not the one "
                "that we asked for.", "Take squares: one very strong channel then counts more "
                "than many weak ones.", swap={"pow(2)": "abs()"}),
        Mistake("normalised over the batch", "You divided by one norm for the complete batch: a "
                "picture's map now depends on other pictures.", "Use one norm for each picture: "
                "F.normalize(..., dim=1).", swap={", dim=1": ", dim=(0, 1)"}),
        Mistake("sums to one", "Your maps sum to 1. We asked for a Euclidean norm of 1.",
                "F.normalize(..., dim=1) with its default p=2.", swap={", dim=1": ", p=1, dim=1"}),
        Mistake("mean over places", "You averaged over places and kept the channels. A map keeps "
                "the places.", "Channels are dimension 1: mean(dim=1), then flatten(1).",
                swap={"mean(dim=1)": "mean(dim=(2, 3))"}),
        Mistake("root taken", "You took the norm over channels: the root makes the map flatter.",
                "Use the squares themselves: maps.pow(2).mean(dim=1).",
                swap={"pow(2).mean(dim=1)": "norm(dim=1)"})),
    "feature_distillation.similarity": (
        Mistake("channels", "Your matrices compare channels. There was no error only because both "
                "networks have the same number of channels here.", "Flatten each picture to one "
                "row: maps.flatten(1), then rows @ rows.T.",
                swap={".flatten(1)": ".transpose(0, 1).flatten(1)"}),
        Mistake("summed", "The squares are added up: a batch twice as large gives a loss four "
                "times as large.", "Take the mean over all B * B entries.",
                swap={".mean()": ".sum()"}),
        Mistake("divided by B", "You divided by B. But there are B * B entries.", "Use "
                "pow(2).mean().", swap={".mean()": ".sum() / len(student)"}),
        Mistake("not normalised", "The matrices grow with the number and the size of the values in "
                "a map, so these two cannot be compared.", "Divide each row of both by its norm "
                "before subtracting.", swap={"F.normalize(flat @ flat.T, dim=1)": "flat @ flat.T"}),
        Mistake("cosines", "You normalised the features, which gives cosines: a similar loss. We "
                "asked for normalised rows of the matrix of products.",
                "First the products, then F.normalize(products, dim=1).",
                swap={"F.normalize(flat @ flat.T, dim=1)": "flat @ flat.T",
                      "features.flatten(1)": "F.normalize(features.flatten(1), dim=1)"})),
    "feature_distillation.budget": (
        Mistake("upside down", "This is the share that is left. We asked for the factor.",
                "Take the inverse.", swap={"** 2 /": "** -2 *"}),
        Mistake("within pictures alone", "You counted only the pairs within pictures.",
                "Add 196 matrices of 128 x 128, and one of 192 x 192.",
                swap={" + 196 * 128**2 + 192**2": ""}),
        Mistake("without the sample", "The sampled patches have a matrix, too.", "Add 192 * 192 "
                "entries.", swap={" + 192**2": ""}),
        Mistake("one matrix of each", "You counted one picture and one place. There are 128 "
                "pictures and 196 places.", "128 matrices of 196 x 196, 196 of 128 x 128, one of "
                "192 x 192.", swap={"128 * 196**2 + 196 * 128**2": "196**2 + 128**2"}),
        Mistake("sides", "You compared the sides of the matrices. We asked for the entries.",
                "Square the sides, and count how many matrices of each there are.",
                answer=128 * 196 / (128 + 196 + 192))),
    "feature_distillation.within": (
        Mistake("class token kept", "Your relations have one row too many: token 0 is the class "
                "token, not a patch.", "Drop it from both: tokens[:, 1:].", swap={"[:, 1:]": ""}),
        Mistake("last patch dropped", "You dropped the last patch. The class token comes "
                "first.", "Leave out entry 0, not entry -1.", swap={"1:]": ":-1]"}),
        Mistake("across pictures", "You compared the same place in different pictures. That is the "
                "second part; here we compare patches of one picture.",
                "Relations are (batch, patches, patches): unit @ unit.transpose(1, 2).",
                swap={"[:, 1:]": "[:, 1:].transpose(0, 1)"}),
        Mistake("not normalised", "These are products of tokens without normalisation: a model "
                "with wider tokens or larger features has larger ones.", "First give each token "
                "the norm 1: F.normalize(tokens, dim=-1).",
                swap={"F.normalize": "", ", dim=-1": ""}),
        Mistake("summed", "You added up the entries of a picture's matrix; with more patches the "
                "loss would grow.", "Take the mean, not the sum: pow(2).mean().",
                swap={".mean()": ".sum(dim=(1, 2)).mean()"}),
        Mistake("normalised over patches", "You divided each channel by its norm over the patches.",
                "Use one norm for each token, over its channels: dim=-1.",
                swap={"dim=-1": "dim=1"}),
        Mistake("centred", "You subtracted each token's mean first. That is Pearson's correlation, "
                "not a cosine.", "Normalise the tokens without subtracting anything.",
                swap={"F.normalize(tokens[:, 1:]":
                      "F.normalize(tokens[:, 1:] - tokens[:, 1:].mean(dim=-1, keepdim=True)"}),
        Mistake("itself left out", "You left out the pairs of a patch with itself. Their "
                "difference is 0, but they count in the mean.", "Take the mean over all entries: "
                "pow(2).mean().",
                swap={"pow(2).mean()": "pow(2).sum() / relations[0].triu(1).numel() * "
                      "relations[0].shape[1] / (relations[0].shape[1] - 1)"})),
    "feature_distillation.hint": (
        Mistake("gradients into the teacher", "The value is right, but a gradient flows into the "
                "teacher: it would learn to be like its student.", "Use teacher.detach().",
                swap={".detach()": ""}),
        Mistake("student detached", "The value is right, but nothing flows into the student: the "
                "projector alone would learn.", "Detach the teacher, not the student.",
                swap={"student @": "student.detach() @"}),
        Mistake("projector detached", "The value is right, but the projector never learns: it "
                "keeps its random weights.", "Do not detach the weight.",
                swap={"@ weight": "@ weight.detach()"}),
        Mistake("not projected", "You compared without projection. Channel 3 of one network has "
                "nothing to do with channel 3 of the other, even if the numbers of channels are "
                "equal.", "First compute student @ weight.", swap={" @ weight": ""}),
        Mistake("teacher projected", "You mapped the teacher to the student's width. A projector "
                "on that side can learn to give zeros, which are easy to copy.",
                "Map the student: student @ weight.",
                swap={" @ weight": "", "detach()": "detach() @ weight.T"}),
        Mistake("sum", "This is a sum over all numbers: its weight beside the labels' loss would "
                "change with batch, tokens and width.", "Take the mean: .pow(2).mean().",
                swap={".mean()": ".sum()"}),
        Mistake("not halved", "This is the mean squared difference. We asked for half of it, "
                "as in the formula.", "Divide by 2.", swap={" / 2": ""}),
        Mistake("sum a picture", "You divided only by the number of pictures; the loss still "
                "grows with tokens and width.", "Take the mean over all numbers: .pow(2).mean().",
                swap={".mean()": ".sum() / len(student)"})),
    "feature_distillation.unreachable": (
        Mistake("what is reached", "This is the share that can be reached. We asked for the rest.",
                "Take 1 minus this share.", swap={"width:]": ":width]"}),
        Mistake("not squared", "We asked for a share of squares.",
                "Square the singular values before you add.", swap={".pow(2)": ""}),
        Mistake("one too many", "You kept one direction too many.", "values[width:] are lost: the "
                "first `width` are numbers 0 to width - 1.", swap={"width:]": "width + 1:]"}),
        Mistake("centred", "You subtracted the mean first. The map has no bias, so it must reach "
                "the mean, too.", "Use the singular values of the features without subtracting "
                "anything.", swap={"(features)": "(features - features.mean(dim=0))"}),
        Mistake("first channels", "You kept the first channels of the teacher. A projector can mix "
                "all channels.", "Use directions, not channels: torch.linalg.svdvals.",
                swap={"torch.linalg.svdvals(features).pow(2)": "features.pow(2).sum(dim=0)"}),
        Mistake("loudest channels", "You kept the teacher's strongest channels. Mixtures of "
                "channels can reach more.", "The best mixtures are the first singular directions.",
                swap={"torch.linalg.svdvals(features)": "features",
                      "pow(2)": "pow(2).sum(dim=0).sort(descending=True).values"}),
        Mistake("not divided", "This is the sum of the lost squares. Which share of all squares is "
                "it?", "Divide by the sum of all squares.", swap={" / energy.sum()": ""}),
        Mistake("ascending", "You dropped the smallest directions: eigenvalues come in ascending "
                "order.", "Flip the order, or leave out the last `width` values, not the first.",
                swap={"torch.linalg.svdvals(features).pow(2)":
                      "torch.linalg.eigvalsh(features.T @ features)"}),
        Mistake("squared once more", "The eigenvalues of the features' products are already "
                "squares.", "Square singular values, but do not square eigenvalues.",
                swap={"pow(2)": "pow(4)"})),
    "feature_distillation.layers": (
        Mistake("the last block", "The image tokens that leave the student's last block are not "
                "used: the slope of the logits there is zero.", "Take the second-to-last block, or "
                "an earlier one.", answer=(3, 2)),
        Mistake("the first block", "A loss on block 0 trains only block 0: no gradient flows to "
                "later blocks.", "A loss on layer l trains the blocks 0 to l.", answer=(0, 2)),
        Mistake("the teacher's first layer", "This layer of the teacher knows little about the "
                "classes: a linear classifier on it is wrong on most of the new pictures.", "Try "
                "the linear classifier on all layers of the teacher: the later ones know more.",
                answer=(2, 0))),
}

RUBRICS = {
    "feature_distillation.looks_alike": (
        (1, "says that the maps agree because the loss compares exactly these maps: it shows only "
            "that the term was minimised"),
        (1, "says that strong features at a place do not mean that they are used: the class "
            "token's attention, or the answer, need not follow"),
        (1, "asks for controls: the untrained student, one trained on labels alone, the maps of "
            "another picture, or a hill in the centre"),
        (1, "measures accuracy against labels alone at equal steps with several seeds, or with a "
            "wrong teacher, or agreement of the answers instead of maps")),
}
