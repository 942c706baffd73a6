"""Answers to the exercises of the part foundations: unusual right ones, and wrong ones with the hint they draw."""

import numpy
import torch

RIGHT = {
    "vision_transformer.count": {
        "float": 577.0, "numpy": numpy.int64(577), "tensor": torch.tensor(577, dtype=torch.int32), "one axis": torch.tensor([577]),
        "noise": (384 / 16) ** 2 + 1 + 1e-10, "array": numpy.array(577.0)},
    "vision_transformer.patchify": {
        "unfold": "return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)",
        "unshuffled pixels": "return F.pixel_unshuffle(images, patch_size).flatten(2).transpose(1, 2)",
        "convolution": """
            width = images.shape[1] * patch_size**2
            kernel = torch.eye(width).view(width, images.shape[1], patch_size, patch_size)
            return F.conv2d(images, kernel, stride=patch_size).flatten(2).mT""",
        "sliding": """
            patches = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
            return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)""",
        "loop": """
            tokens = []
            for top in range(0, images.shape[2], patch_size):
                for left in range(0, images.shape[3], patch_size):
                    tokens.append(images[:, :, top:top + patch_size, left:left + patch_size].flatten(1))
            return torch.stack(tokens, 1)""",
        "float64": {"images.shape\n": "images.shape; images = images.double()\n"},
        "numpy": {"grid = images": "grid = images.numpy()", ".permute(": ".transpose("},
        "contiguous": {"patches.reshape(": "patches.contiguous().view("}},
    "vision_transformer.attention": {
        "fused": "return F.scaled_dot_product_attention(query, key, value)",
        "both scaled": "root = query.shape[-1] ** -0.25\nreturn ((query * root) @ (key * root).mT).softmax(-1) @ value",
        "einsum": """
            scores = torch.einsum('bhnd,bhmd->bhnm', query, key) / math.sqrt(query.size(-1))
            return torch.einsum('bhnm,bhmd->bhnd', torch.softmax(scores, 3), value)""",
        "by hand": """
            scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
            weights = (scores - scores.amax(-1, keepdim=True)).exp()
            return weights @ value / weights.sum(-1, keepdim=True)""",
        "head by head": """
            heads = [(query[:, h] @ key[:, h].mT / query.shape[-1] ** 0.5).softmax(-1) @ value[:, h]
                     for h in range(query.shape[1])]
            return torch.stack(heads, dim=1)""",
        "float64": {"= query": "= query.double()", "@ key": "@ key.double()", "@ value": "@ value.double()"},
        "in place": {"query @ key.transpose(-2, -1) / ": "query.div_(query.shape[-1] ** 0.5) @ key.mT / 1 ** "}},
    "vision_transformer.block_macs": {
        "grouped": "return 2 * dim * (num_tokens * (dim + num_keys + mlp_ratio * dim) + num_keys * dim)",
        "float": {"return query": "return 1.0 * query"}, "numpy": {"return query": "return torch.tensor(0).numpy() + query"},
        "tensor": {"return query": "return torch.tensor(0, dtype=torch.int32) + query"},
        "one axis": {"return query": "return torch.tensor([0.0], dtype=torch.float64) + query"},
        "per token": """
            return sum(2 * dim**2 * (1 + mlp_ratio) + 2 * num_keys * dim for _ in range(num_tokens)) + 2 * num_keys * dim**2"""},
    "vision_transformer.budget": {
        "float": 368.0, "numpy": numpy.float32(368), "tensor": torch.tensor(368), "one axis": torch.tensor([368.0]),
        "noise": 368 * (1 + 1e-15), "int16": numpy.int16(368)},
    "vision_transformer.diagnose": {
        "another order": {"C": "no position", "B": "no scale", "A": "wrong axis"},
        "capitals": {"A": "Wrong axis", "B": "No scale", "C": "No position"},
        "underscores": {"A": "wrong_axis", "B": "no_scale", "C": "no_position"},
        "hyphens": {"A": "wrong-axis", "B": "no-scale", "C": "no-position"},
        "spaces": {"A": " wrong axis", "B": "no  scale", "C": "no position "},
        "made": dict(zip("ABC", ["wrong axis", "no scale", "no position"]))},
    "measuring_efficiency.share": {
        "one decimal": 14.3, "two decimals": 14.26, "four": 14.2639, "text": "14.3 %", "float32": numpy.float32(14.264),
        "tensor": torch.tensor([14.264])},
    "measuring_efficiency.attention_macs": {
        "in two": "b, h, n, d = query\nm, e = key[2], value[3]\nreturn b * h * n * m * d + b * h * n * m * e",
        "of meta tensors": """
            meta = [torch.empty(shape, device='meta') for shape in (query, key, value)]
            scores = meta[0] @ meta[1].mT
            return scores.numel() * query[-1] + (scores @ meta[2]).numel() * key[-2]""",
        "float": {"return batch": "return 1.0 * batch"}, "tensor": {"return batch": "return torch.tensor(1) * batch"},
        "numpy": {"return batch": "return torch.tensor(1).numpy() * batch"}, "prod": {"batch * heads * queries": "math.prod(query[:3])"}},
    "measuring_efficiency.ratio": {
        "statistics": "import statistics\nreturn statistics.median(a / b for a, b in zip(first, second))",
        "numpy": "import numpy\nreturn numpy.median(numpy.array(first) / numpy.array(second))",
        "float32": "return torch.quantile(torch.tensor(first) / torch.tensor(second), 0.5)",
        "one axis": "return torch.quantile(torch.tensor(first) / torch.tensor(second), 0.5, keepdim=True)",
        "float64": "return torch.quantile(torch.tensor(first).double() / torch.tensor(second), 0.5)",
        "numpy float32": "import numpy\nreturn numpy.float32(numpy.median(numpy.divide(first, second)))"},
    "measuring_efficiency.attainable": {
        "by time": "return 2 * macs / max(2 * macs / peak, moved_bytes / bandwidth)",
        "branches": """
            intensity = 2 * macs / moved_bytes
            if intensity * bandwidth < peak:
                return intensity * bandwidth
            return peak""",
        "sorted": "return sorted((peak, 2 * macs / moved_bytes * bandwidth))[0]",
        "numpy": "import numpy\nreturn numpy.minimum(numpy.float32(peak), 2 * macs / moved_bytes * bandwidth)",
        "tensor": "return torch.tensor(2 * macs / moved_bytes * bandwidth).clamp(max=peak)",
        "one axis": "return torch.tensor([2 * macs * bandwidth / moved_bytes, peak]).amin(0, keepdim=True)"},
    "measuring_efficiency.amdahl": {
        "three digits": 2.11, "four": 2.105, "full": 1 / 0.475, "fraction": 40 / 19, "numpy": numpy.float32(2.1053),
        "tensor": torch.tensor([2.1053]), "text": "2.11"},
}

