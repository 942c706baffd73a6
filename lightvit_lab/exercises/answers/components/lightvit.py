"""Known wrong answers to the exercises of `chapters/components/lightvit`."""

from __future__ import annotations

import torch
from torch import Tensor
from .. import Mistake


def _to_windows(maps: Tensor, size: int) -> Tensor:
    batch, height, width, dim = maps.shape
    grid = maps.reshape(batch, height // size, size, width // size, size, dim)
    return grid.transpose(2, 3).reshape(-1, size * size, dim)


def _from_windows(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    grid = windows.reshape(-1, height // size, width // size, size, size, windows.shape[-1])
    return grid.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value


def _windows_not_reversed(maps: Tensor, size: int) -> Tensor:
    windows = _to_windows(maps, size)
    return _attend(windows, windows, windows).reshape(maps.shape)


def _windows_as_strips(maps: Tensor, size: int) -> Tensor:
    strips = maps.reshape(-1, size * size, maps.shape[-1])
    return _attend(strips, strips, strips).reshape(maps.shape)


def _windows_without_scale(maps: Tensor, size: int) -> Tensor:
    windows = _to_windows(maps, size)
    return _from_windows((windows @ windows.transpose(1, 2)).softmax(dim=-1) @ windows, size, *maps.shape[1:3])


def _no_windows(maps: Tensor, size: int) -> Tensor:
    tokens = maps.flatten(1, 2)
    return _attend(tokens, tokens, tokens).reshape(maps.shape)


def _global_no_scale(query_global: Tensor, query: Tensor, key: Tensor, value: Tensor,
                     to_key: Tensor, to_value: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    aggregated = (query_global @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    return aggregated, local + (query @ (aggregated @ to_key).transpose(-2, -1)).softmax(dim=-1) @ (aggregated @ to_value)


def _global_not_added(query_global: Tensor, query: Tensor, key: Tensor, value: Tensor,
                      to_key: Tensor, to_value: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    return _attend(query_global, key, value), local


def _global_local_lost(query_global: Tensor, query: Tensor, key: Tensor, value: Tensor,
                       to_key: Tensor, to_value: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    aggregated = _attend(query_global, key, value)
    return aggregated, _attend(query, aggregated @ to_key, aggregated @ to_value)


def _global_not_aggregated(query_global: Tensor, query: Tensor, key: Tensor, value: Tensor,
                           to_key: Tensor, to_value: Tensor,
                           local: Tensor) -> tuple[Tensor, Tensor]:
    return (_attend(query_global, key, value),
            local + _attend(query, query_global @ to_key, query_global @ to_value))


def _global_not_mapped(query_global: Tensor, query: Tensor, key: Tensor, value: Tensor,
                       to_key: Tensor, to_value: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    aggregated = _attend(query_global, key, value)
    return aggregated, local + _attend(query, aggregated, aggregated)


def _gates(tokens: Tensor, to_channels: Tensor, to_place: Tensor) -> tuple[Tensor, Tensor]:
    mean = tokens.mean(dim=1, keepdim=True)
    beside = torch.cat([tokens, mean.expand_as(tokens)], dim=-1)
    return (mean @ to_channels).sigmoid(), (beside @ to_place).sigmoid()


def _gated_no_spatial(output: Tensor, tokens: Tensor, to_channels: Tensor,
                      to_place: Tensor) -> Tensor:
    return output * _gates(tokens, to_channels, to_place)[0]


def _gated_no_channel(output: Tensor, tokens: Tensor, to_channels: Tensor,
                      to_place: Tensor) -> Tensor:
    return output * _gates(tokens, to_channels, to_place)[1]


def _gated_no_sigmoid(output: Tensor, tokens: Tensor, to_channels: Tensor,
                      to_place: Tensor) -> Tensor:
    return output * _gates(tokens, to_channels, to_place)[0].logit() * _gates(tokens, to_channels, to_place)[1].logit()


def _gated_sum(output: Tensor, tokens: Tensor, to_channels: Tensor, to_place: Tensor) -> Tensor:
    return output * sum(_gates(tokens, to_channels, to_place))


def _gated_over_batch(output: Tensor, tokens: Tensor, to_channels: Tensor,
                      to_place: Tensor) -> Tensor:
    mean = tokens.mean(dim=(0, 1), keepdim=True)
    beside = torch.cat([tokens, mean.expand_as(tokens)], dim=-1)
    return output * (mean @ to_channels).sigmoid() * (beside @ to_place).sigmoid()


def _attention_macs(num_tokens: int, num_global: int, dim: int, area: int) -> int:
    linear = 4 * (num_tokens + num_global) * dim**2 + 2 * num_global * dim**2
    return linear + 2 * num_tokens * area * dim + 4 * num_tokens * num_global * dim


def _attention_macs_no_area(num_tokens: int, num_global: int, dim: int, area: int) -> int:
    return _attention_macs(num_tokens, num_global, dim, 1)


def _attention_macs_full(num_tokens: int, num_global: int, dim: int, area: int) -> int:
    return _attention_macs(num_tokens, num_global, dim, num_tokens)


def _attention_macs_one_way(num_tokens: int, num_global: int, dim: int, area: int) -> int:
    return _attention_macs(num_tokens, num_global, dim, area) - 2 * num_tokens * num_global * dim


def _attention_macs_no_map(num_tokens: int, num_global: int, dim: int, area: int) -> int:
    return _attention_macs(num_tokens, num_global, dim, area) - 2 * num_global * dim**2


def _attention_macs_flops(num_tokens: int, num_global: int, dim: int, area: int) -> int:
    return 2 * _attention_macs(num_tokens, num_global, dim, area)


MISTAKES = {
    "lightvit.reach": (
        Mistake("all pairs", "This is full attention: every token looks at every token. Here it sees its window only.",
                "784 tokens, each with as many weights as its window has tokens.", answer=614_656),
        Mistake("one window", "This is one window. The map has more of them.",
                "Multiply by the number of windows: (28 / 7) squared.", answer=2_401),
        Mistake("one weight for each token", "This is the number of tokens. Each of them weighs every token of its window.",
                "Multiply the 784 tokens by the tokens of a window, 7 x 7.", answer=784),
        Mistake("one side of a window", "You gave each token the seven tokens of one side. A window has two.",
                "A window of 7 x 7 holds 49 tokens.", answer=5_488),
    ),
    "lightvit.windows": (
        Mistake("window not reversed", "Every number is right and most stand in the wrong place: your tokens come out window by window, they went in row by row.",
                "Undo what you did to cut the windows: reshape to (B, rows, columns, size, size, D), swap the same two axes again, then reshape to the map.", answer=_windows_not_reversed),
        Mistake("strips instead of windows", "Your windows are strips: size * size tokens that follow each other in memory lie side by side, not in a square.",
                "Split both height and width into (windows, size), and swap the two middle axes before you flatten.", answer=_windows_as_strips),
        Mistake("no scale", "The windows are right, the weights too peaked. What happens to a dot product when vectors get longer?",
                "Divide the dot products by the square root of the width of a token.", answer=_windows_without_scale),
        Mistake("whole map", "Your tokens look at the whole map: size changes nothing.",
                "Cut the map into windows first, as a larger batch; a softmax never crosses the batch axis.", answer=_no_windows),
    ),
    "lightvit.aggregate_and_broadcast": (
        Mistake("no scale", "Your weights are too peaked. What happens to a dot product when vectors get longer?",
                "Both softmaxes want their scores divided by the square root of the width of a head.", answer=_global_no_scale),
        Mistake("broadcast not added", "The global tokens are right, and nobody hears of them: your image tokens are what they were.",
                "Let the image tokens attend to the aggregated global tokens and add the result to `local`.", answer=_global_not_added),
        Mistake("local thrown away", "You return what is broadcast alone. What the windows found is lost.",
                "Add the two: local + broadcast.", answer=_global_local_lost),
        Mistake("old global tokens broadcast", "Your image tokens hear from the global tokens before these have gathered anything.",
                "Keys and values of the broadcast are made from the result of the aggregation.", answer=_global_not_aggregated),
        Mistake("aggregated tokens not mapped", "You use the aggregated tokens themselves as keys and as values.",
                "Multiply them by to_key for the keys and by to_value for the values.", answer=_global_not_mapped),
    ),
    "lightvit.gates": (
        Mistake("spatial gate forgotten", "Every place gets the same gates. Which of the two is missing?",
                "Multiply by the spatial gate (B, N, 1) as well: it is made from each token and the mean, side by side.", answer=_gated_no_spatial),
        Mistake("channel gate forgotten", "All channels of a place get the same gate. Which of the two is missing?",
                "Multiply by the channel gate (B, 1, D) as well: it is made from the mean of the tokens.", answer=_gated_no_channel),
        Mistake("no sigmoid", "A gate lets through something between nothing and all. Yours amplifies, and changes signs.",
                "Put each of the two gates through a sigmoid.", answer=_gated_no_sigmoid),
        Mistake("gates added", "You add the gates. Then a place whose gate is shut still passes what its channels let through.",
                "Multiply output, channel gate and spatial gate.", answer=_gated_sum),
        Mistake("mean over the batch", "The pictures of a batch influence each other: compare one picture alone with the same in a batch.",
                "The mean runs over the tokens of one picture: axis 1 alone.", answer=_gated_over_batch),
    ),
    "lightvit.attention_macs": (
        Mistake("window's area left out", "Too few, and by more the larger the windows are. With how many tokens does each token compare itself?",
                "Each of the N image tokens meets the `area` tokens of its window, in two products.", answer=_attention_macs_no_area),
        Mistake("full attention", "Your cost is that of tokens that see the whole map.",
                "Each image token meets only `area` others; only the global tokens meet them all.", answer=_attention_macs_full),
        Mistake("one way", "Aggregation or broadcast, one of them is missing: global tokens look at image tokens, and then?",
                "Each way has two products of num_tokens * num_global * dim.", answer=_attention_macs_one_way),
        Mistake("kv_global left out", "One small linear layer is missing: who makes the keys and values of the broadcast?",
                "kv_global maps num_global tokens from dim to 2 dim.", answer=_attention_macs_no_map),
        Mistake("flops", "Exactly twice too much: you counted operations, the question is about multiply-accumulates.",
                "One multiply and one add are one MAC: leave the factor 2 out.", answer=_attention_macs_flops),
    ),
    "lightvit.budget": (
        Mistake("one way", "You counted one way, from image to global tokens or back.",
                "Aggregating and broadcasting have two products each: 4 N T d together.", answer=49),
        Mistake("rounded up", "With so many it costs a little more: a budget is a limit.",
                "Round down.", answer=25),
        Mistake("windows counted once", "You counted one of the two products inside windows.",
                "Scores and mixing, both: 2 * 49 * N d.", answer=12),
    ),
}
