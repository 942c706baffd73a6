"""Answers to the exercises of the part distillation: unusual right ones, and wrong ones with the hint they draw."""

import math

import numpy
import torch

E2, PARTS = math.e**2, 629407744 / 8165376      # of odds, and of the three parts

RIGHT = {
    "response_distillation.odds": {
        "three digits": 7.39, "four": 7.389, "full": E2, "tensor": torch.tensor(2.0).exp(), "numpy": numpy.float32(7.39),
        "one axis": torch.tensor([7.389]), "text": "7.39"},
    "response_distillation.soft_targets": {
        "sum": """
            there, here = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
            return temperature**2 * (there * (there.log() - here.log())).sum() / len(student)""",
        "logarithms": """
            there, here = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
            return temperature**2 * F.kl_div(here, there, reduction='batchmean', log_target=True)""",
        "less the entropy": """
            there, scaled = F.softmax(teacher / temperature, 1), student / temperature
            entropy = torch.distributions.Categorical(there).entropy().mean()
            return (F.cross_entropy(scaled, there) - entropy) * temperature**2""",
        "distributions": """
            from torch.distributions import Categorical, kl_divergence
            pair = [Categorical(logits=logits / temperature) for logits in (teacher, student)]
            return temperature * temperature * kl_divergence(*pair).mean()""",
        "loop": """
            total = 0.0
            for one, other in zip(student / temperature, teacher / temperature):
                total += F.kl_div(one.log_softmax(0), other.softmax(0), reduction='sum').item()
            return total * temperature**2 / len(student)""",
        "float64": {"(teacher /": "(teacher.double() /", "(student /": "(student.double() /"},
        "one axis": {"return ": "return torch.ones(1) * "}, "in place": {"(teacher / temperature)": "teacher.div_(temperature)"}},
    "response_distillation.gradient": {
        "autograd": """
            student = student.clone().requires_grad_()
            there = (teacher / temperature).softmax(1)
            loss = temperature**2 * F.kl_div((student / temperature).log_softmax(1), there, reduction='batchmean')
            return torch.autograd.grad(loss, student)[0]""",
        "exponentials": """
            here, there = (student / temperature).exp(), (teacher / temperature).exp()
            return (here / here.sum(1, keepdim=True) - there / there.sum(1, keepdim=True)) * temperature / student.shape[0]""",
        "stacked": """
            both = (torch.stack([student, teacher]) / temperature).softmax(-1)
            return (both[0] - both[1]) * (temperature / len(student))""",
        "float64": {"(student /": "(student.double() /"}, "numpy": {"temperature * apart": "temperature * apart.numpy()"},
        "list": {"return temperature * apart / len(student)": "return (temperature * apart / len(student)).tolist()"}},
    "response_distillation.step": {
        "detached": {"with torch.no_grad():\n        taught = teacher(inputs)": "taught = teacher(inputs).detach()"},
        "frozen": {"with torch.no_grad():": "teacher.requires_grad_(False)\n    if True:"},
        "inference": {"taught = teacher(inputs)": "taught = teacher(inputs).clone()"},
        "two backwards": {"(0.1 * F.cross_entropy(logits, labels) + 0.9 * soft).backward()":
                          "(0.1 * F.cross_entropy(logits, labels)).backward(retain_graph=True)\n    (0.9 * soft).backward()"},
        "set to none": {"no_grad": "enable_grad", "soft).backward()": "soft).backward()\n    teacher.weight.grad = None"},
        "cross-entropy": {"F.kl_div(here, there, reduction=\"batchmean\")": "F.cross_entropy(logits / 4, there)"},
        "gradient set": {"(0.1 * F.cross_entropy(logits, labels) + 0.9 * soft).backward()":
                         "loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * soft\n"
                         "    student.weight.grad, = torch.autograd.grad(loss, [student.weight])"}},
    "response_distillation.token": {
        "weights": {"(own + taught) / 2": "0.5 * own + 0.5 * taught"},
        "one-hot": {"teacher.argmax(dim=1))": "F.one_hot(teacher.argmax(1), teacher.shape[1]).float())"},
        "largest": {"teacher.argmax(dim=1)": "teacher.max(dim=1).indices"}, "float": {"/ 2": "/ 2 * torch.ones(1)"},
        "both at once": """
            logits, targets = torch.cat([class_logits, token_logits]), torch.cat([labels, teacher.argmax(1)])
            return F.cross_entropy(logits, targets)""",
        "by hand": {"F.cross_entropy(class_logits, labels)": "-class_logits.log_softmax(1)[range(len(labels)), labels].mean()"},
        "of probabilities": {"teacher.argmax": "teacher.softmax(1).argmax"}},
    "response_distillation.budget": {
        "two digits": 1.8, "fraction": 27 / 15, "percent": "180 %", "tensor": torch.tensor(1.8), "numpy": numpy.float32(1.8),
        "one axis": torch.tensor([1.8], dtype=torch.float64)},
    "feature_distillation.attention_map": {
        "sum": {"pow(2).mean": "square().sum"}, "by hand": """
            energy = torch.einsum('bchw,bchw->bhw', maps, maps).flatten(1)
            return energy / energy.norm(dim=1, keepdim=True)""",
        "linalg": {"pow(2).mean(dim=1)": "norm(dim=1).pow(2)"}, "in place": {"maps.pow(2)": "maps.pow_(2)"},
        "float64": {"maps.pow": "maps.double().pow"}, "numpy": """
            energy = (maps.numpy() ** 2).sum(1).reshape(len(maps), -1)
            return energy / (energy ** 2).sum(1, keepdims=True) ** 0.5""",
        "loop": "return torch.stack([F.normalize(one.square().sum(0).flatten(), dim=0) for one in maps])"},
    "feature_distillation.similarity": {
        "by hand": """
            def rows(features):
                products = features.flatten(1) @ features.flatten(1).mT
                return products / products.norm(dim=1, keepdim=True)
            return ((rows(student) - rows(teacher)) ** 2).sum() / len(student) ** 2""",
        "columns": {"@ flat.T, dim=1": "@ flat.T, dim=0"}, "einsum": {"flat @ flat.T": "torch.einsum('ik,jk->ij', flat, flat)"},
        "mse": {"(rows[0] - rows[1]).pow(2).mean()": "F.mse_loss(*rows)"}, "means": {"flat @ flat.T": "flat @ flat.T / flat.shape[1]"},
        "float64": {"features.flatten(1)": "features.double().flatten(1)"},
        "norm": {"(rows[0] - rows[1]).pow(2).mean()": "torch.dist(*rows) ** 2 / len(student) ** 2"},
        "number": {".pow(2).mean()": ".pow(2).mean().item()"}},
    "feature_distillation.budget": {
        "three digits": 77.1, "four": 77.08, "full": PARTS, "numpy": numpy.float64(77.08), "tensor": torch.tensor(77.1),
        "one axis": torch.tensor([77.08]), "text": "77.1"},
    "feature_distillation.within": {
        "pairs": """
            pair = [F.cosine_similarity(t[:, 1:, None], t[:, None, 1:], dim=-1) for t in (student, teacher)]
            return F.mse_loss(*pair)""",
        "by hand": """
            found = []
            for tokens in (student[:, 1:], teacher[:, 1:]):
                norms = tokens.norm(dim=-1)
                found.append(tokens @ tokens.mT / (norms[:, :, None] * norms[:, None]))
            return ((found[0] - found[1]) ** 2).mean()""",
        "loop": """
            loss = 0
            for one, other in zip(student[:, 1:], teacher[:, 1:]):
                one, other = F.normalize(one, dim=1), F.normalize(other, dim=1)
                loss = loss + (one @ one.T - other @ other.T).square().mean() / len(student)
            return loss""",
        "bmm": {"unit @ unit.transpose(1, 2)": "torch.bmm(unit, unit.mT)"}, "dropped last": {
            "tokens[:, 1:]": "tokens", "unit @ unit.transpose(1, 2)": "(unit @ unit.mT)[:, 1:, 1:]"},
        "float64": {"tokens[:, 1:]": "tokens[:, 1:].double()"}, "narrowed": {"tokens[:, 1:]": "tokens.narrow(1, 1, tokens.shape[1] - 1)"}},
    "feature_distillation.hint": {
        "mse": "return F.mse_loss(student @ weight, teacher.detach()) / 2", "half": {".pow(2).mean() / 2": ".square().mul(0.5).mean()"},
        "no_grad": "with torch.no_grad():\n    fixed = teacher.clone()\nreturn (fixed - student @ weight).pow(2).mean() * 0.5",
        "linear": {"student @ weight": "F.linear(student, weight.T)"}, "einsum": {"student @ weight": "torch.einsum('bnd,de->bne', student, weight)"},
        "one axis": {"return ": "return torch.ones(1) * "}, "float64": {"return ": "return torch.ones((), dtype=torch.float64) * "},
        "data": {"teacher.detach()": "teacher.data"}},
    "feature_distillation.unreachable": {
        "eigenvalues": """
            values = torch.linalg.eigvalsh(features.T @ features)
            return values[:-width].sum() / values.sum()""",
        "rest": {"energy[width:].sum() / energy.sum()": "1 - energy[:width].sum() / energy.sum()"},
        "residual": """
            left, values, right = torch.linalg.svd(features, full_matrices=False)
            near = left[:, :width] * values[:width] @ right[:width]
            return (features - near).pow(2).sum() / features.pow(2).sum()""",
        "complex": """
            values = torch.linalg.eigvals(features.T @ features)
            return values[values.real.argsort(descending=True)][width:].sum() / values.sum()""",
        "grams": """
            values = torch.linalg.eigvalsh(features @ features.T).flip(0).clamp(min=0)
            return values[width:].sum() / values.sum()""",
        "numpy": "import numpy\nvalues = numpy.linalg.svd(features.numpy(), compute_uv=False) ** 2\nreturn values[width:].sum() / values.sum()",
        "float64": {"(features)": "(features.double())"}, "one axis": {".sum() / ": ".sum(0, keepdim=True) / "}},
}

