"""Answers to the exercises of the part practice: unusual right ones, and wrong ones with the hint they draw."""

import numpy
import torch

OWN = 100 * (1 / 64 + (1 - 1 / 64) / 65)

RIGHT = {
    "reading_attention.residual": {
        "three digits": 3.08, "four": 3.077, "full": OWN, "text": "3.08 %", "numpy": numpy.float32(3.077), "one axis": torch.tensor([3.08])},
    "reading_attention.rollout": {
        "halves of what is left": """
            n = maps[0].shape[-1]
            flow = torch.eye(n)
            for block in maps:
                step = torch.eye(n).add(torch.stack(list(block)).sum(0) / len(block))
                flow = torch.einsum('ij,jk->ik', step / step.sum(1)[:, None], flow)
            return flow""",
        "at once": """
            mixed = torch.stack(maps).mean(1) + torch.eye(maps[0].shape[-1])
            return torch.linalg.multi_dot(list(F.normalize(mixed, p=1, dim=-1)).copy()[::-1])""",
        "reduce": """
            from functools import reduce
            steps = [block.mean(0) + torch.eye(block.shape[1]) for block in maps]
            return reduce(lambda low, high: high @ low, (step / step.sum(-1, True) for step in steps))""",
        "from the last": """
            flow = torch.eye(maps[0].shape[-1])
            for block in reversed(maps):
                step = block.mean(0) + torch.eye(len(flow))
                flow = flow @ (step / step.sum(-1, keepdim=True))
            return flow""",
        "in place": {"mixed = block.mean(dim=0) + identity": "mixed = block.mean(dim=0)\n        mixed.diagonal().add_(1)"},
        "float64": {"torch.eye(maps[0].shape[-1])": "torch.eye(maps[0].shape[-1], dtype=torch.float64)", "@ flow": "@ flow.double()"},
        "numpy": {"return flow": "return flow.numpy()"},
        "rows scaled again": {"return flow": "return flow / flow.sum(-1, keepdim=True)"}},
    "reading_attention.patches": {
        "reshape": {"view(side, side)": "reshape(side, -1)"}, "unflatten": {"view(side, side)": "unflatten(0, (side, side))"},
        "less itself": {"row.sum()": "(flow[0].sum() - flow[0, 0])"}, "numpy": "import numpy\nrow = flow.numpy()[0, 1:]\nside = math.isqrt(len(row))\n"
                                                                               "return (row / row.sum()).reshape(side, side)",
        "float64": {"flow[0, 1:]": "flow[0, 1:].double()"}, "list": {"view(side, side)": "view(side, side).tolist()"},
        "normalised": {"(row / row.sum())": "F.normalize(row, p=1, dim=0)"}, "in place": {"(row / row.sum())": "row.div_(row.sum())"}},
    "reading_attention.relevance": {
        "identity": {"flow + (weights": "(torch.eye(len(flow)) + (weights", ".mean(dim=0) @ flow": ".mean(dim=0)) @ flow"},
        "relu": {"(weights * gradient).clamp(min=0)": "F.relu(weights * gradient)"}, "gradient clamped": {"(weights * gradient).clamp(min=0)":
                                                                                                      "(weights * gradient.clamp(min=0))"},
        "where": {"(weights * gradient).clamp(min=0)": "torch.where(gradient > 0, weights * gradient, 0.0)"},
        "loop": """
            total = torch.zeros_like(flow)
            for one, slope in zip(weights, gradient):
                total += (one * slope).clamp_min(0) / len(weights)
            return flow + total @ flow""",
        "einsum": {".mean(dim=0) @ flow": ".mean(dim=0).T.T @ flow"}, "in place": {"flow + ": "flow.clone().add_(0) + "},
        "heads one by one": "return flow + torch.einsum('hij,jk->hik', (weights * gradient).clamp(min=0), flow).mean(0)",
        "float64": {"weights * gradient": "weights.double() * gradient", "@ flow": "@ flow.double()"}},
    "reading_attention.energy": {
        "blocks": """
            rows, columns = patch_map.shape
            share = mask.float().reshape(rows, mask.shape[0] // rows, columns, -1).mean((1, 3))
            mass = F.relu(patch_map)
            return (mass * share).sum() / mass.sum()""",
        "cells repeated": """
            side = mask.shape[0] // patch_map.shape[0]
            mass = patch_map.clamp(min=0).repeat_interleave(side, 0).repeat_interleave(side, 1)
            return mass[mask].sum() / mass.sum()""",
        "nearest": """
            mass = F.interpolate(patch_map[None, None].relu(), mask.shape, mode='nearest')[0, 0]
            return (mass * mask).sum() / mass.sum()""",
        "average pool": {"pool(mask[None].float(), patch_map.shape)[0]": "F.avg_pool2d(mask[None].float(), mask.shape[-1] // patch_map.shape[-1])[0]"},
        "number": {"mass.sum()": "mass.sum().item()"}, "float64": {"patch_map.clamp": "patch_map.double().clamp"},
        "one axis": {"return ": "return torch.ones(1) * "}, "numpy": """
            import numpy
            mass = numpy.maximum(patch_map.numpy(), 0)
            mass = numpy.kron(mass, numpy.ones((mask.shape[0] // len(mass),) * 2))
            return mass[mask.numpy()].sum() / mass.sum()"""},
}

