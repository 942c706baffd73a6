"""Known wrong answers to the exercises of `chapters/dynamic/token_pruning`."""

from .. import Mistake

MISTAKES = {
    "token_pruning.fused": (
        Mistake("normalised", "Your weights sum to 1. EViT adds the dropped tokens with their "
                "scores as they are: what was hardly looked at arrives as hardly anything.",
                "others @ tokens, with nothing divided by others.sum().",
                swap={"others[": "(others / others.sum(1, keepdim=True))["}),
        Mistake("plain mean", "You took the mean of the dropped tokens. Some of them were looked "
                "at more than others.", "Weigh each by its score.",
                swap={"others[": "(others.sign() / (scores.shape[1] - count))["}),
        Mistake("all tokens fused", "The fused token holds those that are kept, too: they would "
                "count twice.", "Set the scores of the kept ones to 0: scores.scatter(1, kept, "
                "0.0).", swap={"others[": "scores["}),
        Mistake("kept ones fused", "You fused the tokens that stay. They need no substitute.",
                "Weigh by the scores of those that go.", swap={"others[": "(scores - others)["}),
        Mistake("lowest kept", "You kept the lowest scores.", "topk gives the highest, unless "
                "largest=False.", swap={"dim=1).indices": "dim=1, largest=False).indices"}),
        Mistake("in the picture's order", "The right tokens, in the order of the picture. We asked "
                "for the highest score first, as the library has it.", "Leave the order as topk "
                "gives it.", swap={"indices": "indices.sort(dim=1).values"}),
        Mistake("nothing fused", "Plain top-k: what goes is lost. Where is the token of the "
                "others?", "Append one token: (scores of the others) @ tokens.",
                swap={"torch.cat([stay, others[:, None] @ tokens], dim=1)": "stay"})),
    "token_pruning.macs": (
        Mistake("dropped before attention", "In your count tokens are gone before the attention of "
                "a pruning block. But it is this attention that says who goes.",
                "Attention on those that enter, the MLP on those that are left.",
                swap={"patches + 1": "left + 1"}),
        Mistake("dropped after the MLP", "In your count the MLP of a pruning block still sees all "
                "tokens. They go between attention and MLP.", "8 d^2 for each token that is left.",
                swap={", left + 1": ", patches + 1"}),
        Mistake("rounded down", "Your counts are rounded down. Shares of tokens are rounded up, so "
                "that one always stays.", "math.ceil(keep * patches).",
                swap={"math.ceil(keep * patches - 1e-9)": "int(keep * patches)"}),
        Mistake("one added", "You cut off what is behind the point and add one. A share that comes "
                "to a whole number, half of 64, is then one too many.",
                "math.ceil(keep * patches - 1e-9).",
                swap={"math.ceil(keep * patches - 1e-9)": "int(keep * patches) + 1"}),
        Mistake("float noise", "Somewhere you keep one token too many: 0.55 * 100 is "
                "55.00000000000001 in floats, and is rounded up to 56.",
                "Take 1e-9 off before you round up.", swap={" - 1e-9": ""}),
        Mistake("share of all", "Each of your pruning blocks keeps a share of the whole picture. "
                "It is a share of those that reach the block.",
                "Carry the count on from block to block.",
                swap={"total = 0": "total, whole = 0, patches", "keep * patches": "keep * whole"}),
        Mistake("not carried on", "Each block starts with the whole picture again in your count. "
                "Tokens that are gone stay gone.", "Those left by one block enter the next.",
                swap={"\n        patches = left": ""}),
        Mistake("no products of tokens", "You have the linear layers. Queries times keys, and "
                "weights times values, are missing.", "Add 2 N^2 d for each attention.",
                swap={" + 2 * enter**2 * dim": ""}),
        Mistake("one product of tokens", "Attention multiplies tokens by tokens twice.", "Queries "
                "by keys, and weights by values: 2 N^2 d.", swap={"2 * enter**2": "enter**2"}),
        Mistake("class token forgotten", "The class token is computed in every block, too, and is "
                "never dropped.", "N = patches + 1.", swap={" + 1": ""})),
    "token_pruning.masked_softmax": (
        Mistake("oneself masked", "A token that is dropped cannot see itself in your answer. "
                "DynamicViT lets every token see itself: no row is ever empty.",
                "Allow the diagonal: kept[:, None, None].bool() | torch.eye(n).bool().",
                swap={" | torch.eye(scores.shape[-1]).bool()": ""}),
        Mistake("masked afterwards", "You masked after the softmax: rows no longer sum to 1, and "
                "those that are dropped still take their share.",
                "Mask the scores, then take the softmax.",
                swap={"masked_fill(~seen, -torch.inf).softmax(dim=-1)": "softmax(dim=-1) * seen"}),
        Mistake("zeros in the scores", "You set scores to 0. A score of 0 has weight exp(0), which "
                "is 1, before it is normalised.", "Fill with -inf, not with 0.",
                swap={"-torch.inf": "0.0"}),
        Mistake("queries masked", "You masked those who look. Those who are gone must not be "
                "looked at: they are columns.", "kept[:, None, None], not kept[:, None, :, None].",
                swap={"kept[:, None, None]": "kept[:, None, :, None]"}),
        Mistake("inverted", "You kept the dropped ones, and dropped the kept.",
                "1 stands for kept: mask where kept is 0.", swap={"kept[": "(1 - kept)["}),
        Mistake("not masked", "No token is masked here.", "Fill the scores of dropped keys with "
                "-inf.", swap={".masked_fill(~seen, -torch.inf)": ""})),
    "token_pruning.straight_through": (
        Mistake("soft", "These are probabilities between 0 and 1. The mask has to be 0 or 1.",
                "Add hard - soft.detach() to it.", swap={"hard - soft.detach() + soft": "soft"}),
        Mistake("no gradient", "Right decisions, and no gradient at all: argmax is flat wherever "
                "it does not jump, and soft - soft cancels unless one of them is detached.",
                "hard - soft.detach() + soft.", swap={" - soft.detach() + soft": ""}),
        Mistake("no noise", "You decide without the noise: the same tokens every time, and the "
                "others are never tried.", "logits + noise, in both decisions.",
                swap={" + noise": ""}),
        Mistake("dropped in place of kept", "Your mask is 1 for tokens that go.", "Entry 0 of the "
                "last dimension is keep.", swap={"[..., 0]": "[..., 1]", "== 0": "== 1"}),
        Mistake("gradient without noise", "You decide with the noise, and differentiate without "
                "it.", "The softmax takes logits + noise, too.",
                swap={"(logits + noise).softmax": "logits.softmax"})),
    "token_pruning.sampling": (
        Mistake("top-k", "These are the highest scores. They are as many in every picture.", "Walk "
                "along the running sum in even steps, and take the token in which each step falls.",
                body="return scores.topk(count).indices.sort().values"),
        Mistake("drawn twice", "A token in which two steps fall stands here twice. It stays once: "
                "that is why pictures keep different numbers.", "unique().",
                swap={".unique()": ""}),
        Mistake("left ends", "Your steps begin at 0. They lie in the middle of even parts.",
                "(2 k + 1) / (2 K) for k = 0 to K - 1.", swap={" + 1)": ")"}),
        Mistake("not normalised", "Your running sum does not end at 1.",
                "Divide the scores by their sum.", swap={"(scores / scores.sum())": "scores"}),
        Mistake("one later", "Each of your places is one too far.", "The first place whose running "
                "sum reaches the step: torch.searchsorted(sums, steps).",
                swap={"unique()": "unique() + 1"}),
        Mistake("in another order", "You sorted the scores first, and your places are those of "
                "the sorted list. The released code sorts, too; the paper, and this exercise, walk "
                "along the scores as they are.", "The running sum goes in the picture's order.",
                swap={"(scores /": "(scores.sort(descending=True).values /"}),
        Mistake("the nearest", "You take the running sum that is nearest to each step, as the "
                "released code does. The paper, and this exercise, take the first that reaches it.",
                "The first place where sums >= step.", swap={
                    "torch.searchsorted(rising, steps)":
                    "(rising[:, None] - steps).abs().argmin(dim=0)"})),
    "token_pruning.lengths": (
        Mistake("linear layers", "Right for the linear layers. The products of attention grow with "
                "the square of the tokens.", "Square each length before you add.",
                swap={"**2": ""}),
        Mistake("the wrong way round", "This is what is left without padding, as a share.",
                "Padded over grouped.", answer=(17**2 + 33**2 + 49**2 + 65**2) / (4 * 65**2)),
        Mistake("share wasted", "This is the share of products that is wasted.",
                "We asked for how many times as many there are.",
                answer=1 - (17**2 + 33**2 + 49**2 + 65**2) / (4 * 65**2)),
        Mistake("square of the sums", "You squared the ratio of the sums. Each picture attends to "
                "itself alone.", "4 * 65**2 over 17**2 + 33**2 + 49**2 + 65**2.",
                answer=(4 * 65 / (17 + 33 + 49 + 65)) ** 2)),
    "token_pruning.schedule": (
        Mistake("too late", "Your plan spends more than it may. What is dropped late saves little: "
                "the blocks before have been paid for.", "Begin to drop in blocks 0 and 1; each "
                "block pays attention for all that enter it.", answer=[1, 1, 1, 0.3, 0.3, 0.3]),
        Mistake("all at once", "Within the limit, and the answers move too far: most tokens go in "
                "one early block, before attention has carried anything on.", "Spread it: each "
                "block drops some of those present.", answer=[0.12, 1, 1, 1, 1, 1]),
        Mistake("shares of the whole picture", "Hardly a token reaches the end: shares multiply, "
                "each is one of the tokens that are present.", "0.3 in each of six blocks leaves "
                "1 token of 64. Keep more in the later blocks.",
                answer=[0.5, 0.25, 0.12, 0.06, 0.03, 0.02])),
}

RUBRICS = {
    "token_pruning.controls": (
        (1, "asks for random dropping of as many tokens at the same place, over several draws: "
            "what it reaches, the choice has not earned"),
        (1, "asks for a choice that looks at nothing, such as the centre of the picture, and for a "
            "score over many pictures in place of one film, with intervals"),
        (1, "asks for the whole model trained as long, if hers was trained after the cut, and for "
            "seeds or an interval: 0.3 points may be either"),
        (1, "asks for measured time, at the batch it is to run with (one picture, too), against "
            "the whole model with fused attention, and whether tokens are gathered or masked")),
}