WRONG = {
    "response_distillation.odds": {
        "cut": (7.38, None), "few digits": (7.4, None), "powers of ten": (100, None), "powers of two": (4, None),
        "double": (14.8, None), "not softened": (2981, "not softened"), "share": (0.881, "as a share"), "other": (0.135, "upside down"),
        "root": (math.e**0.5, None), "text": ("2", "logits alone")},
    "response_distillation.soft_targets": {
        "symmetric": ("""
            there, here = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
            return temperature**2 * ((there - here) * (there.log() - here.log())).sum() / len(student)""", None),
        "squared difference": ("""
            there, here = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
            return temperature**2 * (there - here).pow(2).sum() / len(student)""", None),
        "of logits": ("return temperature**2 * F.mse_loss(student, teacher)", None), "fourth power": ({"**2": "**4"}, None),
        "divided by the square": ({"temperature**2 * ": "1 / temperature**2 * "}, None), "sign": ({"return ": "return -"}, None),
        "student not softened": ({"(student / temperature)": "student"}, None), "mean": ({'"batchmean"': '"mean"'}, "mean over all entries"),
        "nan": ({"there, reduction": "there.log(), reduction"}, "logarithm of a logarithm"),
        "after the logarithm": ({"(student / temperature).log_softmax(dim=1)": "F.log_softmax(student, dim=1) / temperature"},
                                "temperature after the logarithm"), "per picture": ({'"batchmean")': '"none").sum(1)'}, None)},
    "response_distillation.gradient": {
        "square in front": ({"temperature * apart": "temperature**2 * apart"}, "chain rule forgotten"),
        "teacher not softened": ({"(teacher / temperature)": "teacher"}, None), "logarithms": ({"(student / temperature).softmax":
                                                                                             "(student / temperature).log_softmax"}, None),
        "of logits": ("return temperature * (student - teacher) / len(student)", None), "over the batch": ({"dim=1": "dim=0"}, None),
        "classes": ({"len(student)": "student.shape[1]"}, None), "doubled": ({"return ": "return 2 * "}, None),
        "all numbers": ({"len(student)": "student.numel()"}, "divided by classes, too"), "transposed": ({"apart / len(student)":
                                                                                                       "apart.T / len(student)"}, None)},
    "response_distillation.step": {
        "no backward": ({"(0.1 * F.cross_entropy(logits, labels) + 0.9 * soft).backward()":
                         "loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * soft"}, "backward forgotten"),
        "all without gradients": ({"with torch.no_grad():": "torch.set_grad_enabled(False)\n    if True:"}, "nothing learns"),
        "student detached": ({"logits = student(inputs)": "logits = student(inputs).detach()"}, "nothing learns"),
        "reversed": ({"F.kl_div(here, there,": "F.kl_div(there.log(), here.exp(),"}, None), "mean": ({'"batchmean"': '"mean"'}, None),
        "temperature": ({"16 * ": "4 * "}, None), "teacher sharp": ({"(taught / 4)": "taught"}, None),
        "twice": ({"soft).backward()": "soft).backward(retain_graph=True)\n    soft.backward()"}, None),
        "zeros left": ({"soft).backward()": "soft).backward()\n    teacher.weight.grad = torch.zeros_like(teacher.weight)"}, None),
        "labels sharp": ({"0.9 * soft": "soft"}, None), "gradients reset": ({"soft).backward()": "soft).backward()\n    student.zero_grad()"},
                                                                            "backward forgotten")},
    "response_distillation.token": {
        "teacher for both": ({"(class_logits, labels)": "(class_logits, teacher.argmax(dim=1))"}, None),
        "divergence": ({"F.cross_entropy(token_logits, teacher.argmax(dim=1))":
                        "F.kl_div(token_logits.log_softmax(1), teacher.softmax(1), reduction='batchmean')"}, None),
        "sum": ({"labels)": "labels, reduction='sum')"}, None), "smoothed": ({"labels)": "labels, label_smoothing=0.1)"}, None),
        "smallest": ({"argmax": "argmin"}, None), "own decision": ({"teacher.argmax": "class_logits.argmax"}, None),
        "label's head alone": ({"(own + taught) / 2": "own"}, None), "the other alone": ({"(own + taught) / 2": "taught"}, None),
        "distribution": ({"teacher.argmax(dim=1)": "teacher.softmax(dim=1)"}, "soft")},
    "response_distillation.budget": {
        "saved": (12, None), "share saved": (0.444, "what is saved"), "left": (0.556, "the wrong way round"), "three": (3.0, "teacher free"),
        "each pays": (1, "one student"), "near": (1.77, None), "nearly": (1.79, None), "two": (2, None), "few digits": (2.0, None),
        "text": ("80 %", None), "backward": (2.33, "backward pass forgotten")},
    "feature_distillation.attention_map": {
        "largest": ({"mean(dim=1)": "amax(dim=1)"}, None), "turned": ({"flatten(1), dim": "mT.flatten(1), dim"}, None),
        "largest is one": ("energy = maps.pow(2).sum(1).flatten(1)\nreturn energy / energy.amax(1, keepdim=True)", None),
        "softmax": ("return maps.pow(2).mean(1).flatten(1).softmax(1)", None), "not flat": ({".flatten(1), dim=1": ", dim=(1, 2)"}, None),
        "each row": ("return F.normalize(maps.pow(2).mean(1), dim=-1).flatten(1)", None), "centred": ({"maps.pow": "(maps - maps.mean(1, True)).pow"}, None),
        "norms": ({"pow(2).mean(dim=1)": "square().sum(1).sqrt()"}, "root taken")},
    "feature_distillation.similarity": {
        "whole matrix": ("""
            rows = [features.flatten(1) @ features.flatten(1).T for features in (student, teacher)]
            return (rows[0] / rows[0].norm() - rows[1] / rows[1].norm()).pow(2).mean()""", None),
        "pooled": ({"features.flatten(1)": "features.mean((2, 3))"}, None), "absolute": ({".pow(2)": ".abs()"}, None),
        "root": ({".mean()": ".mean().sqrt()"}, None), "centred": ({"features.flatten(1)": "(features - features.mean(0)).flatten(1)"}, None),
        "softmax": ({"F.normalize(flat @ flat.T, dim=1)": "(flat @ flat.T).softmax(1)"}, None), "halved": ({".mean()": ".mean() / 2"}, None),
        "sum": ({".mean()": ".mean(1).sum()"}, "divided by B")},
    "feature_distillation.budget": {
        "cut": (77.0, None), "few digits": (77, None), "saved": (98.7, None), "share": (0.013, "upside down"), "no sample": (77.4, "without the sample"),
        "pictures": (128, "within pictures alone"), "places": ((128 * 196) ** 2 / (196 * 128**2), None), "sample squared": (
            (128 * 196) ** 2 / (128 * 196**2 + 196 * 128**2 + 192**3), None), "one of each": (6867, "one matrix of each")},
    "feature_distillation.within": {
        "upper half": ("""
            pair = [F.normalize(t[:, 1:], dim=-1) @ F.normalize(t[:, 1:], dim=-1).mT for t in (student, teacher)]
            above = torch.ones_like(pair[0][0]).triu(1).bool()
            return (pair[0] - pair[1])[:, above].pow(2).mean()""", "itself left out"),
        "absolute": ({".pow(2)": ".abs()"}, None), "root": ({".mean()": ".mean().sqrt()"}, None), "rows summed": ({".mean()": ".sum(-1).mean()"}, None),
        "centred over patches": ({"tokens[:, 1:]": "tokens[:, 1:] - tokens[:, 1:].mean(1, keepdim=True)"}, None),
        "correlation": ({"unit @ unit.transpose(1, 2)": "torch.stack([each[1:].corrcoef() for each in tokens])"}, "centred"),
        "pictures": ({"(relations[0] - relations[1])": "(relations[0] - relations[1]).mean(0)"}, None),
        "softmax": ({"unit @ unit.transpose(1, 2)": "(unit @ unit.mT).softmax(-1)"}, None)},
    "feature_distillation.hint": {
        "number": ({".mean() / 2": ".mean().item() / 2"}, None), "all detached": ({"return (student": "return (student.detach()", "@ weight": "@ weight.detach()"}, None),
        "not reduced": ({".mean() / 2": " / 2"}, None), "weight transposed": ({"@ weight": "@ weight.T"}, None), "absolute": ({".pow(2)": ".abs()"}, None),
        "normalised": ({"(student @ weight - teacher.detach())": "(F.normalize(student @ weight, dim=-1) - F.normalize(teacher.detach(), dim=-1))"}, None),
        "two results": ({"return ": "return teacher, "}, None), "root": ({".mean() / 2": ".mean().sqrt() / 2"}, None), "quarter": ({"/ 2": "/ 4"}, None),
        "no detach": ("return F.mse_loss(student @ weight, teacher) / 2", "gradients into the teacher"),
        "both learn": ("return F.mse_loss(student @ weight, teacher)", None)},
    "feature_distillation.unreachable": {
        "one too few": ({"width:]": "width - 1:]"}, None), "ascending": ("""
            values = torch.linalg.eigh(features.T @ features).eigenvalues
            return values[width:].sum() / values.sum()""", "ascending"), "squared": ("""
            values = torch.linalg.eigvalsh(features.T @ features).flip(0) ** 2
            return values[width:].sum() / values.sum()""", "squared once more"), "beside the kept": ({"/ energy.sum()": "/ energy[:width].sum()"}, None),
        "covariance": ("values = torch.linalg.eigvalsh(features.T.cov()).flip(0)\nreturn values[width:].sum() / values.sum()", "centred"),
        "next alone": ({"energy[width:].sum()": "energy[width]"}, None), "root": ({"return energy[width:].sum() / energy.sum()":
                                                                                 "return (energy[width:].sum() / energy.sum()).sqrt()"}, None),
        "percent": ({"return ": "return 100 * "}, None), "mean": ({"energy[width:].sum()": "energy[width:].mean()"}, None),
        "channels normalised": ({"(features)": "(F.normalize(features, dim=0))"}, None)},
}
