"""Known wrong answers to the exercises of `chapters/dynamic/early_exit`."""

from .. import Mistake

MISTAKES = {
    "early_exit.mean_cost": (
        Mistake("mean of exits", "This is the mean over exits, as if each were taken equally "
                "often.", "One cost for each picture, macs[exits], then the mean over pictures.",
                swap={"[exits]": ""}),
        Mistake("cost of the mean exit", "You averaged the numbers of the exits first. The costs "
                "do not rise evenly.", "First macs[exits], then the mean.",
                swap={"exits]": "exits.double().mean().round().long()]"}),
        Mistake("the median", "This is the cost of the picture in the middle. The few pictures "
                "that go far cost much, and the median ignores them.",
                "macs[exits].double().mean()",
                swap={"mean()": "median()"}),
        Mistake("sum", "This is the cost of all pictures together.", "Divide by their number.",
                swap={"mean()": "sum()"}),
        Mistake("added up twice", "You added up costs that are added up already: macs[i] is the "
                "total cost of a picture that leaves at exit i.", "No cumsum.",
                swap={"macs[exits]": "macs.cumsum(0)[exits]"}),
        Mistake("the slowest", "This is the cost of a picture if all waited for the last one. But "
                "pictures leave the batch.", "macs[exits].mean()",
                swap={"exits]": "exits.max()]"}),
        Mistake("the end forgotten", "The pictures that go to the final classifier are missing. "
                "They cost the most.", "The last entry of macs is the full model, and exits may "
                "name it.",
                swap={"exits]": "exits[exits < len(macs) - 1]]"})),
    "early_exit.patience": (
        Mistake("not in a row", "You count all exits that predicted this class. They must follow "
                "each other: an exit that disagrees starts the count again.",
                "Set the run back to 1 where the class changes.",
                swap={"place - agree + 1 : ": ": ",
                      "(last == last[0]).all(dim=0)": "(last == last[-1]).sum(dim=0) >= agree"}),
        Mistake("one too many", "You wait for one exit too many: `agree` exits must predict the "
                "same class; we do not count the repetitions.", "A run begins at 1.",
                swap={"agree - 1": "agree", "agree + 1": "agree"}),
        Mistake("one too few", "Your pictures leave one exit too early.",
                "The exit itself counts: with agree=2 it and the one before it.",
                swap={"agree - 1": "agree - 2", "agree + 1": "agree + 2"}),
        Mistake("the last chance", "You found the last place at which so many exits agree. A "
                "picture leaves at the first one.", "Keep the first exit only.",
                swap={"reversed": ""}),
        Mistake("counted from one", "Each of your numbers is one too high: exits are counted from "
                "0.", "The first exit is 0, the final classifier is len(named).",
                swap={"return taken": "return taken + 1"}),
        Mistake("no end", "In your answer, pictures whose exits never agree leave at the last "
                "exit. They must go to the final classifier.", "Start from a tensor full of "
                "len(named).",
                swap={"len(named))\n": "len(named) - 1)\n"}),
        Mistake("where the run began",
                "You give the exit where the run of equal answers began. At that point it was not "
                "known that later exits would agree.", "Return the exit at which the run is long "
                "enough.", swap={"= place\n": "= place - agree + 1\n"})),
    "early_exit.threshold": (
        Mistake("those that leave", "You use the accuracy of the pictures that leave. The others "
                "count as well, with the answer of the final classifier.", "torch.where(sure >= "
                "threshold, exit_right, end_right)",
                swap={"torch.where(sure >= threshold, exit_right, end_right)":
                      "exit_right[sure >= threshold]", "if right": "if not len(right) or right"}),
        Mistake("the largest", "The largest threshold is accurate enough, too, but it lets no "
                "picture leave.", "Return the first threshold that reaches the accuracy.",
                swap={"tolist()": "tolist()[::-1]"}),
        Mistake("the most accurate", "This threshold is the most accurate. We want the cheapest "
                "one that is accurate enough.", "Stop at the first that reaches `wanted`.", body="""
                def accuracy(threshold):
                    return torch.where(sure >= threshold, exit_right, end_right).double().mean()
                return max(thresholds.tolist(), key=accuracy)"""),
        Mistake("confidence taken for accuracy", "You used the wanted accuracy as the threshold. "
                "That would need a perfectly calibrated exit, and it would count only the pictures "
                "that leave.", "Try the thresholds one by one.",
                swap={"right.double().mean()": "threshold"}),
        Mistake("the end never errs", "In your answer the final classifier is always right. It "
                "makes mistakes, too.", "Use `end_right`, (N,), for the pictures that stay.",
                swap={"end_right)": "True)"}),
        Mistake("the wrong way round", "In your answer the unsure pictures leave.",
                "If sure >= threshold, the answer of the exit counts, otherwise that of the final "
                "classifier.",
                swap={"exit_right, end_right)": "end_right, exit_right)"}),
        Mistake("strict", "In your answer a picture that is exactly as sure as the threshold "
                "stays; by our rule it leaves.", "sure >= threshold.",
                swap={"sure >= ": "sure > "}),
        Mistake("accuracy beyond", "You want more than `wanted`. Exactly as much is enough.", ">= "
                "wanted.", swap={">= wanted": "> wanted"}),
        Mistake("bisection", "You searched by halving the range, or stopped before the smallest "
                "one, as if accuracy rose with the threshold. It goes up and down.",
                "Try all thresholds, the smallest first.", body="""
                low, high = 0, len(thresholds) - 1
                while low < high:
                    middle = (low + high) // 2
                    leaves = sure >= thresholds[middle]
                    right = torch.where(leaves, exit_right, end_right).double().mean()
                    low, high = (low, middle) if right >= wanted else (middle + 1, high)
                return thresholds[low].item()"""),
        Mistake("from the end",
                "You went down from the largest threshold and stopped at the first one that was "
                "not accurate enough. Smaller ones may be accurate enough again.",
                "Begin with the smallest, and return the first that is accurate enough.", body="""
                found = thresholds[-1].item()
                for threshold in thresholds.tolist()[::-1]:
                    right = torch.where(sure >= threshold, exit_right, end_right)
                    if right.double().mean() < wanted:
                        return found
                    found = threshold
                return found""")),
    "early_exit.ece": (
        Mistake("bins weigh the same", "A bin of two pictures counts as much as one of two "
                "hundred.", "Weigh each gap by its share of the pictures.",
                swap={"here.double().mean()": "1 / len(place.unique())"}),
        Mistake("signed", "Over-confident and under-confident bins cancel in your sum.",
                "Take the absolute gap of each bin.", swap={".abs()": ""}),
        Mistake("one bin", "You compare all pictures at once: mean confidence and accuracy. A "
                "model can be right on average and wrong in every bin.", "Compute the gap of each "
                "bin first.",
                swap={"sure * bins": "sure * 0"}),
        Mistake("the largest gap", "This is the maximum calibration error.",
                "The mean over pictures of their bin's gap.",
                swap={"+= here.double().mean() * gap.abs()": "= max(error, gap.abs())"}),
        Mistake("no bins", "You compare single pictures. A single answer is right or wrong, never "
                "80 % right.", "Average in bins, then compare.",
                body="return (sure - right.double()).abs().mean()"),
        Mistake("squared", "The gaps are squared.", "Absolute values.",
                swap={"abs()": "square()"}),
        Mistake("empty bins", "A bin without pictures has no mean: 0 / 0 is NaN, and every sum "
                "with NaN is NaN.", "Leave empty bins out.",
                swap={"place.unique()": "range(bins)"}),
        Mistake("one has no bin", "In your answer, confidences of exactly 1 get a bin of their "
                "own. They belong to the last one.", "(sure * bins).long().clamp(max=bins - 1)",
                swap={".clamp(max=bins - 1)": ""}),
        Mistake("one falls out", "Confidences of exactly 1 fall out of your bins. They belong to "
                "the last one.", "Close the last bin on the right as well.",
                swap={".clamp(max=bins - 1)": "", "place.unique()": "place.unique()[:-1]"})),
    "early_exit.halting": (
        Mistake("no remainder", "Your weights sum to more than one where the token halts, or to "
                "less.", "The last block that runs gets the weight that is left to one.",
                swap={"1 - before[last]": "scores[last]"}),
        Mistake("normalised", "You divided by the sum of all scores. Then the token never halts, "
                "and the weight of the first block depends on the score of the last one.",
                "Add up the scores until they reach one.", body="return scores / scores.sum()"),
        Mistake("cut off", "In your answer the block at which the token halts has the weight 0.",
                "Its weight is the remainder, 1 minus the sum before it.",
                body="return scores * (scores.cumsum(0) < 1)"),
        Mistake("the end gives no remainder", "If the scores never reach one, your weights sum to "
                "less.", "The last block takes all that is left.",
                swap={"1 - before[last]": "min(scores[last], 1 - before[last])"}),
        Mistake("chances",
                "You treated the scores as probabilities of halting at each block. Here they are "
                "added up.", "A running sum, not a product.",
                body="return scores * (1 - scores).cumprod(0) / (1 - scores)"),
        Mistake("one block late", "The remainder comes one block too late, and may be below zero.",
                "The block whose score would bring the sum to one or more gets it.",
                swap={"before + scores >= 1": "before >= 1"}),
        Mistake("limit 0.99", "Your token halts at 0.99, as in the code on this page. In this "
                "exercise it halts when the sum would reach 1.", "Compare with 1, not with 0.99.",
                swap={">= 1": ">= 0.99"}),
        Mistake("limit 0.9", "Your token halts before the sum reaches 1.", "Compare with 1.",
                swap={">= 1": ">= 0.9"})),
    "early_exit.unused": (
        Mistake("one exit", "This pays for one exit. A picture that leaves at the eleventh exit "
                "has gone through all eleven.", "All pictures pay for 11 heads.",
                swap={"11 * ": ""}),
        Mistake("a share", "This is a share between 0 and 1.", "In percent it is a hundred times "
                "as much.", swap={"100 * ": ""}),
        Mistake("without attention", "The two products of attention are missing in your block.",
                "12 N d^2 + 2 N^2 d.", swap={" + 2 * tokens**2 * dim": ""}),
        Mistake("a head for each token", "Your exits read all tokens. They read only the class "
                "token.", "d times the classes, once.", swap={"11 * ": "11 * tokens * "}),
        Mistake("of the whole model", "You compare with the complete model. A picture that leaves "
                "at the last exit saves one block.", "Divide by the MACs of one block.",
                swap={"/ block": "/ (12 * block)"}),
        Mistake("upside down", "Your fraction is upside down: a block costs far more than the "
                "exits.", "Divide the cost of the exits by what one picture saves.",
                swap={"11 * dim * classes / block": "block / (11 * dim * classes)"})),
    "early_exit.fair": (
        Mistake("the mean alone", "One sort of picture is classified badly: it is rare, it leaves "
                "where it is not known, and the mean over all pictures hardly changes.",
                "Compute the accuracy of each sort, and compare pairs of thresholds by the lower "
                "one.",
                swap={"min(hits[sort == one].mean() for one in sort.unique())": "hits.mean()"}),
        Mistake("no budget", "The worst sort has a good accuracy, but the mean cost is above the "
                "budget.", "Leave out pairs whose macs[taken].mean() is above the budget.",
                swap={"macs[taken].mean() <= budget and ": ""}),
        Mistake("the cheapest", "Your thresholds cost little, but there is budget left that could "
                "make the worst sort more accurate.", "Do not look for the lowest cost: any cost "
                "within the budget is as good.", swap={
                    "best, chosen = -1.0": "best, chosen = -1e9",
                    "min(hits[sort == one].mean() for one in sort.unique())":
                    "-macs[taken].mean()"})),
}

RUBRICS = {
    "early_exit.would_you": (
        (1, "asks for the time at batch 1, with the slowest pictures (a high percentile): a "
            "picture that goes to the final classifier takes longer than without exits"),
        (1, "asks for accuracy, or misses, of the rare kind separately, by exit, with an interval, "
            "and for a threshold chosen on validation pictures"),
        (1, "asks whether the confidence is calibrated on pictures of this hospital, also where "
            "scanner or patients differ from those of the training"),
        (1, "proposes something that makes every picture faster in the same way: a pruned, "
            "distilled or smaller model, or exits that rank pictures and never end the work")),
}
