"""Answers to the exercises of the part components: unusual right ones, and wrong ones with the hint they draw."""

import numpy
import torch

RIGHT = {
    "lightvit.reach": {
        "float": 38416.0, "numpy": numpy.int32(38416), "tensor": torch.tensor(38416), "one axis": torch.tensor([38416.0]),
        "array": numpy.array(38416), "by windows": 16 * 49 * 49},
    "lightvit.windows": {
        "loop": """
            out = maps.clone()
            for top in range(0, maps.shape[1], size):
                for left in range(0, maps.shape[2], size):
                    cell = maps[:, top:top + size, left:left + size]
                    tokens = cell.flatten(1, 2)
                    out[:, top:top + size, left:left + size] = attend(tokens, tokens, tokens).view(cell.shape)
            return out""",
        "fused": {"attend(windows, windows, windows)": "F.scaled_dot_product_attention(windows, windows, windows)"},
        "einsum": """
            b, h, w, d = maps.shape
            grid = maps.view(b, h // size, size, w // size, size, d)
            scores = torch.einsum('bhiwjd,bhkwld->bhwijkl', grid, grid) / d ** 0.5
            weights = scores.flatten(-2).softmax(-1).view_as(scores)
            return torch.einsum('bhwijkl,bhkwld->bhiwjd', weights, grid).reshape(b, h, w, d)""",
        "masked": """
            b, h, w, d = maps.shape
            rows, columns = torch.arange(h).div(size, rounding_mode='floor'), torch.arange(w) // size
            window = (rows[:, None] * w + columns).flatten()
            flat = maps.flatten(1, 2)
            mask = window[:, None] == window
            return F.scaled_dot_product_attention(flat, flat, flat, attn_mask=mask).view(maps.shape)""",
        "windows kept apart": """
            b, h, w, d = maps.shape
            grid = maps.view(b, h // size, size, w // size, size, d).transpose(2, 3).flatten(3, 4)
            mixed = attend(grid, grid, grid).unflatten(3, (size, size))
            return mixed.transpose(2, 3).reshape(b, h, w, d)""",
        "float64": {"maps.shape\n": "maps.shape; maps = maps.double()\n"},
        "numpy": {"reshape(maps.shape)": "reshape(maps.shape).numpy()"}},
    "lightvit.aggregate_and_broadcast": {
        "fused": """
            attend = F.scaled_dot_product_attention
            gathered = attend(query_global, key, value)
            return gathered, local + attend(query, gathered @ to_key, gathered @ to_value)""",
        "list": {"return gathered, local + ": "return [gathered, local + ", "(gathered @ to_value)": "(gathered @ to_value)]"},
        "in place": {"return gathered, local + scores": "local += scores", "@ (gathered @ to_value)":
                     "@ (gathered @ to_value)\n    return gathered, local"},
        "float64": {"scale = query": "query = query.double(); key = key.double(); value = value.double(); to_key = to_key.double()"
                    "; to_value = to_value.double(); query_global = query_global.double(); scale = query"},
        "einsum": {"gathered @ to_key": "torch.einsum('bhtd,de->bhte', gathered, to_key)"},
        "map moved to the queries": {"query @ (gathered @ to_key).transpose(-2, -1)": "(query @ to_key.T) @ gathered.mT"},
        "mixed, then mapped": {"@ (gathered @ to_value)": "@ gathered @ to_value"}},
    "lightvit.gates": {
        "broadcast": """
            mean = tokens.mean(1)
            channels = torch.sigmoid(mean @ to_channels).unsqueeze(1)
            few = tokens.shape[-1]
            places = torch.sigmoid(tokens @ to_place[:few] + (mean @ to_place[few:]).unsqueeze(1))
            return channels * places * output""",
        "by hand": {".sigmoid()": ".neg().exp().add(1).reciprocal()"}, "in place": {"output * (mean": "output.mul_(1) * (mean"},
        "einsum": {"(mean @ to_channels)": "torch.einsum('bnr,rd->bnd', mean, to_channels)"},
        "float64": {"return output": "return output.double()"},
        "repeated": {"mean.expand_as(tokens)": "mean.repeat(1, tokens.shape[1], 1)"},
        "sum over count": {"tokens.mean(dim=1, keepdim=True)": "tokens.sum(1, keepdim=True) / tokens.size(1)"}},
    "lightvit.attention_macs": {
        "gathered": "return dim * (dim * (4 * num_tokens + 6 * num_global) + 2 * num_tokens * (area + 2 * num_global))",
        "float": {"return linear": "return 1.0 * linear"}, "tensor": {"return linear": "return torch.tensor(0) + linear"},
        "int32": {"return linear": "return torch.tensor(0, dtype=torch.int32) + linear"},
        "numpy": {"return linear": "return torch.tensor(0).numpy() + linear"},
        "by windows": {"2 * num_tokens * area * dim": "num_tokens // area * 2 * area**2 * dim"}},
    "lightvit.budget": {"float": 24.0, "numpy": numpy.int64(24), "tensor": torch.tensor(24), "one axis": torch.tensor([24]),
                        "array": numpy.array([24]), "int16": numpy.int16(24)},
}

