"""Known wrong answers to the exercises of `chapters/distillation/response_distillation`."""

from .. import Mistake

MISTAKES = {
    "response_distillation.odds": (
        Mistake("not softened", "This is the ratio at temperature 1. The logits are divided before "
                "the softmax.", "Only the difference counts, and it is 8 / 4.", swap={" / 4": ""}),
        Mistake("multiplied", "You multiplied by the temperature: that makes the teacher more "
                "certain.", "Divide the logits by 4.", swap={"/ 4": "* 4"}),
        Mistake("logits alone", "This is the difference of the divided logits. The softmax takes "
                "exponentials.", "Take exp of your number.", answer=8 / 4),
        Mistake("probabilities divided", "You divided the ratio. Temperature divides the logits, "
                "inside the exponential.", "exp(8 / 4), not exp(8) / 4.",
                swap={" / 4": "", "item()": "item() / 4"}),
        Mistake("as a share", "This is the probability of the first class if there were only two. "
                "We asked for the ratio.", "Divide one probability by the other: the sum below the "
                "line cancels.", swap={"exp": "sigmoid"}),
        Mistake("upside down", "This is how many times as probable the second class is.",
                "Take the inverse.", swap={"8 / 4": "-8 / 4"})),
    "response_distillation.soft_targets": (
        Mistake("square forgotten", "Right only at temperature 1. At higher temperatures the "
                "gradient shrinks with the square of the temperature.", "Multiply the loss by "
                "temperature ** 2.", swap={"temperature**2 * ": ""}),
        Mistake("temperature for its square", "You multiplied by the temperature once. It is "
                "needed twice: because of the chain rule, and because soft distributions differ "
                "less.", "The factor is the square, not the temperature itself.", swap={"**2": ""}),
        Mistake("reversed", "Student and teacher are swapped: with this divergence the student can "
                "ignore some of the teacher's classes.",
                "F.kl_div(input, target): the student's log-probabilities come first.",
                swap={"F.kl_div(here, there,": "F.kl_div(there.log(), here.exp(),"}),
        Mistake("mean over all entries", "You divided by batch times classes: with 1,000 classes "
                "the loss would be very small.", "Sum over classes, mean over pictures: "
                'reduction="batchmean".', swap={'"batchmean")': '"sum") / student.numel()'}),
        Mistake("not averaged", "This is the sum over the batch: with twice as many pictures the "
                "loss would be twice as large.", "Divide by the number of pictures: "
                'reduction="batchmean".', swap={"batchmean": "sum"}),
        Mistake("softmax twice", "You applied the softmax to the student twice; after the first, "
                "all numbers lie between 0 and 1.", "Use log_softmax of the logits themselves.",
                swap={".log_softmax": ".softmax(dim=1).log_softmax"}),
        Mistake("logarithm forgotten", "F.kl_div needs the logarithm of the student's "
                "probabilities, and it does not notice when it gets the probabilities.",
                "Use log_softmax for the student and softmax for the teacher.",
                swap={"log_softmax": "softmax"}),
        Mistake("teacher not softened", "Only the student is softened. To match the teacher, its "
                "logits would have to be larger by the factor of the temperature.", "Divide the "
                "teacher's logits by the temperature, too.",
                swap={"(teacher / temperature)": "teacher"}),
        Mistake("cross-entropy", "This is the cross-entropy: it has the same gradient, but it is "
                "not 0 when both agree.", "Subtract the teacher's entropy, or use F.kl_div.",
                swap={"F.kl_div(here": "F.cross_entropy(student / temperature",
                      ', reduction="batchmean"': ""}),
        Mistake("temperature after the logarithm", "You divided the log-probabilities by the "
                "temperature, not the logits: the result is not a distribution.",
                "Divide first: (student / temperature).log_softmax(dim=1).",
                swap={"(student / temperature).log_softmax(dim=1)":
                      "student.log_softmax(dim=1) / temperature"}),
        Mistake("temperature after both", "You divided the outputs of the softmax by the "
                "temperature, not the logits.", "Divide first: (teacher / temperature).softmax, "
                "and do the same for the student.",
                swap={"(student / temperature).log_softmax(dim=1)":
                      "student.log_softmax(dim=1) / temperature",
                      "(teacher / temperature).softmax(dim=1)":
                      "teacher.softmax(dim=1) / temperature"}),
        Mistake("multiplied", "You multiplied the logits by the temperature: that makes both more "
                "certain, not softer.", "Divide the logits.",
                swap={" / temperature": " * temperature"}),
        Mistake("logarithm of a logarithm", "This is NaN (not a number): a logarithm of negative "
                "numbers was taken, and logarithms of probabilities are negative. Which of the two "
                "does F.kl_div need as logarithms?", "Logarithms for the student, probabilities "
                "for the teacher; log_target=True if you give the teacher's as logarithms, too.",
                swap={"(teacher / temperature).softmax": "(teacher / temperature).log_softmax"}),
        Mistake("over the batch", "Your softmax runs over the pictures.",
                "Classes are dimension 1: dim=1.", swap={"dim=1": "dim=0"})),
    "response_distillation.gradient": (
        Mistake("flipped", "The sign is wrong: a step against this gradient would lead away "
                "from the teacher.", "Student minus teacher.",
                swap={"return ": "return -"}),
        Mistake("square forgotten", "This is the gradient without the factor of the loss: it "
                "shrinks when the temperature grows.", "The loss has a factor temperature ** 2 of "
                "its own.", swap={"temperature * apart": "apart / temperature"}),
        Mistake("chain rule forgotten", "The square is there. But the logits are divided by the "
                "temperature before the softmax, and so is their gradient.", "Chain rule: multiply "
                "by 1 / temperature.", swap={"return temperature": "return temperature**2"}),
        Mistake("no temperature in front", "The difference of the probabilities is right. Which "
                "factor is missing?", "temperature ** 2 from the loss, 1 / temperature from the "
                "chain rule.", swap={"temperature * apart": "apart"}),
        Mistake("batch forgotten", "The loss is a mean over pictures; this is the gradient of "
                "their sum.", "Divide by the number of pictures.", swap={" / len(student)": ""}),
        Mistake("divided by classes, too", "The loss is summed over classes. You took the mean "
                "over them.", "Divide by the number of pictures alone.",
                swap={"len(student)": "student.numel()"}),
        Mistake("not softened", "Your probabilities are those at temperature 1.", "Divide both "
                "logits by the temperature before the softmax.", swap={" / temperature": ""}),
        Mistake("limit", "The gradient is close to this at high temperature, if the logits of "
                "each picture sum to 0. These temperatures are not high enough.",
                "Take the difference of the two softmaxes.",
                body="return (student - teacher) / student.numel()")),
    "response_distillation.step": (
        Mistake("gradients into the teacher", "The student's gradient is right, but the teacher "
                "has one, too: an optimizer that knew its weights would change the teacher.",
                "Call the teacher under torch.no_grad().", swap={"no_grad": "enable_grad"}),
        Mistake("backward forgotten", "Neither of the two has a gradient.",
                "Call backward() on the loss.", swap={".backward()": ""}),
        Mistake("nothing learns", "The loss has no connection to the student: it was called under "
                "no_grad, too, or detached.",
                "Only the teacher's call belongs under torch.no_grad().",
                swap={"    logits": "        logits"}),
        Mistake("weights swapped", "The labels got the weight of the teacher.", "Take 0.1 of the "
                "label loss and 0.9 of the soft targets.", swap={"0.9": "0.1", "(0.1": "(0.9"}),
        Mistake("both in full", "Both terms have weight 1. The two weights must sum to 1.",
                "Weight 0.1 for the labels, weight 0.9 for the teacher.",
                swap={"0.1 * ": "", "0.9 * ": ""}),
        Mistake("teacher alone", "The labels are missing.", "Add 0.1 of F.cross_entropy(logits, "
                "labels).", swap={"0.1 * F.cross_entropy(logits, labels) + ": ""}),
        Mistake("labels softened", "You divided the logits by the temperature for the labels, too. "
                "Only the comparison with the teacher is softened.", "Use F.cross_entropy of the "
                "logits as they are.", swap={"(logits, labels": "(logits / 4, labels"}),
        Mistake("square forgotten", "Without the square the teacher hardly counts: at temperature "
                "4 only a sixteenth of its weight.", "Multiply the soft term by temperature ** 2.",
                swap={"16 * ": ""})),
    "response_distillation.token": (
        Mistake("heads swapped", "The heads are swapped.", "The class token's head learns from "
                "the labels, the distillation token's head from the teacher.",
                swap={"class_logits, token_logits": "token_logits, class_logits"}),
        Mistake("averaged first", "You averaged the two heads before the loss. That is done only "
                "at test time; in training each head has its own target.", "Compute one "
                "cross-entropy for each head.",
                swap={"entropy(class_logits": "entropy((class_logits + token_logits) / 2",
                      "entropy(token_logits": "entropy((class_logits + token_logits) / 2"}),
        Mistake("labels alone", "Both heads learn from the labels. Where is the teacher?", "The "
                "second target is teacher.argmax(dim=1).",
                swap={"teacher.argmax(dim=1)": "labels"}),
        Mistake("soft", "This is the soft target. The published models use the teacher's first "
                "choice as if it were a label.", "The first choice is teacher.argmax(dim=1).",
                swap={"argmax": "softmax"}),
        Mistake("added", "This is twice the loss: each head counts one half.", "Divide by 2.",
                swap={" / 2": ""})),
    "response_distillation.budget": (
        Mistake("teacher free", "The stored answers are not free: the teacher runs once to make "
                "them.", "Live: 3 x (3 + 6). Stored: 6 + 3 x 3.", swap={"6 + ": ""}),
        Mistake("one student", "With one student nothing is saved. With three, not each of them "
                "has to pay for the stored answers.", "The teacher's 6 units are paid once, for "
                "three students.", swap={"3 * ": ""}),
        Mistake("backward pass forgotten", "A student has a backward pass, the teacher has none. A "
                "student's step is more than its forward pass.",
                "3 units for a student's step, 6 for the teacher's answers.",
                swap={"(3 + 6)": "(1 + 6)", "3 * 3": "3 * 1"}),
        Mistake("both live and stored", "You stored the answers, but ran the teacher in each step "
                "as well.", "With stored answers a student's step costs its own 3 units.",
                swap={"6 + 3 * 3": "6 + 3 * (3 + 6)"}),
        Mistake("the wrong way round", "This is the share of the cost that is left.", "Take its "
                "inverse.", swap={"3 * (3 + 6) / (6 + 3 * 3)": "(6 + 3 * 3) / (3 * (3 + 6))"}),
        Mistake("what is saved", "This is the share of the cost that is saved.",
                "The cost of the live teacher divided by that of the stored answers.",
                answer=12 / 27)),
    "response_distillation.temperature": (
        Mistake("as it is", "The teacher says almost nothing about the other classes: nearly all "
                "of its answer is the label.", "Raise the temperature until a quarter of the "
                "answer is left for the rest.", answer=1),
        Mistake("too high", "Enough is left for the wrong classes, but they are so close to each "
                "other that unrelated classes get much of it.", "Lower the temperature until the "
                "related classes have 80 % of the rest.", answer=20),
        Mistake("upside down", "Below 1 the answer becomes sharper than the teacher's own.",
                "Logits are divided by the temperature: use 4, not 1/4.", answer=0.25)),
}

RUBRICS = {
    "response_distillation.never_wrong": (
        (1, "says that such an answer is nearly the label itself: what is left for the other "
            "classes, 0.01 %, has no weight in the loss (its weight is 1 - p of the label)"),
        (1, "proposes a higher temperature, standardised logits, or decoupling, and says that it "
            "increases the share (or the weight) of the wrong classes in the loss"),
        (1, "proposes pictures that the teacher has not memorised: unlabelled or held-out "
            "ones, stronger augmentation, or a teacher that was stopped earlier or smoothed"),
        (1, "names a control: label smoothing, or a teacher whose wrong classes are shuffled, with "
            "several seeds")),
}
