"""Known wrong answers to the exercises of `chapters/foundations/measuring_efficiency`."""

from .. import Mistake

MISTAKES = {
    "measuring_efficiency.share": (
        Mistake("one product", "You counted one product. Attention has two: the scores, and the "
                "mean they take.", "$2 N^2 d$ in each block, not $N^2 d$.",
                swap={"* attention": "* attention / 2"}),
        Mistake("beside the rest", "You divided by the other MACs. A share is a part of the whole.",
                "Put attention's products into the denominator, too.",
                swap={"(layers + attention)": "layers"}),
        Mistake("as operations", "Twice too much: the part is in FLOPs, the whole in MACs.",
                "Count both in MACs.", swap={"* attention": "* 2 * attention"}),
        Mistake("as a share", "Right, as a share between 0 and 1. We asked for percent.",
                "Multiply by 100.", swap={"100 * ": ""}),
        Mistake("no class token", "A little too low, for one of two reasons: one token is no patch "
                "and passes through the blocks all the same, or digits were cut, not rounded.",
                "197 tokens: 14 x 14 patches and the class token. Then round.", answer=14.2007),
        Mistake("of the published total", "You divided by the published, rounded total, which "
                "counts norms as well.", "Divide by what was counted here: layers + attention.",
                swap={"(layers + attention)": "1.26e9"}),
        Mistake("of a block", "This is the share within a block. The model has more than blocks.",
                "Patch embedding and head belong to the whole, too.", answer=14.6041)),
    "measuring_efficiency.attention_macs": (
        Mistake("scores only", "These are the scores. What is done with them costs as much again, "
                "or more.", "The second product takes means of values: (queries x keys) times "
                "(keys x width of a value).", swap={" + value[3]": ""}),
        Mistake("one head", "This is one head of them all.",
                "Multiply by query[1], the number of heads.", swap={" * heads": ""}),
        Mistake("as many keys as queries", "You squared the queries. There may be fewer keys than "
                "queries, or more.", "Queries are query[2], keys are key[2]: multiply the two.",
                swap={"key[2]": "queries"}),
        Mistake("operations", "Exactly twice too much: these are FLOPs.",
                "A multiply-accumulate counts once.", swap={"return": "return 2 *"}),
        Mistake("width of the query twice", "The second product is as wide as a value, which need "
                "not be as wide as a query.", "Use value[3] for the second product.",
                swap={"value[3]": "width"}),
        Mistake("one picture", "This is one picture of the batch.",
                "Multiply by query[0], the number of pictures.", swap={"batch * ": ""})),
    "measuring_efficiency.ratio": (
        Mistake("inverted", "Upside down: how many times as long as the second does the first "
                "take?", "Divide the first by the second.", swap={"one / two": "two / one"}),
        Mistake("ratio of means", "A few stumbles of the machine rule your means.",
                "Take the ratio in each round first, then the median of these ratios.",
                body="return sum(first) / sum(second)"),
        Mistake("ratio of medians", "Better than means. But the machine slowed down meanwhile, and "
                "the two medians may come from different rounds.",
                "Swap the two steps: first divide, round by round, then take one median.",
                body="""
                def median(seconds):
                    seconds = sorted(seconds)
                    middle = len(seconds) // 2
                    return seconds[middle] + seconds[-middle - 1]
                return median(first) / median(second)"""),
        Mistake("the lower middle", "Right where the rounds are odd in number. Of an even number "
                "you took the lower of the two ratios in the middle (torch.median does).",
                "Take the mean of the two.", swap={"in_rounds[middle]": "in_rounds[-middle - 1]"}),
        Mistake("the upper middle", "Right where the rounds are odd in number. Of an even number "
                "you took the upper of the two ratios in the middle.", "Take the mean of the two.",
                swap={"in_rounds[-middle - 1]": "in_rounds[middle]"}),
        Mistake("mean of ratios", "Ratios within rounds are right. One stumble still moves their "
                "mean as far as it likes.", "Use the middle one of the sorted ratios.",
                body="return sum(one / two for one, two in zip(first, second)) / len(first)"),
        Mistake("ratio of the best", "The best calls may lie far apart in time, when the machine "
                "was not the same.", "Compare only what was measured in the same round, and let "
                "the middle of those ratios speak.", body="return min(first) / min(second)")),
    "measuring_efficiency.attainable": (
        Mistake("MACs for FLOPs", "A factor of two is missing where memory is the limit.",
                "The peak is in FLOP/s, so the intensity is FLOPs for each byte: 2 x MACs / bytes.",
                swap={"2 * ": ""}),
        Mistake("the larger", "A layer can't be faster than either limit allows.",
                "Take the smaller of the two.", swap={"min(": "max("}),
        Mistake("no roof", "However much is done with each byte, the processor has a peak.",
                "Take the minimum with the peak.", swap={"min(peak, ": "("}),
        Mistake("always the peak", "This is the processor's limit. Where do the numbers come from?",
                "Bytes arrive at `bandwidth` a second, and each brings 2 x MACs / bytes FLOPs.",
                body="return peak"),
        Mistake("upside down", "Your intensity is bytes for each FLOP: the more a layer computes, "
                "the slower you make it.", "FLOPs divided by bytes, times the bandwidth.",
                swap={"2 * macs / moved_bytes": "moved_bytes / (2 * macs)"})),
    "measuring_efficiency.amdahl": (
        Mistake("70 % of the gain", "That is 70 % of four. Think in time: what is left of one "
                "second?", "0.3 s stay as they are; of 0.7 s a quarter is left.", answer=0.7 * 4),
        Mistake("mean of gains", "You took the mean of two gains. Times add up, gains do not.",
                "Add the two times that are left, then divide one by the sum.",
                answer=0.3 * 1 + 0.7 * 4),
        Mistake("for nothing", "This would be the gain if the 70 % took no time at all.",
                "A quarter of them is left: 0.175.", swap={" + 0.7 / 4": ""}),
        Mistake("the wrong part", "You made the other 30 % faster.",
                "It is the 70 % that go four times as fast.", swap={"0.3 + 0.7": "0.7 + 0.3"}),
        Mistake("time left", "This is the time that is left of one second. How many times as fast "
                "is that?", "One divided by it.", swap={"1 / ": ""}),
        Mistake("what is won", "How much faster, and how many times as fast, are two things: what "
                "stays as it was is 1 times as fast.", "The old time divided by the new one.",
                swap={"0.7 / 4)": "0.7 / 4) - 1"}),
        Mistake("what is won, in percent", "This is how many percent faster it is. We asked how "
                "many times as fast.", "The old time divided by the new one.",
                answer=100 / 0.475 - 100),
        Mistake("in percent", "Right, in percent. We asked how many times as fast.",
                "Divide by 100.", swap={"1 /": "100 /"})),
    "measuring_efficiency.choose": (
        Mistake("the most accurate", "One picture takes too long, whatever its MACs say.",
                "Read the p90 of one picture before the accuracy.", answer="lightvit_small"),
        Mistake("no batch", "Quick enough with one picture at a time, and too slow in batches.",
                "Divide the time of a batch by its number of pictures; many models lose by it.",
                answer="swiftformer_xs"),
        Mistake("the fewest MACs", "Quick enough by day and by night, and its top-1 is below 75 %.",
                "Among those in time, look at the accuracy next.", answer="efficientvit_b0")),
}

RUBRICS = {
    "measuring_efficiency.disagree": (
        (1, "times both in turns, on the telephone itself, with as many threads, in the type and "
            "at the batch that will be used, and gives the ratio with its interval"),
        (1, "checks the count: whether it saw attention and fused or packed operators, so that "
            "'half' is half of what is executed"),
        (1, "profiles by part: where does the time go, and is it bound by memory or by products "
            "(intensity, roofline)?"),
        (1, "names a cause without MACs: norms, softmax, moving or reshaping tokens, the start of "
            "many small operators, an operator that has no fast kernel there, narrow layers")),
}