WRONG = {
    "lightvit.reach": {
        "two products": (2 * 38416, None), "windows squared": (16 * 16 * 49, None), "one window": (2401, "one window"),
        "all pairs": (784.0**2, "all pairs"), "one too many": (38417, None), "one row": (28 * 49, None), "with width": (38416 * 32, None)},
    "lightvit.windows": {
        "dilated": ("""
            b, h, w, d = maps.shape
            grid = maps.reshape(b, size, h // size, size, w // size, d).permute(0, 2, 4, 1, 3, 5)
            tokens = grid.reshape(-1, size * size, d)
            mixed = attend(tokens, tokens, tokens).reshape(grid.shape)
            return mixed.permute(0, 3, 1, 4, 2, 5).reshape(maps.shape)""", "dilated windows"),
        "over windows": ({"mixed = attend(windows, windows, windows)":
                          "turned = windows.transpose(0, 1)\n    mixed = attend(turned, turned, turned).transpose(0, 1)"}, None),
        "not mixed": ({"attend(windows, windows, windows)": "windows"}, None), "residual": ({"mixed = attend": "mixed = windows + attend"},
                                                                                          None),
        "mean": ({"attend(windows, windows, windows)": "windows.mean(1, keepdim=True).expand_as(windows)"}, None),
        "no root": ({"windows)": "windows, scale=1 / dim)"}, None), "flat": ({"reshape(maps.shape)": "flatten(1, 4)"}, None),
        "rows only": ("return attend(maps, maps, maps)", None), "unscaled": ({"windows)": "windows * dim**0.5)"}, None),
        "way back forgotten": ({"grid.transpose(2, 3).reshape(maps": "grid.reshape(maps"}, "window not reversed")},
    "lightvit.aggregate_and_broadcast": {
        "swapped": ({"return gathered, local": "return local", "(gathered @ to_value)": "(gathered @ to_value), gathered"}, None),
        "maps transposed": ({"@ to_key": "@ to_key.T", "@ to_value": "@ to_value.T"}, None), "one alone": ({"return gathered, ": "return "},
                                                                                                         None),
        "global residual": ({"return gathered,": "return query_global + gathered,"}, None),
        "keys of the tokens": ("""
            scale = query.shape[-1] ** -0.5
            gathered = (query_global @ key.mT * scale).softmax(-1) @ value
            return gathered, local + (query @ key.mT * scale).softmax(-1) @ value""", None),
        "scaled once": ({"transpose(-2, -1) * scale\n": "transpose(-2, -1)\n"}, None), "local as query": ({"query @ (": "local @ ("}, None),
        "sigmoid": ({".softmax(dim=-1)": ".sigmoid()"}, None), "wrong way": ({"@ to_key": "@ to_value", "@ to_value": "@ to_key"},
                                                                             "keys and values swapped")},
    "lightvit.gates": {
        "largest": ({"tokens.mean(dim=1, keepdim=True)": "tokens.amax(1, keepdim=True)"}, None),
        "residual": ({"return output *": "return output + output *"}, None), "mean of output": (
            {"(mean @ to_channels)": "output.mean(1, keepdim=True)"}, None), "softmax": ({".sigmoid()": ".softmax(-1)"}, None),
        "one sigmoid": ({"(mean @ to_channels).sigmoid() * (beside @ to_place)": "((mean @ to_channels) * (beside @ to_place))"}, None),
        "channels of each place": ({"(mean @": "(tokens @"}, None), "tanh": ({"sigmoid": "tanh"}, None), "gates alone": ({"output * ": ""},
                                                                                                                    None),
        "mean of the width": ({"tokens.mean(dim=1, keepdim=True)": "tokens.mean(-1, keepdim=True).expand_as(tokens)"}, None),
        "turned about": ({"[tokens, mean.expand_as(tokens)]": "[mean.expand_as(tokens), tokens]"}, "mean first")},
    "lightvit.attention_macs": {
        "one product each way": ({"2 * 2 * num_tokens": "2 * num_tokens"}, "one way"), "window's side": ({"* area": "* area**0.5"}, None),
        "windows of all": ({"2 * num_tokens * area": "2 * (num_tokens + num_global) * area"}, None),
        "one map of kv_global": ({"+ 2 * num_global * dim**2": "+ num_global * dim**2"}, None), "no projection": ({"4 * (": "3 * ("}, None),
        "global among themselves": ({"return linear": "return 2 * num_global**2 * dim + linear"}, None), "one too many": (
            {"return linear": "return 1.0 + linear"}, None), "one way, one product": ({"2 * 2 *": "1 *"}, None),
        "doubled": ({"return linear + windows + both_ways": "return (linear + windows + both_ways) * 2.0"}, "flops")},
    "lightvit.budget": {
        "half": (24.5, "half a token"), "all four": (98, None), "up": (25, "rounded up"), "one down": (23, None), "sides": (3, None),
        "one way": (49.0, "one way"), "twelve": (12, "windows counted once"), "tokens": (784, None)},
}
