"""Known wrong answers to the exercises of `chapters/distillation/response_distillation`."""

from .. import Mistake

MISTAKES = {
    "response_distillation.odds": (
        Mistake("not softened", "This is the ratio at temperature 1. The logits are divided before "
                "the softmax.", "Only the difference counts, and it is 8 / 4.", swap={" / 4": ""}),
        Mistake("multiplied", "You multiplied by the temperature: that makes the teacher surer.",
                "Divide the logits by 4.", swap={"/ 4": "* 4"}),
        Mistake("logits alone", "This is how far the divided logits are apart. The softmax takes "
                "exponentials.", "exp of what you have.", answer=8 / 4),
        Mistake("probabilities divided", "You divided the ratio. Temperature divides the logits, "
                "inside the exponential.", "exp(8 / 4), not exp(8) / 4.",
                swap={" / 4": "", "item()": "item() / 4"}),
        Mistake("as a share", "This is the probability of the first, were there no third class. We "
                "asked for the ratio.", "One probability divided by the other: the sum below them "
                "cancels.", swap={"exp": "sigmoid"}),
        Mistake("upside down", "This is how many times as probable the second is.",
                "One over it.", swap={"8 / 4": "-8 / 4"})),
    "response_distillation.soft_targets": (
        Mistake("square forgotten", "Right at temperature 1 alone. At others the gradient shrinks "
                "with the square of the temperature.", "Multiply the whole by temperature ** 2.",
                swap={"temperature**2 * ": ""}),
        Mistake("temperature for its square", "You made up for the temperature once. It enters "
                "twice: by the chain rule, and because soft distributions differ less.",
                "The factor is the square, not the temperature itself.", swap={"**2": ""}),
        Mistake("reversed", "Student and teacher have changed places: this divergence leaves it to "
                "the student which of the teacher's classes it ignores.",
                "F.kl_div(input, target): the student's log-probabilities come first.",
                swap={"F.kl_div(here, there,": "F.kl_div(there.log(), here.exp(),"}),
        Mistake("mean over all entries", "You divided by batch times classes: with 1,000 classes "
                "little would be left of the loss.", "Sum over classes, mean over pictures: "
                'reduction="batchmean".', swap={'"batchmean")': '"sum") / student.numel()'}),
        Mistake("not averaged", "This is the sum over the batch: twice the pictures would be twice "
                "the loss.", 'Divide by the number of pictures: reduction="batchmean".',
                swap={"batchmean": "sum"}),
        Mistake("softmax twice", "Your student went through the softmax twice, and after the first "
                "all numbers lie between 0 and 1.", "log_softmax of the logits themselves.",
                swap={".log_softmax": ".softmax(dim=1).log_softmax"}),
        Mistake("logarithm forgotten", "F.kl_div takes the logarithm of the student's "
                "probabilities, and does not notice when it gets the probabilities.",
                "log_softmax for the student, softmax for the teacher.",
                swap={"log_softmax": "softmax"}),
        Mistake("teacher not softened", "Only the student is softened: its logits would have to be "
                "as many times as large as the teacher's.", "Divide the teacher's logits by the "
                "temperature, too.", swap={"(teacher / temperature)": "teacher"}),
        Mistake("cross-entropy", "This is the cross-entropy: the same gradient, but it does not "
                "reach 0 where both agree.", "Subtract the teacher's entropy, or use F.kl_div.",
                swap={"F.kl_div(here": "F.cross_entropy(student / temperature",
                      ', reduction="batchmean"': ""}),
        Mistake("temperature after the logarithm", "You divided the log-probabilities by the "
                "temperature, not the logits: what comes out of them is no distribution.",
                "Divide first: (student / temperature).log_softmax(dim=1).",
                swap={"(student / temperature).log_softmax(dim=1)":
                      "student.log_softmax(dim=1) / temperature"}),
        Mistake("temperature after both", "You divided the outputs of the softmax by the "
                "temperature, not the logits.", "Divide first: (teacher / temperature).softmax, "
                "and likewise for the student.",
                swap={"(student / temperature).log_softmax(dim=1)":
                      "student.log_softmax(dim=1) / temperature",
                      "(teacher / temperature).softmax(dim=1)":
                      "teacher.softmax(dim=1) / temperature"}),
        Mistake("multiplied", "You multiplied the logits by the temperature: that makes both surer "
                "the higher it is.", "Divide the logits.",
                swap={" / temperature": " * temperature"}),
        Mistake("logarithm of a logarithm", "This is NaN (not a number): a logarithm of something "
                "negative was taken, as logarithms of probabilities are. Which of the two does "
                "F.kl_div want as logarithms?", "Logarithms for the student, probabilities for the "
                "teacher; log_target=True if you give the teacher's as logarithms, too.",
                swap={"(teacher / temperature).softmax": "(teacher / temperature).log_softmax"}),
        Mistake("over the batch", "Your softmax runs over the pictures.",
                "Classes are dimension 1: dim=1.", swap={"dim=1": "dim=0"})),
    "response_distillation.gradient": (
        Mistake("flipped", "The sign is the other way round: a step against this gradient would "
                "lead away from the teacher.", "Student minus teacher.",
                swap={"return ": "return -"}),
        Mistake("square forgotten", "This is the gradient without the factor of the loss: it "
                "shrinks as the temperature grows.", "The loss has a factor temperature ** 2 of "
                "its own.", swap={"temperature * apart": "apart / temperature"}),
        Mistake("chain rule forgotten", "You kept the square. The logits are divided by the "
                "temperature before the softmax, and so is their gradient.", "Chain rule: times 1 "
                "/ temperature.", swap={"return temperature": "return temperature**2"}),
        Mistake("no temperature in front", "The difference of the probabilities is right. What "
                "stands before it?", "temperature ** 2 from the loss, 1 / temperature from the "
                "chain rule.", swap={"temperature * apart": "apart"}),
        Mistake("batch forgotten", "The loss is a mean over pictures; this is the gradient of "
                "their sum.", "Divide by the number of pictures.", swap={" / len(student)": ""}),
        Mistake("divided by classes, too", "The loss is summed over classes. You took the mean "
                "over them.", "Divide by the number of pictures alone.",
                swap={"len(student)": "student.numel()"}),
        Mistake("not softened", "Your probabilities are those at temperature 1.", "Divide both "
                "logits by the temperature before the softmax.", swap={" / temperature": ""}),
        Mistake("limit", "This is what the gradient comes near to at high temperature, if the "
                "logits of each picture sum to 0. At these temperatures it is not yet there.",
                "The difference of the two softmaxes.",
                body="return (student - teacher) / student.numel()")),
    "response_distillation.step": (
        Mistake("gradients into the teacher", "The student's gradient is right, but the teacher "
                "has one, too: an optimizer that knew its weights would teach the teacher.",
                "Call the teacher under torch.no_grad().", swap={"no_grad": "enable_grad"}),
        Mistake("backward forgotten", "Neither has a gradient: nothing was sent back.",
                "Call backward() on the loss.", swap={".backward()": ""}),
        Mistake("nothing learns", "The loss does not know where it comes from: the student, too, "
                "was called under no_grad, or detached.",
                "Only the teacher's call belongs under torch.no_grad().",
                swap={"    logits": "        logits"}),
        Mistake("weights swapped", "The labels got the weight of the teacher.", "0.1 of the label "
                "loss, 0.9 of the soft targets.", swap={"0.9": "0.1", "(0.1": "(0.9"}),
        Mistake("both in full", "Both terms are there in full. The two weights say how they share.",
                "0.1 of one and 0.9 of the other.", swap={"0.1 * ": "", "0.9 * ": ""}),
        Mistake("teacher alone", "The labels are missing.", "Add 0.1 of F.cross_entropy(logits, "
                "labels).", swap={"0.1 * F.cross_entropy(logits, labels) + ": ""}),
        Mistake("labels softened", "You divided the logits by the temperature for the labels, too. "
                "Labels are one-hot; nothing in them is to be softened.", "F.cross_entropy of the "
                "logits as they are.", swap={"(logits, labels": "(logits / 4, labels"}),
        Mistake("square forgotten", "Without the square the teacher hardly counts, whatever its "
                "weight: at temperature 4 a sixteenth.",
                "Multiply the soft term by temperature ** 2.", swap={"16 * ": ""})),
    "response_distillation.token": (
        Mistake("heads swapped", "The heads have changed places.", "The class token's head hears "
                "the labels, the distillation token's head the teacher.",
                swap={"class_logits, token_logits": "token_logits, class_logits"}),
        Mistake("averaged first", "You averaged the two heads before the loss. So they do for the "
                "answer; in training each is to hear one voice.",
                "One cross-entropy for each head.",
                swap={"entropy(class_logits": "entropy((class_logits + token_logits) / 2",
                      "entropy(token_logits": "entropy((class_logits + token_logits) / 2"}),
        Mistake("labels alone", "Both heads hear the labels. Where is the teacher?", "The second "
                "target is teacher.argmax(dim=1).", swap={"teacher.argmax(dim=1)": "labels"}),
        Mistake("soft", "This is the soft target. The published models take the teacher's decision "
                "as if it were a label.", "Its decision: teacher.argmax(dim=1).",
                swap={"argmax": "softmax"}),
        Mistake("added", "Twice the loss: each head counts one half.", "Divide by 2.",
                swap={" / 2": ""})),
    "response_distillation.budget": (
        Mistake("teacher free", "As if the stored answers were free. The teacher runs once to make "
                "them.", "Live: 3 x (3 + 6). Stored: 6 + 3 x 3.", swap={"6 + ": ""}),
        Mistake("one student", "Nothing is saved for one student, nor where each of the three pays "
                "for the stored answers.", "The teacher's 6 units are paid once, for three "
                "students.", swap={"3 * ": ""}),
        Mistake("backward pass forgotten", "Either your students have no backward pass, or your "
                "teacher has one. Students have, the teacher has not.",
                "3 units for a student's step, 6 for the teacher's answers.",
                swap={"(3 + 6)": "(1 + 6)", "3 * 3": "3 * 1"}),
        Mistake("both live and stored", "You stored the answers and ran the teacher all the same.",
                "With stored answers a student's step costs its own 3 units.",
                swap={"6 + 3 * 3": "6 + 3 * (3 + 6)"}),
        Mistake("the wrong way round", "This is the share of the cost that is left.",
                "Its inverse.", swap={"3 * (3 + 6) / (6 + 3 * 3)": "(6 + 3 * 3) / (3 * (3 + 6))"}),
        Mistake("what is saved", "This is the share of the cost that is saved.",
                "The cost of the live teacher divided by that of the stored answers.",
                answer=12 / 27)),
    "response_distillation.temperature": (
        Mistake("as it is", "The teacher hardly says anything of the other classes: nearly all of "
                "its answer is the label.", "Raise the temperature until a quarter of the answer "
                "is left for the rest.", answer=1),
        Mistake("too high", "Loud enough, and no longer clear: the wrong classes have come so "
                "close to each other that unrelated ones get much of the rest.",
                "Lower it, until the related classes have 80 % of the rest.", answer=20),
        Mistake("upside down", "Below 1 the answer becomes sharper than the teacher's own.",
                "Logits are divided by the temperature: 4 where you have 1/4.", answer=0.25)),
}

RUBRICS = {
    "response_distillation.never_wrong": (
        (1, "says that such an answer is the label over again: what is left for the other classes, "
            "0.01 %, has no weight in the loss (1 - p of the label weighs it)"),
        (1, "proposes a higher temperature, standardised logits, or decoupling, and says that it "
            "lifts the share (or the weight) of the wrong classes in the loss"),
        (1, "proposes pictures that the teacher has not learned by heart: unlabelled or held-out "
            "ones, stronger augmentation, or a teacher stopped earlier or smoothed"),
        (1, "names a control: label smoothing, or a teacher whose wrong classes are shuffled, with "
            "several seeds")),
}
