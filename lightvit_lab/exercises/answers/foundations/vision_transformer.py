"""Known wrong answers to the exercises of `chapters/foundations/vision_transformer`."""

from .. import Mistake

MISTAKES = {
    "vision_transformer.count": (
        Mistake("no class token", "Almost: these are the image tokens. There is one more token "
                "beside them.", "Add the class token.", swap={" + 1": ""}),
        Mistake("one side", "This is the number of patches along one side. How many rows of them "
                "are there?", "A picture has two sides: square the number, then add the token that "
                "is not a patch.", swap={" ** 2 + 1": ""}),
        Mistake("side and class token", "You added the class token to the patches of one side "
                "only.", "Square the patches per side first, then add one.", swap={" ** 2": ""}),
        Mistake("pixels", "You counted pixels. How many pixels does one patch cover?",
                "A patch covers 16 x 16 pixels: divide by that before you add the class token.",
                swap={" // 16": ""})),
    "vision_transformer.patchify": (
        Mistake("no permute", "The shape is right, the content is not: your patches are strips of "
                "consecutive memory. reshape alone never moves a number.",
                "Split height and width into (rows, patch_size) and (columns, patch_size), then "
                "permute so that rows and columns come before channel and pixels, then reshape.",
                swap={"grid.permute(0, 2, 4, 1, 3, 5)": "grid"}),
        Mistake("columns first", "Each patch is right, but their order is not: you read column by "
                "column, we read row by row.", "In the permute, the index of the row of "
                "patches must come before the index of the column.", swap={"0, 2, 4": "0, 4, 2"}),
        Mistake("channels last", "Each patch holds the right numbers in a wrong order: you put the "
                "channel last, but a convolution's weight has it first.", "Within a patch the "
                "order is (channel, y, x): the permute ends with channels, patch rows, patch "
                "columns.", swap={"1, 3, 5": "3, 5, 1"}),
        Mistake("patches transposed", "The patches are in the right places, but each is "
                "transposed: within a patch you read column by column.", "The permute ends with "
                "channels, patch rows, patch columns.", swap={"1, 3, 5": "1, 5, 3"})),
    "vision_transformer.attention": (
        Mistake("wrong softmax axis", "Look at the sums of your weights: the columns sum to 1, the "
                "rows do not. Whose weights must sum to 1, those of the token that looks or those "
                "of the token that is looked at?", "The softmax runs over the keys, the last axis.",
                swap={"dim=-1": "dim=-2"}),
        Mistake("softmax over heads", "Your softmax makes the heads compete with each other. But "
                "heads are independent.", "The softmax runs over the keys, the last axis; axis 1 "
                "is the heads.", swap={"dim=-1": "dim=1"}),
        Mistake("no scale", "Your weights are too peaked. What happens to a dot product when "
                "vectors get longer?", "Divide the dot products by the square root of the width of "
                "a head, query.shape[-1].", swap={" / query.shape[-1] ** 0.5": ""}),
        Mistake("scale without root", "Your weights are too flat: you divide by too large a "
                "number.", "The standard deviation of a dot product grows with the square root of "
                "the width: divide once, by that root.", swap={" ** 0.5": ""}),
        Mistake("scale by tokens", "You scale by the number of tokens. But the dot product sums "
                "over something else.", "A dot product sums over the width of a head: divide by "
                "the root of query.shape[-1], not of shape[-2].", swap={"shape[-1]": "shape[-2]"})),
    "vision_transformer.block_macs": (
        Mistake("one attention product", "You have the product of queries and keys. There is a "
                "second product of that size.", "The weights (tokens x keys) are multiplied with "
                "the values (keys x dim): count that as well.",
                swap={"attention = 2 * ": "attention = "}),
        Mistake("flops", "Exactly twice the right number: you counted operations, but the question "
                "is about multiply-accumulates.", "One multiply and one add are one MAC: remove "
                "the factor 2.", swap={"= 2 *": "= 4 *"}),
        Mistake("as many keys as tokens", "Your cost does not depend on num_keys. That is the "
                "ordinary block.", "Keys and values are made from num_keys tokens, and each query "
                "meets num_keys keys.", swap={"* num_keys": "* num_tokens"}),
        Mistake("keys made from all tokens", "Attention is right, its projections are not: which "
                "tokens go through the key and value projections?", "Two of the four projections "
                "run on num_keys tokens, the other two (query, output) on num_tokens.",
                swap={"2 * num_keys": "2 * num_tokens"}),
        Mistake("no output projection", "One linear layer is missing: what does the block do with "
                "the heads after it has put them side by side?", "Attention ends with an output "
                "projection, num_tokens * dim ** 2.", swap={"output = 2 * ": "output = "}),
        Mistake("tokens squared", "The linear layers are right. Which tokens does attention "
                "multiply with which?", "Each of num_tokens queries meets num_keys keys.",
                swap={"num_tokens * num_keys": "num_tokens**2"}),
        Mistake("one layer of the MLP", "The MLP has two layers: one widens, one narrows.",
                "2 * mlp_ratio * num_tokens * dim ** 2.", swap={"mlp = 2 * ": "mlp = "})),
    "vision_transformer.budget": (
        Mistake("one token too many", "Just over one fifth: 24 x 24 patches are 576 tokens, but "
                "how long is the sequence?", "With the class token it is 577, one more than "
                "allowed: round down.", swap={" - 1": ""}),
        Mistake("in patches", "This is the side in patches. We asked for pixels.",
                "A patch is 16 pixels wide.", swap={"16 * ": ""}),
        Mistake("half the quadratic part", "Twice as many tokens as allowed. Attention has two "
                "products, and the width is 384.", "The quadratic part is 2 N^2 d: the share is N "
                "/ (6 d + N).", swap={"6 * 384": "12 * 384"}),
        Mistake("one long row", "This is the width of a picture that is one patch high.",
                "Tokens fill a square: take the square root before you multiply by the patch size.",
                swap={" ** 0.5": ""}),
        Mistake("share of the rest", "You used one fifth of the linear part. The question is about "
                "one fifth of the whole block.", "Solve N / (6 d + N) = 1/5: the whole block is "
                "below the fraction line.", swap={"// 4": "// 5"})),
    "vision_transformer.diagnose": (
        Mistake("A and B swapped", "C is right. A and B are swapped: only one of them has rows "
                "that do not sum to 1.", "A softmax over the wrong axis shows in the row sums; a "
                "missing scale in large logits and low entropy.",
                answer={"A": "no scale", "B": "wrong axis", "C": "no position"}),
        Mistake("A and C swapped", "B is right. A and C are swapped: for which of them is the "
                "place of a patch unimportant?", "Without positions, shuffling the patches changes "
                "nothing at all: compare the two accuracies.",
                answer={"A": "no position", "B": "no scale", "C": "wrong axis"}),
        Mistake("B and C swapped", "A is right. B and C are swapped: compare accuracy with "
                "accuracy after shuffling.", "Without positions the two accuracies are equal to "
                "the last digit; a missing scale shows in the logits.",
                answer={"A": "wrong axis", "B": "no position", "C": "no scale"}),
        Mistake("all moved on", "None is right. Begin with the sums: which model has rows that do "
                "not sum to 1?", "That is A. Then: which model has the same accuracy to the last "
                "digit when patches are shuffled?",
                answer={"A": "no scale", "B": "no position", "C": "wrong axis"}),
        Mistake("all moved back", "None is right. Begin with the shuffled patches: which model has "
                "the same accuracy with and without them?", "That is C. Then: which model has rows "
                "whose sums are not 1?",
                answer={"A": "no position", "B": "wrong axis", "C": "no scale"})),
    "vision_transformer.halves": (
        Mistake("too few", "The accuracy is high enough, but too many MACs are left.", "An MLP has "
                "8 N d^2 MACs, more than an attention of this size: first silence the MLPs that "
                "are not needed, then some attentions.",
                answer=[(number, "attn") for number in range(2, 6)]),
        Mistake("the first block", "You silenced something in the block that all others depend on.",
                "Silence one block at a time: one of them is needed. Silence nothing in it.",
                answer=[(number, "mlp") for number in range(6)] + [(5, "attn")]),
        Mistake("too much", "Block 0 is complete, but too little of the others is left.",
                "You need not go below 45 % of the MACs: keep some halves that you silenced.",
                answer=[(number, part) for number in range(1, 6) for part in ("attn", "mlp")])),
}

RUBRICS = {
    "vision_transformer.why_positions": (
        (1, "says that a ViT without positions gives the same logits: attention and MLP treat "
            "tokens in the same way in any order, and the class token reads a set"),
        (1, "says that a convolution notices, since each of its weights belongs to one neighbour"),
        (1, "names the position embedding, added before the first block, as the only part of the "
            "ViT that distinguishes places"),
        (1, "gives another way: fixed sines, a bias of attention by distance, rotations of queries "
            "and keys, or a convolution before or between the blocks")),
}
