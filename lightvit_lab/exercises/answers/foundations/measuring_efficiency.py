"""Known wrong answers to the exercises of `chapters/foundations/measuring_efficiency`."""

from .. import Mistake

MISTAKES = {
    "measuring_efficiency.share": (
        Mistake("one product", "You counted one product. Attention has two: the scores, and the "
                "mean they take.", "$2 N^2 d$ in each block, not $N^2 d$.",
                swap={"* attention": "* attention / 2"}),
        Mistake("beside the rest", "You divided by the other MACs. A share is a part of all MACs.",
                "Add attention's products to the denominator.",
                swap={"(layers + attention)": "layers"}),
        Mistake("as operations", "Twice the right number: the part is in FLOPs, the total in MACs.",
                "Count both in MACs.", swap={"* attention": "* 2 * attention"}),
        Mistake("as a share", "Right, as a share between 0 and 1. We asked for percent.",
                "Multiply by 100.", swap={"100 * ": ""}),
        Mistake("no class token", "A little too low. There are two possible reasons: you forgot "
                "the token that is not a patch, or you cut off digits and did not round.", "197 "
                "tokens: 14 x 14 patches and the class token. Then round.", answer=14.2007),
        Mistake("of the published total", "You divided by the published, rounded total, which "
                "counts norms as well.", "Divide by what was counted here: layers + attention.",
                swap={"(layers + attention)": "1.26e9"}),
        Mistake("of a block", "This is the share within a block. The model has other parts, too.",
                "Patch embedding and head belong to the total, too.", answer=14.6041)),
    "measuring_efficiency.attention_macs": (
        Mistake("scores only", "These are the scores. The second product costs as much again, or "
                "more.", "It takes means of values: (queries x keys) times (keys x width of a "
                "value).", swap={" + value[3]": ""}),
        Mistake("one head", "This is only one head.",
                "Multiply by query[1], the number of heads.", swap={" * heads": ""}),
        Mistake("as many keys as queries", "You squared the number of queries. There may be fewer "
                "keys than queries, or more.", "Queries are query[2], keys are key[2]: multiply "
                "the two.", swap={"key[2]": "queries"}),
        Mistake("operations", "Exactly twice too much: these are FLOPs.",
                "A multiply-accumulate counts once.", swap={"return": "return 2 *"}),
        Mistake("width of the query twice", "The second product is as wide as a value, and a value "
                "can have another width than a query.", "Use value[3] for the second product.",
                swap={"value[3]": "width"}),
        Mistake("one picture", "This is only one picture of the batch.",
                "Multiply by query[0], the number of pictures.", swap={"batch * ": ""})),
    "measuring_efficiency.ratio": (
        Mistake("inverted", "Upside down. The question is: how many times as long as the second "
                "does the first take?", "Divide the first by the second.",
                swap={"one / two": "two / one"}),
        Mistake("ratio of means", "A few very slow calls dominate your means.",
                "Take the ratio in each round first, then the median of these ratios.",
                body="return sum(first) / sum(second)"),
        Mistake("ratio of medians", "Better than means. But the machine became slower with time, "
                "and the two medians may come from different rounds.",
                "Swap the two steps: first divide, round by round, then take one median.",
                body="""
                def median(seconds):
                    seconds = sorted(seconds)
                    middle = len(seconds) // 2
                    return seconds[middle] + seconds[-middle - 1]
                return median(first) / median(second)"""),
        Mistake("the lower middle", "Right if the number of rounds is odd. If it is even, you took "
                "the lower of the two ratios in the middle (torch.median does that).", "Take the "
                "mean of the two.", swap={"in_rounds[middle]": "in_rounds[-middle - 1]"}),
        Mistake("the upper middle", "Right if the number of rounds is odd. If it is even, you took "
                "the upper of the two ratios in the middle.", "Take the mean of the two.",
                swap={"in_rounds[-middle - 1]": "in_rounds[middle]"}),
        Mistake("mean of ratios", "Ratios within rounds are right. But a single very slow call can "
                "still move their mean by any amount.", "Use the middle one of the sorted ratios.",
                body="return sum(one / two for one, two in zip(first, second)) / len(first)"),
        Mistake("ratio of the best", "The best calls may lie far apart in time, when the machine "
                "was not the same.", "Compare only calls of the same round, and take the "
                "median of those ratios.", body="return min(first) / min(second)")),
    "measuring_efficiency.attainable": (
        Mistake("MACs for FLOPs", "A factor of two is missing where memory is the limit.",
                "The peak is in FLOP/s, so the intensity is FLOPs for each byte: 2 x MACs / bytes.",
                swap={"2 * ": ""}),
        Mistake("the larger", "A layer can't be faster than both limits allow.",
                "Take the smaller of the two.", swap={"min(": "max("}),
        Mistake("no roof", "Even with a very high intensity the processor has a peak.",
                "Take the minimum with the peak.", swap={"min(peak, ": "("}),
        Mistake("always the peak", "This is the processor's limit. But the numbers must also come "
                "from memory.", "Bytes arrive at `bandwidth` a second, and each brings 2 x MACs / "
                "bytes FLOPs.", body="return peak"),
        Mistake("upside down", "Your intensity is bytes for each FLOP: with more computation you "
                "get a slower layer.", "FLOPs divided by bytes, times the bandwidth.",
                swap={"2 * macs / moved_bytes": "moved_bytes / (2 * macs)"})),
    "measuring_efficiency.amdahl": (
        Mistake("70 % of the gain", "That is 70 % of four. Think of time: how much of one second "
                "is left?", "0.3 s stay as they are; a quarter of 0.7 s is left.", answer=0.7 * 4),
        Mistake("mean of gains", "You took the mean of two gains. Times add up, gains do not.",
                "Add the two times that are left, then divide one by the sum.",
                answer=0.3 * 1 + 0.7 * 4),
        Mistake("for nothing", "This would be the gain if the 70 % took no time at all.",
                "A quarter of their time is left: 0.175.", swap={" + 0.7 / 4": ""}),
        Mistake("the wrong part", "You made the other 30 % faster.",
                "The 70 % become four times as fast.", swap={"0.3 + 0.7": "0.7 + 0.3"}),
        Mistake("time left", "This is the time that is left of one second. How many times as fast "
                "is that?", "One divided by it.", swap={"1 / ": ""}),
        Mistake("what is won", "You subtracted 1. The question is how many times as fast: a model "
                "that did not change is 1 times as fast.", "The old time divided by the new time, "
                "and nothing more.", swap={"0.7 / 4)": "0.7 / 4) - 1"}),
        Mistake("what is won, in percent", "This is how many percent faster it is. We asked how "
                "many times as fast.", "The old time divided by the new one.",
                answer=100 / 0.475 - 100),
        Mistake("in percent", "Right, in percent. We asked how many times as fast.",
                "Divide by 100.", swap={"1 /": "100 /"})),
    "measuring_efficiency.choose": (
        Mistake("the most accurate", "One picture takes too long, although the accuracy is high.",
                "First look at the p90 of one picture, then at the accuracy.",
                answer="lightvit_small"),
        Mistake("no batch", "Fast enough with one picture at a time, but too slow in batches.",
                "Divide the time of a batch by its number of pictures: many models are slower "
                "then.", answer="swiftformer_xs"),
        Mistake("the fewest MACs", "Fast enough by day and by night, but its top-1 is below 75 %.",
                "Look at the accuracy of all models that are fast enough.",
                answer="efficientvit_b0")),
}

RUBRICS = {
    "measuring_efficiency.disagree": (
        (1, "times both in turns on the phone itself, with the threads, the number type and the "
            "batch size that will be used, and gives the ratio with its interval"),
        (1, "checks the count: does it include attention and fused or packed operators, so that "
            "'half' is half of what is executed?"),
        (1, "measures the time of each part, and whether memory or products limit it "
            "(intensity, roofline)"),
        (1, "names a cause without MACs: norms, softmax, moving or reshaping tokens, the start of "
            "many small operators, an operator without a fast kernel there, narrow layers")),
}