WRONG = {
    "reading_attention.residual": {
        "few digits": (3.1, None), "cut": (3.07, None), "64 tokens": (3.1006, "64 tokens"), "in full": (3.101, "both in full"),
        "residual": (1.56, "residual path alone"), "mixed": (1.54, "attention alone"), "share": (0.0308, "as a share"),
        "text": ("0.0308 %", "as a share"), "five blocks": (100 * (1 / 32 + (1 - 1 / 32) / 65), None), "half": (50, None),
        "the rest": (96.9, None), "text in words": ("three percent", None)},
    "reading_attention.rollout": {
        "largest head": ({"block.mean(dim=0)": "block.amax(dim=0)"}, None), "smallest head": ({"block.mean(dim=0)": "block.amin(dim=0)"}, None),
        "summed": ({"block.mean(dim=0)": "block.sum(dim=0)"}, None), "last alone": ({"@ flow": "@ identity"}, None),
        "softmax": ({"mixed / mixed.sum(dim=-1, keepdim=True)": "mixed.softmax(-1)"}, None), "elementwise": ({" @ flow": " * flow"}, None),
        "first head": ({"block.mean(dim=0)": "block[0]"}, None), "transposed": ({"return flow": "return flow.T"}, None),
        "sum of blocks": ({" @ flow": " + flow"}, None), "less identity": ({"return flow": "return flow - identity"}, None),
        "heads one by one": ("""
            flow = torch.eye(maps[0].shape[-1])
            for block in maps:
                step = block + torch.eye(len(flow))
                flow = (step / step.sum(-1, keepdim=True)).mean(0) @ flow
            return flow""", None),
        "early": ({"mixed = block.mean(dim=0) + identity": "fused = block.mean(0)\n        mixed = fused / fused.sum(-1)[:, None] + identity"},
                  "normalised too early")},
    "reading_attention.patches": {
        "not divided": ({"(row / row.sum())": "row"}, "divided before"), "softmax": ({"(row / row.sum())": "row.softmax(0)"}, None),
        "second row": ({"flow[0, 1:]": "flow[1, 1:]"}, None), "diagonal": ({"flow[0, 1:]": "flow.diagonal()[1:]"}, None),
        "flat": ({".view(side, side)": ""}, None), "patches' rows": ({"flow[0, 1:]": "flow[1:, 1:].mean(0)"}, None), "norm": ({"row.sum()": "row.norm()"}, None),
        "flipped": ({"view(side, side)": "view(side, side).flip(0)"}, None), "transposed": ({"view(side, side)": "view(side, side).mT"}, "transposed")},
    "reading_attention.relevance": {
        "negative alone": ({"clamp(min=0)": "clamp(max=0)"}, None), "largest head": ({"mean(dim=0)": "amax(dim=0)"}, None),
        "attention alone": ({" * gradient": ""}, None), "not multiplied": ({" @ flow": ""}, None), "elementwise": ({"@ flow": "* flow"}, None),
        "averaged with the identity": ({"return flow + ": "return 0.5 * flow + 0.5 * "}, None), "transposed": ({"mean(dim=0)": "mean(dim=0).T"}, None),
        "rows normalised": ("return F.normalize(flow + (weights * gradient).clamp(min=0).mean(0) @ flow, p=1, dim=-1)", None),
        "last axis": ({"mean(dim=0) @ flow": "mean(dim=-1)"}, None), "sum": ({"mean(dim=0)": "sum(0)"}, "heads added"),
        "gradient as it is": ({".clamp(min=0)": ".clone()"}, "not clamped")},
    "reading_attention.energy": {
        "peak": ("return (patch_map * 0).sum() + mask.float().mean()", None), "outside": ({"mass * covered": "mass * (1 - covered)"}, None),
        "ratio": ({"/ mass.sum()": "/ (mass * (1 - covered)).sum()"}, None), "times its area": ({"/ mass.sum()": "/ mass.sum() / covered.mean()"}, None),
        "squares": ({"patch_map.clamp(min=0)": "patch_map.clamp(min=0) ** 2"}, None), "softmax": ({"patch_map.clamp(min=0)": "patch_map.flatten().softmax(0).view_as(patch_map)"}, None),
        "shifted": ({"patch_map.clamp(min=0)": "patch_map - patch_map.min()"}, None), "mean": ({"(mass * covered).sum()": "(mass * covered).mean()"}, None),
        "percent": ({"return ": "return 100 * "}, None), "positive below alone": ({"mass = patch_map.clamp(min=0)": "mass = patch_map",
                                                                                  "/ mass.sum()": "/ mass.clamp(min=0).sum()"}, None),
        "bilinear": ({"pool(mask[None].float(), patch_map.shape)[0]": "F.interpolate(mask[None, None].float(), patch_map.shape, mode='bilinear')[0, 0]"}, None),
        "sampled": ({"pool(mask[None].float(), patch_map.shape)[0]": "mask[::4, ::4]"}, "first pixel"),
        "transposed": ({"mass * covered": "mass * covered.T"}, None)},
}
