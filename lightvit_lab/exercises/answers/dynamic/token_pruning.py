"""Known wrong answers to the exercises of `chapters/dynamic/token_pruning`."""

from .. import Mistake

MISTAKES = {
    "token_pruning.fused": (
        Mistake("normalised", "Your weights sum to 1. EViT does not renormalise the scores: "
                "dropped tokens that got little attention add little.", "Use others @ tokens, and "
                "do not divide by others.sum().",
                swap={"others[": "(others / others.sum(1, keepdim=True))["}),
        Mistake("plain mean", "You took the plain mean of the dropped tokens. Some of them got "
                "more attention than others.", "Weight each by its score.",
                swap={"others[": "(others.sign() / (scores.shape[1] - count))["}),
        Mistake("all tokens fused",
                "Your fused token includes the kept tokens, too, so they would count twice.",
                "Set the scores of the kept tokens to 0: scores.scatter(1, kept, 0.0).",
                swap={"others[": "scores["}),
        Mistake("kept ones fused", "You fused the tokens that stay. The fused token is made of "
                "those that are dropped.", "Weight by the scores of the dropped tokens.",
                swap={"others[": "(scores - others)["}),
        Mistake("lowest kept", "You kept the tokens with the lowest scores.", "topk gives the "
                "highest, unless largest=False.",
                swap={"dim=1).indices": "dim=1, largest=False).indices"}),
        Mistake("in the picture's order", "These are the right tokens, but in the order of the "
                "picture. We asked for the highest score first, as in the library.",
                "Keep the order that topk gives.", swap={"indices": "indices.sort(dim=1).values"}),
        Mistake("nothing fused",
                "This is plain top-k: the dropped tokens are lost. The token that is made of them "
                "is missing.", "Append one token: (scores of the others) @ tokens.",
                swap={"torch.cat([stay, others[:, None] @ tokens], dim=1)": "stay"})),
    "token_pruning.macs": (
        Mistake("dropped before attention", "In your count, tokens are dropped before the "
                "attention of a pruning block. But this attention decides which tokens go.",
                "Count attention for the tokens that enter, and the MLP for those that are left.",
                swap={"patches + 1": "left + 1"}),
        Mistake("dropped after the MLP",
                "In your count, the MLP of a pruning block still computes all tokens. They are "
                "dropped between attention and MLP.", "Count 8 d^2 for each token that is left.",
                swap={", left + 1": ", patches + 1"}),
        Mistake("rounded down", "You rounded down. Numbers of tokens are rounded up, so that at "
                "least one stays.", "math.ceil(keep * patches).",
                swap={"math.ceil(keep * patches - 1e-9)": "int(keep * patches)"}),
        Mistake("one added", "You cut off the digits after the decimal point and add one. If the "
                "share is a whole number of tokens, such as half of 64, you get one too many.",
                "math.ceil(keep * patches - 1e-9).",
                swap={"math.ceil(keep * patches - 1e-9)": "int(keep * patches) + 1"}),
        Mistake("float noise",
                "In some case you keep one token too many: in floating point 0.55 * 100 is "
                "55.00000000000001, which is rounded up to 56.", "Subtract 1e-9 before you round "
                "up.", swap={" - 1e-9": ""}),
        Mistake("share of all", "Each of your pruning blocks keeps a share of all patches of the "
                "picture. It must be a share of the tokens that reach the block.",
                "Pass the count on from block to block.",
                swap={"total = 0": "total, whole = 0, patches", "keep * patches": "keep * whole"}),
        Mistake("not carried on", "In your count, each block starts with all patches again. "
                "Dropped tokens do not come back.", "The tokens that one block leaves enter the "
                "next.",
                swap={"\n        patches = left": ""}),
        Mistake("no products of tokens", "You have the linear layers. Queries times keys, and "
                "weights times values, are missing.", "Add 2 N^2 d for each attention.",
                swap={" + 2 * enter**2 * dim": ""}),
        Mistake("one product of tokens", "Attention multiplies tokens by tokens twice.",
                "Queries times keys, and weights times values: 2 N^2 d.",
                swap={"2 * enter**2": "enter**2"}),
        Mistake("class token forgotten", "The class token is computed in every block, too, and is "
                "never dropped.", "N = patches + 1.", swap={" + 1": ""})),
    "token_pruning.masked_softmax": (
        Mistake("oneself masked", "In your answer, a dropped token cannot see itself. DynamicViT "
                "lets every token see itself, so that no row is empty.", "Allow the diagonal: "
                "kept[:, None, None].bool() | torch.eye(n).bool().",
                swap={" | torch.eye(scores.shape[-1]).bool()": ""}),
        Mistake("masked afterwards", "You masked after the softmax: rows no longer sum to 1, and "
                "dropped tokens still take their share.", "Mask the scores, then take the "
                "softmax.",
                swap={"masked_fill(~seen, -torch.inf).softmax(dim=-1)": "softmax(dim=-1) * seen"}),
        Mistake("zeros in the scores", "You set scores to 0. A score of 0 has weight exp(0), which "
                "is 1, before it is normalised.", "Fill with -inf, not with 0.",
                swap={"-torch.inf": "0.0"}),
        Mistake("queries masked",
                "You masked rows, which are the tokens that look. Dropped tokens must not be "
                "looked at: mask their columns.", "kept[:, None, None], not kept[:, None, :, "
                "None].",
                swap={"kept[:, None, None]": "kept[:, None, :, None]"}),
        Mistake("inverted", "You kept the dropped tokens, and dropped the kept ones.",
                "1 means kept: mask where kept is 0.", swap={"kept[": "(1 - kept)["}),
        Mistake("not masked", "No token is masked here.", "Fill the scores of dropped keys with "
                "-inf.", swap={".masked_fill(~seen, -torch.inf)": ""})),
    "token_pruning.straight_through": (
        Mistake("soft", "These are probabilities between 0 and 1. The mask has to be 0 or 1.",
                "Add hard - soft.detach() to it.", swap={"hard - soft.detach() + soft": "soft"}),
        Mistake("no gradient", "The decisions are right, but there is no gradient: argmax has "
                "none, and soft - soft is zero unless one of them is detached.", "Return hard - "
                "soft.detach() + soft.", swap={" - soft.detach() + soft": ""}),
        Mistake("no noise", "You decide without the noise, so the same tokens win every time and "
                "the others are never tried.", "Use logits + noise in both places.",
                swap={" + noise": ""}),
        Mistake("dropped in place of kept", "Your mask is 1 for tokens that are dropped.",
                "Entry 0 of the last dimension is keep.",
                swap={"[..., 0]": "[..., 1]", "== 0": "== 1"}),
        Mistake("gradient without noise", "You decide with the noise, but take the gradient "
                "without it.", "The softmax takes logits + noise, too.",
                swap={"(logits + noise).softmax": "logits.softmax"})),
    "token_pruning.sampling": (
        Mistake("top-k", "These are the highest scores, the same number in every picture.",
                "Walk along the running sum in even steps, and take the token on which each step "
                "falls.",
                body="return scores.topk(count).indices.sort().values"),
        Mistake("drawn twice", "A token on which two steps fall appears twice in your answer. It "
                "is kept once; that is why pictures keep different numbers of tokens.", "Use "
                "unique().",
                swap={".unique()": ""}),
        Mistake("left ends", "Your steps begin at 0. They should be in the middle of K equal "
                "parts.", "(2 k + 1) / (2 K) for k = 0 to K - 1.", swap={" + 1)": ")"}),
        Mistake("not normalised", "Your running sum does not end at 1.",
                "Divide the scores by their sum.", swap={"(scores / scores.sum())": "scores"}),
        Mistake("one later", "Each of your places is one too far.", "The first place whose running "
                "sum reaches the step: torch.searchsorted(sums, steps).",
                swap={"unique()": "unique() + 1"}),
        Mistake("in another order", "You sorted the scores first, so your places are those of the "
                "sorted list. The released code sorts, too; the paper and this exercise use the "
                "scores in the picture's order.", "Do not sort before the running sum.",
                swap={"(scores /": "(scores.sort(descending=True).values /"}),
        Mistake("the nearest", "You take the running sum that is nearest to each step, as the "
                "released code does. The paper and this exercise take the first one that reaches "
                "it.", "The first place where sums >= step.", swap={
                    "torch.searchsorted(rising, steps)":
                    "(rising[:, None] - steps).abs().argmin(dim=0)"})),
    "token_pruning.lengths": (
        Mistake("linear layers", "This is right for the linear layers. The products of attention "
                "grow with the square of the tokens.", "Square each length before you add.",
                swap={"**2": ""}),
        Mistake("the wrong way round", "This is the share that is left without padding.", "Divide "
                "padded by grouped.", answer=(17**2 + 33**2 + 49**2 + 65**2) / (4 * 65**2)),
        Mistake("share wasted", "This is the share of products that is wasted.", "We asked how "
                "many times as many there are.",
                answer=1 - (17**2 + 33**2 + 49**2 + 65**2) / (4 * 65**2)),
        Mistake("square of the sums", "You squared the ratio of the sums. Each picture attends "
                "only to itself.", "4 * 65**2 over 17**2 + 33**2 + 49**2 + 65**2.",
                answer=(4 * 65 / (17 + 33 + 49 + 65)) ** 2)),
    "token_pruning.schedule": (
        Mistake("too late", "Your plan uses more MACs than allowed. Dropping tokens late saves "
                "little, because the earlier blocks have computed them already.", "Begin to drop "
                "in blocks 0 and 1; each block computes attention for all tokens that enter it.",
                answer=[1, 1, 1, 0.3, 0.3, 0.3]),
        Mistake("all at once", "Within the limit, but the answers move too far: most tokens are "
                "dropped in one early block, before attention has passed on what they know.",
                "Spread it out: let each block drop some of its tokens.",
                answer=[0.12, 1, 1, 1, 1, 1]),
        Mistake("shares of the whole picture", "Hardly any token reaches the last block: the "
                "shares multiply, because each is a share of the tokens that reach the block.",
                "0.3 in each of six blocks leaves 1 token of 64. Keep more in the later blocks.",
                answer=[0.5, 0.25, 0.12, 0.06, 0.03, 0.02])),
}

RUBRICS = {
    "token_pruning.controls": (
        (1, "asks for random dropping of the same number of tokens at the same place, over several "
            "draws: what chance reaches is not due to the choice"),
        (1, "asks for a choice that does not look at the picture, such as its centre, and for a "
            "score over many pictures instead of one film, with intervals"),
        (1, "asks for the original model trained for as long, if hers was trained after dropping, "
            "and for seeds or an interval: 0.3 points may come from either"),
        (1, "asks for measured time, with the batch size of its use (also one picture), compared "
            "with the original model with fused attention, and whether tokens are gathered or "
            "masked")),
}
