"""Answers to the exercises of the part compression: unusual right ones, and wrong ones with the hint they draw."""

from fractions import Fraction

import numpy
import torch

RIGHT = {
    "pruning.neurons": {
        "joined": "return torch.cat([fc1_weight, fc2_weight.T], dim=1).norm(dim=1)",
        "hypot": "return torch.hypot(fc1_weight.norm(dim=1), fc2_weight.norm(dim=0))",
        "neuron by neuron": "return torch.stack([torch.cat([a, b]).norm() for a, b in zip(fc1_weight, fc2_weight.T)])",
        "float64": "return (fc1_weight.double()**2).sum(1).add((fc2_weight.double()**2).sum(0)).sqrt()",
        "vector_norm": "return torch.linalg.vector_norm(torch.hstack((fc1_weight, fc2_weight.mT)), dim=-1)",
        "diagonals": "return (torch.diagonal(fc1_weight @ fc1_weight.T) + torch.diagonal(fc2_weight.T @ fc2_weight)) ** 0.5",
        "numpy": """
            import numpy as np
            return np.sqrt((fc1_weight.numpy() ** 2).sum(1) + (fc2_weight.numpy() ** 2).sum(0))"""},
    "pruning.two_four": {
        "boolean": """
            fours = weight.abs().reshape(-1, 4)
            mask = torch.zeros_like(fours, dtype=torch.bool)
            mask[torch.arange(len(fours))[:, None], fours.topk(2).indices] = True
            return mask.view_as(weight)""",
        "third largest": """
            fours = weight.abs().unflatten(1, (-1, 4))
            return (fours >= fours.sort(dim=-1).values[..., 2:3]).flatten(1).float()""",
        "loop": """
            mask = torch.zeros(weight.shape)
            for row in range(weight.shape[0]):
                for start in range(0, weight.shape[1], 4):
                    four = weight[row, start:start + 4].abs().tolist()
                    for place in sorted(range(4), key=four.__getitem__)[2:]: mask[row, start + place] = 1
            return mask""",
        "ranks as integers": """
            fours = weight.square().unflatten(-1, (weight.shape[1] // 4, 4))
            rank = fours.argsort(-1).argsort(-1)
            return (rank >= 2).flatten(-2).long()""",
        "complement": """
            fours = weight.abs().unflatten(1, (-1, 4))
            gone = fours.topk(2, dim=2, largest=False).indices
            return torch.ones_like(fours).scatter(2, gone, 0.0).reshape(weight.shape)""",
        "comparisons in float64": """
            fours = weight.abs().view(weight.shape[0], -1, 4)
            larger = (fours[..., None] < fours[..., None, :]).sum(-1)
            return torch.where(larger < 2, 1.0, 0.0).view(weight.shape).double()"""},
    "pruning.scale": {
        "half": 0.5, "fraction": Fraction(1, 2), "roots": (1 / 64**0.5) / (1 / 16**0.5), "two zeros": 0.50, "as text": "0.5",
        "tensor": torch.tensor(0.25).sqrt()},
    "pruning.compensation": {
        "inverse": """
            gone = torch.tensor([i for i in range(weight.shape[1]) if i not in kept.tolist()])
            x, y = inputs[:, kept], inputs[:, gone]
            among = torch.linalg.inv(x.T @ x + ridge * torch.eye(x.shape[1]))
            return weight[:, kept] + weight[:, gone] @ (among @ x.T @ y).T""",
        "residual outputs": """
            x = inputs[:, kept]
            rest = inputs @ weight.T - x @ weight[:, kept].T
            moved = torch.linalg.solve(x.T @ x + ridge * torch.eye(len(kept)), x.T @ rest)
            return weight[:, kept] + moved.T""",
        "least squares": """
            mask = torch.ones(weight.shape[1]).bool(); mask[kept] = False
            x = torch.cat([inputs[:, kept], ridge**0.5 * torch.eye(len(kept))])
            y = torch.cat([inputs[:, mask], torch.zeros(len(kept), int(mask.sum()))])
            return weight[:, kept] + weight[:, mask] @ torch.linalg.lstsq(x, y).solution.T""",
        "cholesky": """
            mask = ~torch.isin(torch.arange(weight.shape[1]), kept)
            x, y = inputs[:, kept].double(), inputs[:, mask].double()
            chol = torch.linalg.cholesky(x.T @ x + ridge * torch.eye(len(kept)).double())
            return weight[:, kept].double() + weight[:, mask].double() @ torch.cholesky_solve(x.T @ y, chol).T""",
        "from moments": """
            moment = inputs.T @ inputs
            among = moment[kept][:, kept] + torch.diag(torch.full((len(kept),), ridge))
            old = weight.clone(); old[:, kept] = 0
            return weight[:, kept] + torch.linalg.solve(among, moment[kept] @ old.T).T""",
        "pseudoinverse": """
            gone = sorted(set(range(weight.shape[1])) - set(kept.tolist()))
            moment = inputs.T @ inputs
            among = moment[kept][:, kept] + ridge * torch.eye(len(kept))
            return weight[:, kept] + weight[:, gone] @ moment[gone][:, kept] @ torch.linalg.pinv(among)"""},
    "pruning.realisation": {
        "two digits": 0.34, "three": 0.342, "four": 0.3422, "rounded on the way": 1.3058 / 3.8156,
        "computed": 5.21 * 4.61 / 3.99 / 17.59, "percent": 34.2, "percent sign": "34 %"},
    "pruning.budget": {
        "two digits": 0.58, "three": 0.583, "four": 0.5833, "computed": 7 / 12, "percent": 58.3, "percent sign": "58 %",
        "fraction": Fraction(7, 12)},
    "low_rank.break_even": {
        "float": 153.0, "int": 153, "numpy": numpy.int32(153), "tensor": torch.tensor(153), "one axis": torch.tensor([153.0]),
        "floor": 192 * 768 // 960},
    "low_rank.factors": {
        "diagonal": """
            u, s, v = torch.linalg.svd(weight)
            return torch.diag(s[:rank]) @ v[:rank], u[:, :rank], bias""",
        "old svd": """
            u, s, v = torch.svd(weight)
            return v[:, :rank].T, u[:, :rank] * s[:rank], bias""",
        "roots to both": """
            u, s, v = torch.linalg.svd(weight, full_matrices=False)
            half = s[:rank].sqrt()
            return half[:, None] * v[:rank], u[:, :rank] * half, bias.clone()""",
        "outputs' directions": """
            main = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -rank:]
            return main.T @ weight, main, bias""",
        "inputs' directions": """
            main = torch.linalg.eigh(weight.T @ weight).eigenvectors.flip(1)[:, :rank]
            return main.T, weight @ main, bias""",
        "float32": """
            u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
            return (s[:rank, None] * v[:rank]), u[:, :rank], bias.float()""",
        "list with signs": """
            u, s, v = torch.linalg.svd(weight, full_matrices=False)
            return [-s[:rank, None] * v[:rank], -u[:, :rank], bias]"""},
    "low_rank.energy": {
        "loop": """
            total, running = (singular_values**2).sum(), 0
            for rank, value in enumerate(singular_values, 1):
                running = running + value**2
                if running >= energy * total: return rank
            return len(singular_values)""",
        "searchsorted": """
            kept = (singular_values**2).cumsum(0) / (singular_values**2).sum()
            return torch.searchsorted(kept, energy) + 1""",
        "argmax": """
            kept = singular_values.square().cumsum(0) / singular_values.norm()**2
            return int((kept >= energy).int().argmax()) + 1""",
        "smallest of all": """
            return min(k for k in range(1, len(singular_values) + 1)
                       if singular_values[:k].square().sum() >= energy * singular_values.square().sum())""",
        "downwards": """
            rank, squares = len(singular_values), singular_values.square()
            while rank > 1 and squares[:rank - 1].sum() >= energy * squares.sum(): rank -= 1
            return rank""",
        "what is lost": """
            lost = singular_values.square().flip(0).cumsum(0).flip(0) / singular_values.square().sum()
            return float((lost > 1 - energy).sum())"""},
    "low_rank.whitened": {
        "outputs' covariance": """
            main = torch.linalg.eigh(weight @ moment @ weight.T).eigenvectors[:, -rank:]
            return main @ main.T @ weight""",
        "symmetric root": """
            values, vectors = torch.linalg.eigh(moment)
            root = vectors * values.sqrt() @ vectors.T
            u, s, v = torch.linalg.svd(weight @ root, full_matrices=False)
            return u[:, :rank] @ torch.diag(s[:rank]) @ v[:rank] @ torch.linalg.inv(root)""",
        "projection": """
            root = torch.linalg.cholesky(moment)
            u = torch.linalg.svd(weight @ root).U[:, :rank]
            return u @ u.T @ weight""",
        "transposed": """
            s = torch.linalg.cholesky(moment).T
            u, d, v = torch.linalg.svd(s @ weight.T, full_matrices=False)
            return torch.linalg.solve(s, (u[:, :rank] * d[:rank]) @ v[:rank]).T""",
        "triangular solve": """
            root = torch.linalg.cholesky(moment)
            u, d, v = torch.linalg.svd(weight @ root, full_matrices=False)
            d[rank:] = 0
            return torch.linalg.solve_triangular(root, (u * d) @ v, upper=False, left=False)""",
        "right vectors": """
            w, v = weight.T, torch.linalg.svd(torch.linalg.cholesky(moment).mT @ weight.T, full_matrices=False).Vh[:rank]
            return (w @ v.T @ v).T"""},
    "low_rank.segments": {
        "reshape": """
            b, h, n, d = keys.shape
            image = keys[:, :, 1:].reshape(b, h, rank - 1, (n - 1) // (rank - 1), d).mean(3)
            return torch.cat((keys[:, :, :1], image), 2)""",
        "chunks in float32": """
            parts = [keys[:, :, :1]] + [p.mean(2, keepdim=True) for p in keys[:, :, 1:].chunk(rank - 1, 2)]
            return torch.cat(parts, 2).float()""",
        "pooling": """
            flat = keys[:, :, 1:].flatten(0, 1).mT
            each = flat.shape[-1] // (rank - 1)
            return torch.cat([keys[:, :, :1], F.avg_pool1d(flat, each).mT.unflatten(0, keys.shape[:2])], 2)""",
        "matrix": """
            n = keys.shape[2]; each = (n - 1) // (rank - 1)
            means = torch.zeros(rank, n, dtype=keys.dtype); means[0, 0] = 1
            for i in range(rank - 1): means[i + 1, 1 + i * each:1 + (i + 1) * each] = 1 / each
            return means @ keys""",
        "float32 loop": """
            out = torch.empty(*keys.shape[:2], rank, keys.shape[-1])
            each = (keys.shape[2] - 1) // (rank - 1)
            out[:, :, 0] = keys[:, :, 0]
            for i in range(1, rank): out[:, :, i] = keys[:, :, 1 + (i - 1) * each:1 + i * each].mean(dim=2)
            return out""",
        "running sums": """
            sums = keys[:, :, 1:].cumsum(2)
            each = sums.shape[2] // (rank - 1)
            ends = sums[:, :, each - 1::each]
            return torch.cat([keys[:, :, :1], ends.diff(dim=2, prepend=torch.zeros_like(ends[:, :, :1])) / each], 2)"""},
    "low_rank.budget": {
        "three digits": 1.11, "four": 1.113, "five": 1.1128, "computed": 1 + 65 / 576, "tensor": torch.tensor(1.1128),
        "ratio": 641 / 576, "as text": "1.113"}}

WRONG = {
    "pruning.neurons": {
        "means": ("return (fc1_weight.square().mean(1) + fc2_weight.square().mean(0)).sqrt()", None),
        "product": ("return fc1_weight.norm(dim=1) * fc2_weight.norm(dim=0)", None),
        "inputs": ("return fc1_weight.norm(dim=0)", None),
        "largest weight": ("return torch.maximum(fc1_weight.abs().amax(1), fc2_weight.abs().amax(0))", None),
        "sum of weights": ("return (fc1_weight + fc2_weight.T).norm(dim=1)", None),
        "one number": ("return torch.cat([fc1_weight, fc2_weight.T], 1).norm()", None),
        "norms added": ("return fc1_weight.norm(dim=1) + fc2_weight.norm(dim=0)", "norms added"),
        "rows alone": ("return fc1_weight.norm(dim=1)", "rows alone"),
        "squared": ("return torch.cat([fc1_weight, fc2_weight.T], 1).square().sum(1)", "no root"),
        "mean of norms": ("return (fc1_weight.norm(dim=1) + fc2_weight.norm(dim=0)) / 2", None),
        "spread": ("return torch.cat([fc1_weight, fc2_weight.T], 1).std(dim=1)", None)},
    "pruning.two_four": {
        "above the mean": ("return (weight.abs() > weight.abs().mean()).float()", None),
        "one in four": ({"topk(2, dim=2)": "topk(1, dim=2)"}, None),
        "three in four": ({"topk(2, dim=2)": "topk(3, dim=2)"}, None),
        "half of all": ("return weight.abs().flatten().argsort().argsort().view_as(weight).ge(weight.numel() // 2).float()", "half of all"),
        "not flat": ({".flatten(1)": ""}, None),
        "mirrored": ({"fours = weight.abs()": "fours = weight.abs()[:, ::1].flip(1)"}, None),
        "always the first two": ("return torch.tensor([1.0, 1, 0, 0]).repeat(len(weight), weight.shape[1] // 4)", None),
        "complement": ({"return torch.zeros_like(fours)": "return 1 - torch.zeros_like(fours)"}, "smallest kept"),
        "smallest signed": ({"weight.abs()": "-weight"}, None),
        "weights above a bound": ("return weight * (weight.abs() > 0.5)", None)},
    "pruning.scale": {
        "2.0": (2.0, "the wrong way round"), "0.25": (0.25, "no root"), "4": (4, None), "1": (1, "nothing done"),
        "0.125": (0.125, "whole scale"), "0.707": (0.707, "shared with the keys"),
        "0.71": (0.71, "shared with the keys"), "8": (8, None), "0.51": (0.51, None), "0.0625": (0.0625, None),
        "48": (48, None), "0.3333333333333333": (0.3333333333333333, None)},
    "pruning.compensation": {
        "relative ridge": ({"ridge * torch.eye(len(kept))": "ridge * among0 * torch.eye(len(kept))", "among = ": "among0 = (stays.T @ stays).diagonal().mean()\n    among = "}, None),
        "ridge times tokens": ({"ridge * torch.eye": "ridge * len(inputs) * torch.eye"}, None),
        "mean products": ({"stays.T @ stays +": "stays.T @ stays / len(stays) +", "stays.T @ went)": "stays.T @ went / len(stays))"}, None),
        "twice": ({"predicted.T": "predicted.T * 2"}, None),
        "ridge squared": ({"ridge * torch.eye": "ridge**2 * torch.eye"}, None),
        "least squares": ("return torch.linalg.lstsq(inputs[:, kept], inputs @ weight.T).solution.T", "no ridge"),
        "cut only": ("return weight[:, kept]", "cut only"),
        "whole weight": ({"weight[:, kept] + weight[:, gone] @ predicted.T": "weight.clone()"}, None),
        "products of what went": ({"stays.T @ stays": "went.T @ went"}, None),
        "each alone": ({"torch.linalg.solve(among, stays.T @ went)": "stays.T @ went / among.diagonal()[:, None]"}, None)},
    "pruning.realisation": {
        "2.92": (2.92, "the wrong way round"), "1.31": (1.31, "gain in time"), "3.82": (3.82, "gain in MACs"),
        "0.317": (0.317, "savings compared"), "0.766": (0.766, "what is left compared"), "0.31": (0.31, None),
        "0.35": (0.35, None), "0.262": (0.262, None), "0.4": (0.4, None), "342": (342, None), "0.74": (0.74, None),
        "0.0342": (0.0342, None)},
    "pruning.budget": {
        "0.625": (0.625, "ratios averaged"), "0.667": (0.667, "MLP alone"), "0.92": (0.92, "attention alone"),
        "0.42": (0.42, "share removed"), "0.4166666666666667": (0.4166666666666667, "share removed"),
        "0.604": (0.604, "proj forgotten"), "0.375": (0.375, "ratios multiplied"), "7": (7, None),
        "0.6": (0.6, None), "0.5": (0.5, None), "0.57": (0.57, None), "41.7": (41.7, "share removed"),
        "0.75": (0.75, None), "0.65": (0.65, None)},
    "low_rank.break_even": {
        "192": (192, "full rank"), "154": (154, "rounded up"), "153.6": (153.6, "not rounded"), "96": (96, "square"),
        "307": (307, "harmonic mean"), "152": (152, None), "768": (768, None), "960": (960, None),
        "307.2": (307.2, None), "48": (48, None), "384": (384, None)},
    "low_rank.factors": {
        "transposed": ({"first, second, bias": "first.T, second.T, bias"}, "both transposed"),
        "two results": ({"first, second, bias": "first, second"}, "two results"),
        "product": ({"first, second, bias": "second @ first, bias"}, "two results"),
        "rows for columns": ({"second = left[:, :rank]": "second = left[:rank].T"}, None),
        "first rows": ("return weight[:rank], torch.eye(len(weight))[:, :rank], bias", None),
        "QR": ("q = torch.linalg.qr(weight).Q[:, :rank]\nreturn q.T @ weight, q, bias", None),
        "short bias": ({"bias\n": "bias[:rank]\n"}, None),
        "squared": ({"values[:rank, None]": "values[:rank, None].square()"}, "singular values twice"),
        "root": ({"values[:rank, None]": "values[:rank, None].sqrt()"}, None),
        "one more": ({":rank": ":rank + 1"}, None), "one fewer": ({":rank": ":rank - 1"}, None),
        "swapped": ({"first, second, bias": "second, first, bias"}, "swapped"),
        "bias first": ({"first, second, bias": "bias, first, second"}, None),
        "bias in between": ({"second, bias": "second, second.T @ bias"}, None)},
    "low_rank.energy": {
        "not reached but passed": ({"kept < energy": "kept <= energy"}, None),
        "share lost": ({"kept < energy": "kept < 1 - energy"}, None),
        "squared share": ({"kept < energy": "kept < energy**2"}, "share of the length"),
        "root of the share": ({"kept < energy": "kept < energy**0.5"}, None),
        "each alone": ("return (singular_values.square() / singular_values.square().sum() > 1 - energy).sum().item()", None),
        "share of the count": ("return int(energy * len(singular_values))", None),
        "above the mean": ("return (singular_values > singular_values.mean()).sum().item()", None),
        "not squared": ("return (singular_values.cumsum(0) < energy * singular_values.sum()).sum() + 1", "not squared"),
        "one more": ({".item() + 1": ".item() + 2"}, None),
        "not normalised": ("return (singular_values.square().cumsum(0) < energy).sum().item() + 1", None),
        "by the largest": ("return (singular_values.square().cumsum(0) / singular_values[0]**2 < energy).sum().item() + 1", None)},
    "low_rank.whitened": {
        "transposed": ({"(moment)": "(moment).mT"}, "root transposed"),
        "not inverted": ({"@ torch.linalg.inv(root)": "@ root.T"}, None),
        "transposed on both": ({"weight @ root": "weight @ root.T", "inv(root)": "inv(root.T)"}, "root transposed"),
        "moment": ({"weight @ root": "weight @ moment", " @ torch.linalg.inv(root)": " @ torch.linalg.inv(moment)"}, "moment for its root"),
        "one fewer": ({":rank": ":rank - 1"}, None), "one more": ({":rank": ":rank + 1"}, None),
        "root twice": ({" @ torch.linalg.inv(root)": " @ root"}, None),
        "turned round": ({"return truncated @ torch.linalg.inv(root)": "return torch.linalg.inv(root) @ truncated.T"}, None),
        "whole": ("return weight", None),
        "ridge": ({"torch.linalg.cholesky(moment)": "torch.linalg.cholesky(moment + moment.diagonal().mean() * torch.eye(len(moment)))"}, None),
        "inputs' directions": ("""
            main = torch.linalg.eigh(moment).eigenvectors[:, -rank:]
            return weight @ main @ main.T""", None),
        "weight's directions": ("""
            main = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -rank:]
            return main @ main.T @ weight""", "plain")},
    "low_rank.segments": {
        "largest": ("return torch.cat([keys[:, :, :1], keys[:, :, 1:].unflatten(2, (rank - 1, -1)).amax(3)], 2)", None),
        "first tokens": ("return torch.cat([keys[:, :, :1], keys[:, :, 1:rank]], 2)", None),
        "class token averaged": ("return keys.unflatten(2, (rank, -1)).mean(3)", "class token averaged in"),
        "class token lost": ("""
            image = keys[:, :, 1:].unflatten(2, (rank - 1, -1)).mean(3)
            return torch.cat([image[:, :, :1] * 0, image], 2)""", None),
        "one token off": ("""
            image = keys[:, :, :-1].unflatten(2, (rank - 1, -1)).mean(3)
            return torch.cat([keys[:, :, :1], image], 2)""", None),
        "mean in front": ("""
            image = keys[:, :, 1:].unflatten(2, (rank - 1, -1)).mean(3)
            return torch.cat([keys.mean(2, keepdim=True), image], 2)""", None),
        "picked": ("return keys[:, :, torch.linspace(0, keys.shape[2] - 1, rank).long()]", None),
        "one mean for all": ("""
            image = keys[:, :, 1:].unflatten(2, (rank - 1, -1)).mean((2, 3))
            return torch.cat([keys[:, :, :1], image[:, :, None].expand(-1, -1, rank - 1, -1)], 2)""", None),
        "pooled with it": ("return F.adaptive_avg_pool2d(keys, (rank, keys.shape[-1]))", "class token averaged in"),
        "median": ("""
            image = keys[:, :, 1:].unflatten(2, (rank - 1, -1)).median(3).values
            return torch.cat([keys[:, :, :1], image], 2)""", None)},
    "low_rank.budget": {
        "1.1111111111111112": (1.1111111111111112, "class token forgotten"),
        "1.1111": (1.1111, "class token forgotten"), "0.101": (0.101, "as a share"),
        "0.8986": (0.8986, "upside down"), "0.9": (0.9, "upside down"), "1.17": (1.17, None),
        "1.34": (1.34, "MLP forgotten"), "1.053": (1.053, "one product"), "1.0534": (1.0534, "one product"),
        "1.12": (1.12, None), "1.1": (1.1, None), "1.2": (1.2, None),
        "1.669": (1.669, "maps to queries, keys and values, too"), "1.05": (1.05, "one product"),
        "0.113": (0.113, None), "11.3": (11.3, None), "113": (113, None)}}
