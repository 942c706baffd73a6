"""Known wrong answers to the exercises of `chapters/dynamic/early_exit`."""

from .. import Mistake

MISTAKES = {
    "early_exit.mean_cost": (
        Mistake("mean of exits", "This is the mean over exits, as if each were taken equally "
                "often.", "One cost for each picture, macs[exits], then the mean over pictures.",
                swap={"[exits]": ""}),
        Mistake("cost of the mean exit", "You averaged the numbers of the exits first. Costs do "
                "not rise evenly.", "First macs[exits], then the mean.",
                swap={"exits]": "exits.double().mean().round().long()]"}),
        Mistake("the median", "This is what the picture in the middle costs. Few that go far cost "
                "much, and the median does not see them.", "macs[exits].double().mean()",
                swap={"mean()": "median()"}),
        Mistake("sum", "This is what all pictures cost together.", "Divide by their number.",
                swap={"mean()": "sum()"}),
        Mistake("added up twice", "You added up costs that are added up already: macs[i] is all "
                "that a picture costs that leaves at i.", "No cumsum.",
                swap={"macs[exits]": "macs.cumsum(0)[exits]"}),
        Mistake("the slowest", "This is what each picture would cost if all waited for the last "
                "one. They leave the batch.", "macs[exits].mean()",
                swap={"exits]": "exits.max()]"}),
        Mistake("the end forgotten", "Pictures that go to the end are missing. They cost the most.",
                "The last entry of macs is the end, and exits may name it.",
                swap={"exits]": "exits[exits < len(macs) - 1]]"})),
    "early_exit.patience": (
        Mistake("not in a row", "You count all exits that named this class. They must follow each "
                "other: one that disagrees starts the count anew.",
                "Set the run back to 1 where the class changes.",
                swap={"place - agree + 1 : ": ": ",
                      "(last == last[0]).all(dim=0)": "(last == last[-1]).sum(dim=0) >= agree"}),
        Mistake("one too many", "You wait for one exit too many: it is `agree` exits that name the "
                "same class, not so many repetitions.", "A run begins at 1.",
                swap={"agree - 1": "agree", "agree + 1": "agree"}),
        Mistake("one too few", "Your pictures leave one exit too early.",
                "The exit itself counts: with agree=2 it and the one before it.",
                swap={"agree - 1": "agree - 2", "agree + 1": "agree + 2"}),
        Mistake("the last chance", "You found the last place at which so many agree. Whoever may "
                "leave does so at once.", "Note the first exit only.",
                swap={"reversed": ""}),
        Mistake("counted from one", "Each is one too high: exits are counted from 0.", "The first "
                "exit is 0, the end is len(named).", swap={"return taken": "return taken + 1"}),
        Mistake("no end", "Pictures that never agree leave at the last exit in your answer. They "
                "go on to the end.", "Start from a tensor full of len(named).",
                swap={"len(named))\n": "len(named) - 1)\n"}),
        Mistake("where the run began", "You give the exit where the run of equal answers began. "
                "There nobody knew that others would agree.", "The exit at which the run is long "
                "enough.", swap={"= place\n": "= place - agree + 1\n"})),
    "early_exit.threshold": (
        Mistake("those that leave", "You ask for the accuracy of those that leave. The others "
                "count as well, with what the end says of them.",
                "torch.where(sure >= threshold, early, end)",
                swap={"torch.where(sure >= threshold, exit_right, end_right)":
                      "exit_right[sure >= threshold]", "if right": "if not len(right) or right"}),
        Mistake("the largest", "The largest threshold is as accurate, and lets nobody leave.",
                "The first that reaches it.", swap={"tolist()": "tolist()[::-1]"}),
        Mistake("the most accurate", "This one is the most accurate. We want the cheapest that is "
                "accurate enough.", "Stop at the first that reaches `wanted`.", body="""
                def accuracy(threshold):
                    return torch.where(sure >= threshold, exit_right, end_right).double().mean()
                return max(thresholds.tolist(), key=accuracy)"""),
        Mistake("confidence taken for accuracy", "You took the wanted accuracy for the threshold. "
                "That would need an exit that keeps its word, and would count those that leave "
                "alone.", "Try the thresholds one by one.",
                swap={"right.double().mean()": "threshold"}),
        Mistake("the end never errs", "Your end is always right. It errs, too.",
                "Use `end`, (N,), for those that stay.", swap={"end_right)": "True)"}),
        Mistake("the wrong way round", "In your answer the unsure ones leave.",
                "At sure >= threshold the exit's answer counts, else the end's.",
                swap={"exit_right, end_right)": "end_right, exit_right)"}),
        Mistake("strict", "Who is just as sure as the threshold stays in your answer, and leaves "
                "by our rule.", "sure >= threshold.", swap={"sure >= ": "sure > "}),
        Mistake("accuracy beyond", "You want more than `wanted`. Just as much is enough.",
                ">= wanted.", swap={">= wanted": "> wanted"}),
        Mistake("bisection", "You halved the range, or stopped before the smallest, as if "
                "accuracy rose with the threshold. It goes up and down.",
                "Try all thresholds, the smallest first.", body="""
                low, high = 0, len(thresholds) - 1
                while low < high:
                    middle = (low + high) // 2
                    leaves = sure >= thresholds[middle]
                    right = torch.where(leaves, exit_right, end_right).double().mean()
                    low, high = (low, middle) if right >= wanted else (middle + 1, high)
                return thresholds[low].item()"""),
        Mistake("from the end", "You went down from the largest threshold and stopped where it was "
                "too inaccurate for the first time. Smaller ones may be accurate again.",
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
        Mistake("signed", "Too sure here and too modest there cancel in your sum.",
                "The absolute gap of each bin.", swap={".abs()": ""}),
        Mistake("one bin", "You compare all pictures at once: mean confidence and accuracy. A "
                "model can get that right and be wrong in every bin.", "The gap of each bin first.",
                swap={"sure * bins": "sure * 0"}),
        Mistake("the largest gap", "This is the maximum calibration error.",
                "The mean over pictures of their bin's gap.",
                swap={"+= here.double().mean() * gap.abs()": "= max(error, gap.abs())"}),
        Mistake("no bins", "You compare each picture with itself. A single answer is right or "
                "wrong, never 80 %.", "Average in bins, then compare.",
                body="return (sure - right.double()).abs().mean()"),
        Mistake("squared", "The gaps are squared.", "Absolute values.",
                swap={"abs()": "square()"}),
        Mistake("empty bins", "A bin without pictures has no mean: 0 / 0 is NaN, and so is every "
                "sum with it.", "Leave empty bins out.",
                swap={"place.unique()": "range(bins)"}),
        Mistake("one has no bin", "Confidences of exactly 1 have a bin of their own in your "
                "answer. They belong into the last one.", "(sure * bins).long().clamp(max=bins - "
                "1)", swap={".clamp(max=bins - 1)": ""}),
        Mistake("one falls out", "Confidences of exactly 1 fall out of your bins. They belong into "
                "the last one.", "Close the last bin on the right as well.",
                swap={".clamp(max=bins - 1)": "", "place.unique()": "place.unique()[:-1]"})),
    "early_exit.halting": (
        Mistake("no remainder", "Your shares overshoot one where the token halts, or stay under "
                "it.", "At the last block that runs, the share is what is left to one.",
                swap={"1 - before[last]": "scores[last]"}),
        Mistake("normalised", "You divided by the sum of all scores. Then nothing ever halts, and "
                "the first block's share hangs on the last block's score.",
                "Add up until one is reached.", body="return scores / scores.sum()"),
        Mistake("cut off", "The block at which the token halts counts nothing in your answer.",
                "It counts by the remainder, 1 minus the sum before it.",
                body="return scores * (scores.cumsum(0) < 1)"),
        Mistake("the end gives no remainder", "Where the scores never reach one, your shares sum "
                "to less.", "The last block takes all that is left.",
                swap={"1 - before[last]": "min(scores[last], 1 - before[last])"}),
        Mistake("chances", "You took scores for chances of halting at each block. Here they are "
                "added up.", "A running sum, not a product.",
                body="return scores * (1 - scores).cumprod(0) / (1 - scores)"),
        Mistake("one block late", "The remainder comes one block late, and may be below zero.",
                "The block whose score would lead to one or beyond gets it.",
                swap={"before + scores >= 1": "before >= 1"}),
        Mistake("limit 0.99", "Your token halts at 0.99, as the code on this page does. Here it "
                "goes on until the sum would reach 1.", "Compare with 1, not with 0.99.",
                swap={">= 1": ">= 0.99"}),
        Mistake("limit 0.9", "Your token halts before the sum reaches 1.", "Compare with 1.",
                swap={">= 1": ">= 0.9"})),
    "early_exit.unused": (
        Mistake("one exit", "This pays for one exit. A picture that leaves at the eleventh has "
                "been through all eleven.", "All pictures pay for 11 heads.", swap={"11 * ": ""}),
        Mistake("a share", "This is a share between 0 and 1.",
                "In percent: a hundred times as much.", swap={"100 * ": ""}),
        Mistake("without attention", "The two products of attention are missing in your block.",
                "12 N d^2 + 2 N^2 d.", swap={" + 2 * tokens**2 * dim": ""}),
        Mistake("a head for each token", "Your exits read all tokens. They read the class token "
                "alone.", "d times the classes, once.", swap={"11 * ": "11 * tokens * "}),
        Mistake("of the whole model", "You compare with the whole model. Who leaves at the last "
                "exit is spared one block.", "Divide by the MACs of one block.",
                swap={"/ block": "/ (12 * block)"}),
        Mistake("upside down", "Upside down: a block is worth far more than the exits.",
                "Cost of the exits over what one picture is spared.",
                swap={"11 * dim * classes / block": "block / (11 * dim * classes)"})),
    "early_exit.fair": (
        Mistake("the mean alone", "One sort pays for it: it is rare, and leaves where it is not "
                "known, which the mean over all pictures hardly notices.", "Compute the accuracy "
                "of each sort, and compare pairs of thresholds by the lower one.",
                swap={"min(hits[sort == one].mean() for one in sort.unique())": "hits.mean()"}),
        Mistake("no budget", "The worst sort fares well, and the mean cost is above the budget.",
                "Leave out pairs whose macs[taken].mean() is above the budget.",
                swap={"macs[taken].mean() <= budget and ": ""}),
        Mistake("the cheapest", "That costs little, and leaves accuracy lying about: there is "
                "budget left, and the worst sort would be glad of it.", "Do not look for the "
                "lowest cost: any cost within the budget is as good.", swap={
                    "best, chosen = -1.0": "best, chosen = -1e9",
                    "min(hits[sort == one].mean() for one in sort.unique())":
                    "-macs[taken].mean()"})),
}

RUBRICS = {
    "early_exit.would_you": (
        (1, "asks for time at batch 1, with the slowest pictures (a high percentile): who goes to "
            "the end waits longer than without exits"),
        (1, "asks for accuracy, or misses, of the rare kind apart, by exit, with an interval, and "
            "for a threshold chosen on validation pictures"),
        (1, "asks whether confidence keeps its word on pictures of this hospital: calibration, "
            "also where scanner or patients differ from the training's"),
        (1, "proposes something that makes every picture faster alike: a pruned, distilled or "
            "smaller model, or exits that rank pictures and never end the work")),
}
