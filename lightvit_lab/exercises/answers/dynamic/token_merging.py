"""Known wrong answers to the exercises of `chapters/dynamic/token_merging`."""

from .. import Mistake

MISTAKES = {
    "token_merging.match": (
        Mistake("by product", "You compared by dot products, so a long key is similar to "
                "everything. The matching compares directions only.", "Normalise first: "
                "F.normalize(metric, dim=-1).",
                swap={"torch.nn.functional.normalize(metric, dim=-1)": "metric"}),
        Mistake("least alike", "These are the pairs that are least similar.",
                "Sort by similarity, the largest first.", swap={"descending=True": ""}),
        Mistake("numbers within the sets", "These are the right pairs, but numbered within A and "
                "B. We asked for the numbers of the tokens.",
                "Token 2 i is the i-th of A, token 2 i + 1 the i-th of B.",
                swap={"2 * ": "", " + 1": ""}),
        Mistake("columns swapped", "These are the right pairs, but the columns are swapped: first "
                "the token that goes, from A, then the one that it goes into.",
                "torch.stack([going, into], dim=1).",
                swap={"+ 1], dim=1)": "+ 1], dim=1).flip(1)"}),
        Mistake("two halves", "Your A is the first half and B the second. Neighbours are often "
                "similar, but they are then in the same set and never meet.",
                "Alternate: metric[::2], metric[1::2].",
                swap={"[::2]": ".chunk(2)[0]", "[1::2]": ".chunk(2)[1]", "2 * ": "",
                      "+ 1": "+ len(unit) // 2"}),
        Mistake("asked by B",
                "In your answer every token of B looks for its partner in A. It is A that looks, "
                "and the token of A goes.", "Build the similarities (A, B) and take the maximum "
                "over dim=1.",
                swap={"likeness.max": "likeness.T.max",
                      "going, 2 * partner[going] + 1": "going + 1, 2 * partner[going]"}),
        Mistake("whole table", "You took the best entries of the complete table: a token that is "
                "similar to two others would go twice.", "First the best partner of each token of "
                "A, then the r best of those pairs.", body="""
                unit = torch.nn.functional.normalize(metric, dim=-1)
                likeness = unit[::2] @ unit[1::2].T
                best = likeness.flatten().argsort(descending=True)[:r]
                width = likeness.shape[1]
                return torch.stack([2 * (best // width), 2 * (best % width) + 1], dim=1)"""),
        Mistake("each partner once",
                "In your answer each token of B takes at most one token of A. Several tokens may "
                "go into the same one.", "Each token of A has its best partner, even if others "
                "have the same one.", body="""
                unit, pairs = torch.nn.functional.normalize(metric, dim=-1), []
                likeness = unit[::2] @ unit[1::2].T
                for _ in range(r):
                    one, other = divmod(likeness.argmax().item(), likeness.shape[1])
                    pairs.append((2 * one, 2 * other + 1))
                    likeness[one], likeness[:, other] = -2, -2
                return torch.tensor(pairs)""")),
    "token_merging.mean": (
        Mistake("each once", "You counted each token once. A token of five patches should count "
                "five times, or the patches that merged early lose weight.", "Weight by sizes.",
                swap={" * sizes[:, None]": "", "goes.T @ sizes": "goes.sum(0)"}),
        Mistake("not divided", "This is the weighted sum. It grows with every merge, and the MLP "
                "was not trained for such tokens.", "Divide by the sum of the sizes.",
                swap={" / (goes.T @ sizes)[:, None]": ""}),
        Mistake("divided by how many", "You divided by the number of tokens. The weights were "
                "sizes, so the result is not a mean.", "Divide by the sum of the sizes in each "
                "merged token.",
                swap={"goes.T @ sizes": "goes.sum(0)"}),
        Mistake("divided by all", "You divided by the number of all patches of the picture.",
                "Divide by the patches that go into this token alone.",
                swap={"(goes.T @ sizes)[:, None]": "sizes.sum()"}),
        Mistake("inversely", "In your answer small tokens count most.", "Multiply by the size, do "
                "not divide by it.",
                swap={"* sizes": "/ sizes", "@ sizes": "@ (1 / sizes)"}),
        Mistake("sizes below alone", "The sizes are in your denominator, but not in the numerator.",
                "Multiply each token by its size before you sum.", swap={" * sizes[:, None]": ""})),
    "token_merging.log_size": (
        Mistake("sizes forgotten", "This is the result of plain attention: five patches that "
                "merged count only once. Either the sizes are missing, or you added the same "
                "number to a complete row, and the softmax removes that again.",
                "Add the log size of each key to its column: scores + sizes.log()[None, :].",
                swap={" + sizes.log()": ""}),
        Mistake("no log", "You added the size itself. Inside the softmax that multiplies by e to "
                "the power of the size: seven patches would count a thousand times.", "e^(x + log "
                "s) = s e^x.",
                swap={".log()": ""}),
        Mistake("times the scores", "You multiplied the scores. A large token with a negative "
                "score would then get less attention.", "The sizes multiply the exponentials: add "
                "their log to the scores.", swap={"+ sizes.log()": "* sizes"}),
        Mistake("sizes of who asks", "You used the sizes of the queries. A large token must get "
                "more attention as a key.", "One number for each column, not for each row.",
                swap={" + sizes.log()": "", "dim=1)": "dim=1) * sizes[:, None]"}),
        Mistake("not normalised", "The weights of a row no longer sum to 1.", "Use the sizes "
                "before the softmax, as a log.",
                swap={" + sizes.log()": "", "dim=1)": "dim=1) * sizes"}),
        Mistake("log divided, too", "You divided the log by the root of the width, together with "
                "the products. Then it counts for less than the patches do.", "Divide first, then "
                "add.",
                swap={" + sizes.log()": "", "query @ key.T": "(query @ key.T + sizes.log())"})),
    "token_merging.unmerge": (
        Mistake("second merge alone", "You undid only the second merge.",
                "second says where the M tokens went. The N patches come before: first says into "
                "which of the M each of them went.",
                swap={"second[first]": "second"}),
        Mistake("first merge alone",
                "You undid only the first merge, but its numbers are those of the tokens before "
                "the second.", "Look them up: second[first].",
                swap={"second[first]": "first"}),
        Mistake("the wrong order", "You used the second merge first, and then the first one. A "
                "patch goes through them the other way round.",
                "Start inside: where did the patch go in the first merge?",
                swap={"second[first]": "first[second]"}),
        Mistake("only once", "Each token came back at one place only. All the patches that went "
                "into it get it.", "Index with (N,) numbers; no scatter is needed.", body="""
                rows, places = torch.zeros(len(first), tokens.shape[1]), second[first].tolist()
                rows[[places.index(token) for token in range(len(tokens))]] = tokens
                return rows"""),
        Mistake("shared out", "You divided each token among its patches. It is their mean, not "
                "their sum: each patch gets the complete token.", "Do not divide.",
                swap={"tokens[": "(tokens / second[first].bincount()[:, None])["})),
    "token_merging.tokens_left": (
        Mistake("never clamped", "This is 65 minus six times 14. A block cannot merge more tokens "
                "than it has.", "No block merges more than half of its image tokens.",
                swap={"min(14, answer // 2)": "14"}),
        Mistake("never clamped, no class token", "This is 64 minus six times 14. A block cannot "
                "merge more tokens than it has.", "No block merges more than half of its image "
                "tokens; and count the class token, too.",
                swap={"min(14, answer // 2)": "14", "answer += 1": ""}),
        Mistake("one short", "One too few. Either the class token is missing, or it was halved "
                "with the others, or an odd number lost its larger half.", "Only the image tokens "
                "merge, 5 of 11 and not 6. Add the class token after the last block.",
                swap={"answer += 1": ""}),
        Mistake("two short",
                "Two too few: an odd number lost its larger half, and the class token is missing "
                "or was halved, too.", "Of eleven tokens five can go, of three only one. Add the "
                "class token after the last block.", answer=2),
        Mistake("one block too few", "This is what is left after five blocks.",
                "One more block, which halves.", swap={"range(6)": "range(5)"}),
        Mistake("over half", "Your fourth block merged 14 of 22 image tokens, and the later ones "
                "nothing. Each block merges at most half.",
                "The fourth merges 11 of 22, the fifth 5 of 11.",
                swap={"min(14, answer // 2)": "14 * (answer >= 14)"}),
        Mistake("three halvings forgotten", "Your blocks merge nothing as soon as 14 is more than "
                "half.", "From then on each block halves the image tokens.",
                swap={"range(6)": "range(3)"})),
    "token_merging.time_gain": (
        Mistake("gain in MACs", "This is the gain in MACs. A quarter of the time does not depend "
                "on them.", "Only 40 - 10 ms are divided by 1.7.", answer=1.7),
        Mistake("matching is free", "The matching itself takes time, too.", "Add its 3 ms.",
                swap={"1.7 + 3": "1.7"}),
        Mistake("all of it shrinks", "You divided all 40 ms. Ten of them do not change.",
                "10 + 30 / 1.7 + 3.", swap={"10 + 30": "40"}),
        Mistake("the wrong way round", "This is the share of the time that is left. We asked how "
                "many times as fast the model is.", "Divide old by new.",
                answer=(10 + 30 / 1.7 + 3) / 40),
        Mistake("new time", "These are the milliseconds that the model takes now.", "Divide the "
                "old 40 by them.", swap={"40 / ": ""}),
        Mistake("matching subtracted", "Matching takes time, it does not save any.", "Plus 3 ms, "
                "not minus.", swap={"1.7 + 3": "1.7 - 3"})),
    "token_merging.plan": (
        Mistake("too late", "Your plan uses more MACs than allowed. Merging late saves little: "
                "these tokens have been computed in all earlier blocks.", "Move some of the pairs "
                "from the last three blocks to the first three.", answer=[0, 0, 0, 16, 16, 16]),
        Mistake("too early", "Within the limit, but the logits drift too far: block 0 merges many "
                "tokens that know little about each other yet.",
                "Take pairs from block 0 and give them to blocks 1 and 2.",
                answer=[20, 12, 8, 4, 2, 1]),
        Mistake("too much", "You saved far more than you had to, and the logits drift too far.",
                "Merge less in total: you may use more MACs, up to the limit.", answer=[16] * 6)),
}

RUBRICS = {
    "token_merging.which": (
        (1, "parcels: says that large batches on a GPU and a classifier with one object are the "
            "case in which merging (or dropping) pays most"),
        (1, "street: says that every place needs an answer, so that a dropped token leaves a hole, "
            "while merged tokens can be copied back to their patches"),
        (1, "street: says that one picture at a time on a CPU may not become faster at all, and "
            "that with many small objects few tokens are similar"),
        (1, "names what to measure first: the time with that batch, size and machine, and the "
            "accuracy (for small objects separately), compared with random merging or the original "
            "model")),
}
