"""Known wrong answers to the exercises of `chapters/dynamic/token_merging`."""

from .. import Mistake

MISTAKES = {
    "token_merging.match": (
        Mistake("by product", "You compared by dot products: a long key is then like everybody. "
                "The matching compares directions.", "Normalise first: F.normalize(metric, "
                "dim=-1).", swap={"torch.nn.functional.normalize(metric, dim=-1)": "metric"}),
        Mistake("least alike", "These are the pairs that have least in common.",
                "Sort by likeness, falling.", swap={"descending=True": ""}),
        Mistake("numbers within the sets", "The right pairs, but numbered within A and B. We asked "
                "for the numbers of the tokens.", "Token 2 i is the i-th of A, token 2 i + 1 the "
                "i-th of B.", swap={"2 * ": "", " + 1": ""}),
        Mistake("columns swapped", "The right pairs, the wrong way round: first the one that goes, "
                "from A, then the one that it goes into.", "torch.stack([going, into], dim=1).",
                swap={"+ 1], dim=1)": "+ 1], dim=1).flip(1)"}),
        Mistake("two halves", "Your A is the first half and B the second. Neighbours, which are "
                "alike most often, are then in the same set and never meet.",
                "Alternate: metric[::2], metric[1::2].",
                swap={"[::2]": ".chunk(2)[0]", "[1::2]": ".chunk(2)[1]", "2 * ": "",
                      "+ 1": "+ len(unit) // 2"}),
        Mistake("asked by B", "Every token of B looks for its like in A here. It is A that asks, "
                "and A that goes.", "likeness (A, B), its maximum over dim=1.",
                swap={"likeness.max": "likeness.T.max",
                      "going, 2 * partner[going] + 1": "going + 1, 2 * partner[going]"}),
        Mistake("whole table", "You took the best entries of the whole table: a token that is like "
                "two others would go twice.", "First the best partner of each token of A, then the "
                "r best of those pairs.", body="""
                unit = torch.nn.functional.normalize(metric, dim=-1)
                likeness = unit[::2] @ unit[1::2].T
                best = likeness.flatten().argsort(descending=True)[:r]
                width = likeness.shape[1]
                return torch.stack([2 * (best // width), 2 * (best % width) + 1], dim=1)"""),
        Mistake("each partner once", "Each token of B takes one token of A at most in your answer. "
                "Several may go into the same one.", "Each token of A has its best partner, "
                "whoever else has that one.", body="""
                unit, pairs = torch.nn.functional.normalize(metric, dim=-1), []
                likeness = unit[::2] @ unit[1::2].T
                for _ in range(r):
                    one, other = divmod(likeness.argmax().item(), likeness.shape[1])
                    pairs.append((2 * one, 2 * other + 1))
                    likeness[one], likeness[:, other] = -2, -2
                return torch.tensor(pairs)""")),
    "token_merging.mean": (
        Mistake("each once", "You counted each token once. One that stands for five patches should "
                "count five times, or early merges fade.", "Weigh by sizes.",
                swap={" * sizes[:, None]": "", "goes.T @ sizes": "goes.sum(0)"}),
        Mistake("not divided", "This is the weighted sum. It grows with every merge, and nobody "
                "trained the MLP for such tokens.", "Divide by the sum of the sizes.",
                swap={" / (goes.T @ sizes)[:, None]": ""}),
        Mistake("divided by how many", "You divided by the number of tokens. The weights were "
                "sizes, so that does not make a mean.", "Divide by the sum of the sizes in each.",
                swap={"goes.T @ sizes": "goes.sum(0)"}),
        Mistake("divided by all", "You divided by the patches of the whole picture.",
                "By those that go into this token alone.",
                swap={"(goes.T @ sizes)[:, None]": "sizes.sum()"}),
        Mistake("inversely", "Small tokens count most here.", "Times size, not divided by it.",
                swap={"* sizes": "/ sizes", "@ sizes": "@ (1 / sizes)"}),
        Mistake("sizes below alone", "The sizes stand below the line, but not above it.",
                "Multiply each token by its size before you sum.", swap={" * sizes[:, None]": ""})),
    "token_merging.log_size": (
        Mistake("sizes forgotten", "This is what plain attention gives: five patches that merged "
                "have one voice from now on. Without sizes, or with a number that is the same in a "
                "whole row, which the softmax takes out again.", "Add the log size of each key to "
                "its column: scores + sizes.log()[None, :].", swap={" + sizes.log()": ""}),
        Mistake("no log", "You added the size. Inside the softmax that multiplies by e to the "
                "size: seven patches would count a thousandfold.", "e^(x + log s) = s e^x.",
                swap={".log()": ""}),
        Mistake("times the scores", "You multiplied the scores. A large token whose score is "
                "negative would then be heard less.", "Sizes multiply behind the exponential: add "
                "their log.", swap={"+ sizes.log()": "* sizes"}),
        Mistake("sizes of who asks", "The sizes are those of the queries here. A large token is to "
                "be heard more, not to hear more.", "One number a column, not a row.",
                swap={" + sizes.log()": "", "dim=1)": "dim=1) * sizes[:, None]"}),
        Mistake("not normalised", "The weights of a row no longer sum to 1.",
                "Bring the sizes in before the softmax, as a log.",
                swap={" + sizes.log()": "", "dim=1)": "dim=1) * sizes"}),
        Mistake("log divided, too", "The log was divided by the root of the width along with the "
                "products. Then it counts for less than the patches do.", "Divide first, then add.",
                swap={" + sizes.log()": "", "query @ key.T": "(query @ key.T + sizes.log())"})),
    "token_merging.unmerge": (
        Mistake("second merge alone", "You undid the second merge alone.", "second says where the "
                "M tokens are. Where are the N patches? first knows in which of the M.",
                swap={"second[first]": "second"}),
        Mistake("first merge alone", "You undid the first merge alone; but its numbers are those "
                "of tokens before the second.", "Look them up: second[first].",
                swap={"second[first]": "first"}),
        Mistake("the wrong order", "You asked the second merge first, then the first. A patch "
                "meets them the other way round.",
                "Inner brackets first: where the patch went in the first merge.",
                swap={"second[first]": "first[second]"}),
        Mistake("only once", "Each token came back in one place. All the patches that went into it "
                "get it.", "Index with (N,) numbers; no scatter is needed.", body="""
                rows, places = torch.zeros(len(first), tokens.shape[1]), second[first].tolist()
                rows[[places.index(token) for token in range(len(tokens))]] = tokens
                return rows"""),
        Mistake("shared out", "You shared each token out among its patches. It is their mean, not "
                "their sum: each gets it whole.", "Do not divide.",
                swap={"tokens[": "(tokens / second[first].bincount()[:, None])["})),
    "token_merging.tokens_left": (
        Mistake("never clamped", "65 minus six times 14. Nobody can merge more tokens than there "
                "are.", "No block merges more than half of its image tokens.",
                swap={"min(14, answer // 2)": "14"}),
        Mistake("never clamped, no class token", "64 minus six times 14. Nobody can merge more "
                "tokens than there are.", "No block merges more than half of its image tokens; and "
                "the class token leaves, too.",
                swap={"min(14, answer // 2)": "14", "answer += 1": ""}),
        Mistake("one short", "One too few. Either the class token is missing, or it was halved "
                "with the others, or an odd number lost its larger half.", "Only the 64 image "
                "tokens merge, 5 of 11 and not 6. Add the class token at the end.",
                swap={"answer += 1": ""}),
        Mistake("two short", "Two too few: an odd number lost its larger half, and the class token "
                "is missing or was halved, too.", "Of eleven tokens five can go, of three only "
                "one. Add the class token at the end.", answer=2),
        Mistake("one block too few", "This is what is left after five blocks.",
                "One more block, which halves.", swap={"range(6)": "range(5)"}),
        Mistake("over half", "Your fourth block merged 14 of 22 image tokens, and the next ones "
                "nothing. Each block merges at most half.", "The fourth merges 11 of 22, the fifth "
                "5 of 11.", swap={"min(14, answer // 2)": "14 * (answer >= 14)"}),
        Mistake("three halvings forgotten", "You merged nothing any more once 14 would have been "
                "over half.", "From then on each block halves the image tokens.",
                swap={"range(6)": "range(3)"})),
    "token_merging.time_gain": (
        Mistake("gain in MACs", "This is the gain in MACs. A quarter of the time does not follow "
                "them.", "Only 40 - 10 ms are divided by 1.7.", answer=1.7),
        Mistake("matching is free", "The matching itself takes time, too.", "Add its 3 ms.",
                swap={"1.7 + 3": "1.7"}),
        Mistake("all of it shrinks", "You divided all 40 ms. Ten of them stay as they are.",
                "10 + 30 / 1.7 + 3.", swap={"10 + 30": "40"}),
        Mistake("the wrong way round", "This is the share of the time that is left. We asked how "
                "many times as fast.", "Old by new.", answer=(10 + 30 / 1.7 + 3) / 40),
        Mistake("new time", "These are the milliseconds that it takes now.",
                "Divide the old 40 by them.", swap={"40 / ": ""}),
        Mistake("matching subtracted", "Matching costs time, it gives none.",
                "Plus 3 ms, not minus.", swap={"1.7 + 3": "1.7 - 3"})),
    "token_merging.plan": (
        Mistake("too late", "Your plan spends more than it may. What is merged late saves little: "
                "it has been computed in all blocks before.", "Move some of the pairs from the "
                "last three blocks to the first three.", answer=[0, 0, 0, 16, 16, 16]),
        Mistake("too early", "Within the limit, and the logits drift too far: block 0 merges "
                "many tokens that know little of each other yet.", "Take pairs from block 0 and "
                "give them to blocks 1 and 2.", answer=[20, 12, 8, 4, 2, 1]),
        Mistake("too much", "You saved far more than you had to, and the logits drift too far for "
                "it.", "Merge less in all: there is room up to the limit.", answer=[16] * 6)),
}

RUBRICS = {
    "token_merging.which": (
        (1, "parcels: says that large batches on a GPU and a classifier with one object are the "
            "case in which merging (or dropping) pays most"),
        (1, "street: says that every place needs an answer, so what is dropped is a hole, while "
            "merged tokens can be handed back to their patches"),
        (1, "street: says that one picture at a time on a processor may not get faster at all, and "
            "that many small objects leave little that is alike"),
        (1, "names what to measure first: time in that batch and at that size on that machine, and "
            "accuracy (small objects apart) against random merging or the untouched model")),
}
