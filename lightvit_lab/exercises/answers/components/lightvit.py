"""Known wrong answers to the exercises of `chapters/components/lightvit`."""

from .. import Mistake

MISTAKES = {
    "lightvit.reach": (
        Mistake("all pairs", "This is full attention: every token looks at every token. Here each "
                "token sees only its window.", "There are 784 tokens, and each has one weight for "
                "each token of its window.", swap={"7**2": "28**2"}),
        Mistake("one window", "This is one window. The map has more than one.",
                "Multiply by the number of windows: (28 / 7) squared.", swap={"28**2": "7**2"}),
        Mistake("one weight for each token", "This is the number of tokens. Each of them has a "
                "weight for every token of its window.", "Multiply the 784 tokens by the tokens of "
                "a window, 7 x 7.", swap={" * 7**2": ""}),
        Mistake("one side of a window", "You used only one side of a window, seven tokens. A "
                "window has two sides.", "A window of 7 x 7 holds 49 tokens.", swap={"7**2": "7"})),
    "lightvit.windows": (
        Mistake("window not reversed", "Every number is right, but most are in the wrong place: "
                "your tokens are in window order, they should be in reading order.",
                "Undo what you did to cut the windows: reshape to (B, rows, columns, size, size, "
                "D), swap the same two axes again, then reshape to the map.",
                swap={"return grid.transpose(2, 3)": "return grid"}),
        Mistake("strips instead of windows", "Your windows are strips: size * size tokens that "
                "follow each other in memory lie in a row, not in a square.",
                "Split both height and width into (windows, size), and swap the two middle axes "
                "before you flatten.", swap={".transpose(2, 3)": ""}),
        Mistake("no scale", "The windows are right, but the weights are too peaked. What happens "
                "to a dot product when vectors get longer?", "Divide the dot products by the "
                "square root of the width of a token.", swap={"windows)": "windows, scale=1.0)"}),
        Mistake("whole map", "Your tokens look at the complete map: size has no effect.", "Cut the "
                "map into windows first, as a larger batch; a softmax never crosses the batch "
                "axis.", body="return attend(*3 * [maps.flatten(1, 2)]).reshape(maps.shape)"),
        Mistake("dilated windows", "Your windows are spread over the map: you took tokens at equal "
                "distances, not neighbours.", "Split height into (height // size, size), in "
                "this order, and width likewise.",
                swap={"height // size, size, width // size, size, dim":
                      "size, height // size, size, width // size, dim",
                      "grid.transpose(2, 3).reshape(-1":
                      "grid.permute(0, 2, 4, 1, 3, 5).reshape(-1",
                      "grid.transpose(2, 3).reshape(maps":
                      "grid.permute(0, 3, 1, 4, 2, 5).reshape(maps"}),
        Mistake("windows turned over", "The windows are back in their places, but each is "
                "transposed: its rows have become columns.", "Swap the same two axes as on the way "
                "in, the middle ones, and no others.", swap={"grid.transpose(2, 3).reshape(maps":
                      "grid.permute(0, 1, 4, 2, 3, 5).reshape(maps"}),
        Mistake("rows of windows for columns", "Each window is right, but it is in the place of "
                "another one: the grid of windows is transposed.", "Swap the same two axes "
                "as on the way in, the middle ones, and no others.",
                swap={"grid.transpose(2, 3).reshape(maps":
                      "grid.permute(0, 2, 3, 1, 4, 5).reshape(maps"})),
    "lightvit.aggregate_and_broadcast": (
        Mistake("no scale", "Your weights are too peaked. What happens to a dot product when "
                "vectors get longer?", "In both softmaxes, divide the scores by the square "
                "root of the width of a head.", swap={" * scale": ""}),
        Mistake("broadcast not added", "The global tokens are right, but nothing is handed back: "
                "your image tokens have not changed.", "Let the image tokens attend to the "
                "aggregated global tokens and add the result to `local`.",
                swap={" + scores.softmax(dim=-1) @ (gathered @ to_value)": ""}),
        Mistake("local thrown away", "You return only the broadcast. The result of the windows "
                "is lost.", "Add the two: local + broadcast.", swap={"local + ": ""}),
        Mistake("old global tokens broadcast", "Your image tokens look at the global tokens "
                "before these have gathered anything.", "Make keys and values of the broadcast "
                "from the result of the aggregation.", swap={"gathered @ to": "query_global @ to"}),
        Mistake("aggregated tokens not mapped", "You use the aggregated tokens themselves as keys "
                "and as values.", "Multiply them by to_key for the keys and by to_value for the "
                "values.", swap={" @ to_key": "", " @ to_value": ""}),
        Mistake("keys and values swapped", "The two matrices of the broadcast are swapped.",
                "The image tokens' queries are compared with what to_key makes; what to_value "
                "makes is mixed.", swap={"@ to_key": "@ to_value", "@ to_value": "@ to_key"}),
        Mistake("wrong softmax axis", "Look at the sums of your weights: the columns sum to 1, the "
                "rows do not.", "A softmax runs over the keys, the last axis.",
                swap={"dim=-1": "dim=-2"})),
    "lightvit.gates": (
        Mistake("spatial gate forgotten", "Every place gets the same gates. Which of the two gates "
                "is missing?", "Multiply by the spatial gate (B, N, 1) as well: it is made from "
                "each token and the mean, side by side.",
                swap={" * (beside @ to_place).sigmoid()": ""}),
        Mistake("channel gate forgotten", "All channels of a place get the same gate. Which gate "
                "is missing?", "Multiply by the channel gate (B, 1, D) as well: it is made from "
                "the mean of the tokens.", swap={" * (mean @ to_channels).sigmoid()": ""}),
        Mistake("no sigmoid", "A gate multiplies by a number between 0 and 1. Yours "
                "amplifies, and changes signs.", "Put each of the two gates through a sigmoid.",
                swap={".sigmoid()": ""}),
        Mistake("gates added", "You add the gates. Then a place with a closed gate still gets "
                "through by its channels.", "Multiply output, channel gate and spatial gate.",
                swap={"* (beside": "+ output * (beside"}),
        Mistake("mean over the batch", "The pictures of a batch influence each other: compare one "
                "picture alone with the same in a batch.", "The mean runs over the tokens of one "
                "picture: axis 1 alone.", swap={"dim=1": "dim=(0, 1)"}),
        Mistake("mean first", "The two halves are swapped: in `to_place` the weights for the token "
                "come first, then those for the mean.", "torch.cat([tokens, mean], dim=-1).",
                swap={"[tokens, mean.expand_as(tokens)]": "[mean.expand_as(tokens), tokens]"}),
        Mistake("sum for mean", "With more tokens your gates get closer to 0 or 1: you took a sum.",
                "Take the mean of the tokens.", swap={"tokens.mean": "tokens.sum"})),
    "lightvit.attention_macs": (
        Mistake("window's area left out", "Too few, and the error grows with the windows. With how "
                "many tokens is each token compared?", "Each of the N image tokens "
                "meets the `area` tokens of its window, in two products.", swap={" * area": ""}),
        Mistake("full attention", "This is the cost if each token sees the complete map.",
                "Each image token meets only `area` tokens; only the global tokens meet all.",
                swap={"* area": "* num_tokens"}),
        Mistake("one way", "Half of the cost of global tokens is missing: there are two ways, and "
                "each has two products.", "Aggregate and broadcast, scores and mixing: four times "
                "num_tokens * num_global * dim.", swap={"2 * 2 *": "2 *"}),
        Mistake("one product in windows", "In the windows there are two products: scores and "
                "mixing.", "2 * num_tokens * area * dim.", swap={"2 * num_tokens * area":
                "num_tokens * area"}),
        Mistake("global tokens pass free", "The four linear layers also run on the global tokens.",
                "4 * (num_tokens + num_global) * dim ** 2.",
                swap={"(num_tokens + num_global)": "num_tokens"}),
        Mistake("kv_global left out", "One small linear layer is missing: which layer makes the "
                "keys and values of the broadcast?", "kv_global maps num_global tokens from dim to "
                "2 dim.", swap={" + 2 * num_global * dim**2": ""}),
        Mistake("flops", "Exactly twice the right number: you counted operations, but the question "
                "is about multiply-accumulates.",
                "One multiply and one add are one MAC: remove the factor 2.",
                swap={"linear + windows + both_ways": "2 * (linear + windows + both_ways)"})),
    "lightvit.budget": (
        Mistake("one way", "Twice as many as allowed: there are two ways, from image to global "
                "tokens and back, and each has two products.", "Aggregating and broadcasting: 4 N "
                "T d.", swap={" // 2": ""}),
        Mistake("rounded up", "With so many it costs a little more than the windows.",
                "Round down.", swap={"// 2": "// 2 + 1"}),
        Mistake("half a token", "The limit is right, but there are no half tokens.", "Round down.",
                swap={"// 2": "/ 2"}),
        Mistake("windows counted once", "You counted only one of the two products inside windows.",
                "Count scores and mixing: 2 * 49 * N d.", swap={"// 2": "// 4"})),
    "lightvit.lesion": (
        Mistake("the first block", "All or nearly all tokens of one block are silent, and the "
                "other blocks depend on this block.", "Silence the four tokens of one block at a "
                "time, and compare the accuracies: one block is different.",
                answer=[(block, token) for block in range(3) for token in range(4)]),
        Mistake("the wrong voices", "In the block that matters you silenced tokens that are "
                "needed.", "Silence nothing in block 0, or try its tokens one by one: some "
                "are needed, some are not.",
                answer=[(0, 0), (0, 1), *((block, token) for block in (1, 2, 3)
                                          for token in range(4))]),
        Mistake("too few", "The accuracy is high enough, but you can silence more.",
                "Complete blocks can be silent: try all four tokens of a block at once.",
                answer=[(block, token) for block in (2, 3) for token in range(4)])),
}

RUBRICS = {
    "lightvit.needed": (
        (1, "says that they do not contradict each other: training without a part asks whether "
            "another way can be learned, a lesion asks what this trained model relies on"),
        (1, "says that the later layers were trained on sums that contain the broadcast, so that "
            "zero is an input they have never seen, and not only missing information"),
        (1, "proposes a control: the mean broadcast, or that of another picture, instead of zero, "
            "or some more training after the lesion"),
        (1, "says that three seeds, short training and 8 x 8 tokens cannot show a small "
            "difference: 'not shown to be worse' is not 'as good'")),
}