WRONG = {
    "vision_transformer.count": {
        "224 pixels": (197, None), "twice the class token": (578, None), "divided once": (384 * 384 // 16, None), "half": (288.5, None),
        "one picture": (1, None), "none": (None, None), "text": ("577 tokens", None), "no class token": (576.0, "no class token")},
    "vision_transformer.patchify": {
        "not transposed": ("return F.unfold(images, patch_size, stride=patch_size)", None),
        "channel by channel": ({"0, 2, 4, 1, 3, 5": "0, 1, 2, 4, 3, 5"}, None),
        "inside out": ({"0, 2, 4, 1, 3, 5": "0, 3, 5, 1, 2, 4"}, None),
        "three channels": ({"channels * patch": "3 * patch"}, None), "flipped": ({"return patches": "return patches.flip(1)"}, None),
        "rows for columns": ({"rows, patch_size, columns, patch": "columns, patch_size, rows, patch"}, None),
        "pictures joined": ({"batch, rows * columns,": "1, batch * rows * columns,"}, None),
        "sideways": ({"1, 3, 5": "1, 5, 3"}, "patches transposed"), "as unfold": ({"1, 3, 5": "3, 5, 1"}, "channels last")},
    "vision_transformer.attention": {
        "scaled twice": (
            "return F.scaled_dot_product_attention(query / query.shape[-1] ** 0.5, key, value)", "scale without root"),
        "causal": ("return F.scaled_dot_product_attention(query, key, value, is_causal=True)", None),
        "sigmoid": ({".softmax(dim=-1)": ".sigmoid()"}, None), "keys mixed": ({"@ value": "@ key"}, None),
        "no exponential": ("scores = query @ key.mT\nreturn scores / scores.sum(-1, keepdim=True) @ value", None),
        "all heads' width": ({"query.shape[-1]": "(query.shape[1] * query.shape[-1])"}, None),
        "squared width": ({"** 0.5": "** 2"}, None), "twice the width": ({" ** 0.5": " * 2"}, None),
        "plain": ("return (query @ key.mT).softmax(-1) @ value", "no scale")},
    "vision_transformer.block_macs": {
        "biases": ({"return query": "return 9 * dim + query"}, None), "one too many": ({"return query": "return 1 + query"}, None),
        "one too many, float": ({"return query": "return 1.0 + query"}, None), "no MLP": ({" + mlp": ""}, None),
        "MLP on keys": ({"mlp_ratio * num_tokens": "mlp_ratio * num_keys"}, None), "no keys": ({" + key_and_value": ""}, None),
        "keys squared": ({"num_tokens * num_keys": "num_keys**2"}, None), "no width": ({"num_keys * dim\n": "num_keys\n"}, None),
        "by heads": ({"num_keys * dim\n": "num_keys * dim * 3\n"}, None), "doubled": ({"return ": "return 2 * (", "+ mlp": "+ mlp)"}, "flops")},
    "vision_transformer.budget": {
        "tokens": (575, None), "next one up": (400, None), "next one down": (352, None), "not a multiple": (369, None),
        "fraction": (16 * 575**0.5, None), "half": (184, None), "ViT-Base": (528, "half the quadratic part"),
        "equal cost": (16 * int((6 * 384 - 1) ** 0.5), None), "no class token": (384.0, "one token too many"), "patches": (23, "in patches")},
    "vision_transformer.diagnose": {
        "all alike": ({"A": "no scale", "B": "no scale", "C": "no scale"}, None), "one doubled": (
            {"A": "wrong axis", "B": "no scale", "C": "no scale"}, None), "one left out": ({"A": "wrong axis", "B": "no scale"}, None),
        "turned about": ({"wrong axis": "A", "no scale": "B", "no position": "C"}, None), "other words": (
            {"A": "axis", "B": "scale", "C": "position"}, None), "a list": (["wrong axis", "no scale", "no position"], None),
        "numbers": ({"A": 2, "B": 3, "C": 1}, None), "moved": ({"A": "No scale", "B": "no position", "C": "wrong axis"}, "all moved on")},
    "measuring_efficiency.share": {
        "of the published": (14.19, "of the published total"), "of a block": (14.6, "of a block"), "cut": (14.2, "no class token"),
        "quarter": (14.26 / 4, None), "no head, no patches": (14.29, None), "the rest": (85.74, None), "twice": (28.5, "as operations"),
        "share": (0.143, "as a share"), "text": ("0.143 %", "as a share"), "few digits": (14, None), "one block": (14.26 / 12, None)},
    "measuring_efficiency.attention_macs": {
        "softmax": ({"(width + value[3])": "(width + value[3] + 1)"}, None), "keys' own": ({"queries *": "key[2] *"}, None),
        "values alone": ({"width + value[3]": "value[3]"}, None), "sides added": ({"* key[2]": "+ key[2]"}, None),
        "halved": ({"return": "return 0.5 *"}, None), "projections": ({"(width +": "(width**2 + width +"}, None),
        "one too many": ({"return": "return 1 +"}, None), "one picture": ({"return batch *": "return"}, "one picture")},
    "measuring_efficiency.ratio": {
        "lower": ("return torch.median(torch.tensor(first) / torch.tensor(second))", "the lower middle"),
        "upper": ("ratios = sorted(a / b for a, b in zip(first, second))\nreturn ratios[len(ratios) // 2]", "the upper middle"),
        "geometric": ("return math.exp(sum(math.log(a / b) for a, b in zip(first, second)) / len(first))", None),
        "middle round": ("return first[len(first) // 2] / second[len(second) // 2]", None), "largest": (
            "return max(a / b for a, b in zip(first, second))", None), "difference": (
            "import statistics\nreturn statistics.median(a - b for a, b in zip(first, second))", None),
        "both sorted": ("return sorted(a / b for a, b in zip(sorted(first), sorted(second)))[len(first) // 2]", None),
        "quartile": ("return torch.quantile(torch.tensor(first) / torch.tensor(second), 0.25).item()", None),
        "medians": ("import statistics\nreturn statistics.median(first) / statistics.median(second)", "ratio of medians")},
    "measuring_efficiency.attainable": {
        "MAC/s": ("return min(peak, 2 * macs / moved_bytes * bandwidth) / 2", None), "seconds": (
            "return max(2 * macs / peak, moved_bytes / bandwidth)", None), "one after the other": (
            "return 2 * macs / (2 * macs / peak + moved_bytes / bandwidth)", None), "intensity": ("return 2 * macs / moved_bytes", None),
        "four operations": ({"2 * macs": "4 * macs"}, None), "bandwidth alone": ("return min(peak, bandwidth)", None),
        "MACs": ("return min(peak, macs / moved_bytes * bandwidth)", "MACs for FLOPs"), "sum": ({"min(peak, ": "(peak + "}, None)},
    "measuring_efficiency.amdahl": {
        "cut": (2.10, None), "three of four": (0.7 * 3, None), "faster": (1.1, "what is won"), "faster, in percent": (
            110, "what is won, in percent"), "text": ("110 %", "what is won"), "percent": (210.5, "in percent"), "saved": (0.525, None),
        "four": (4, None), "few digits": (2, None), "mean gain": (3.1, "mean of gains"), "time": (0.475, "time left"),
        "harmonic": (1 / (0.3 / 4 + 0.7), "the wrong part"), "almost": (2.12, None)},
}
