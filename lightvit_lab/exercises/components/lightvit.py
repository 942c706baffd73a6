"""Checks of the exercises in `chapters/components/lightvit`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Exercise, Mistake


def _to_windows(maps: Tensor, size: int) -> Tensor:
    batch, height, width, dim = maps.shape
    grid = maps.reshape(batch, height // size, size, width // size, size, dim)
    return grid.transpose(2, 3).reshape(-1, size * size, dim)


def _from_windows(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    grid = windows.reshape(-1, height // size, width // size, size, size, windows.shape[-1])
    return grid.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value


def _window_attention(maps: Tensor, size: int) -> Tensor:
    windows = _to_windows(maps, size)
    return _from_windows(_attend(windows, windows, windows), size, *maps.shape[1:3])


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


def _map_cases(generator: torch.Generator) -> list[tuple]:
    return [(2 * torch.randn(2, 4, 6, 8, generator=generator), 2),
            (2 * torch.randn(1, 6, 9, 4, generator=generator), 3)]


def _through_global(query_global: Tensor, query: Tensor, key: Tensor, value: Tensor, to_key: Tensor,
                    to_value: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    aggregated = _attend(query_global, key, value)
    return aggregated, local + _attend(query, aggregated @ to_key, aggregated @ to_value)


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


def _global_cases(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator)

    return [(draw(2, 2, 3, 8), *(draw(2, 2, 10, 8) for _ in range(3)), 0.3 * draw(8, 8), 0.3 * draw(8, 8), draw(2, 2, 10, 8)),
            (draw(1, 4, 2, 4), *(draw(1, 4, 6, 4) for _ in range(3)), 0.5 * draw(4, 4), 0.5 * draw(4, 4), draw(1, 4, 6, 4))]


def _gates(tokens: Tensor, to_channels: Tensor, to_place: Tensor) -> tuple[Tensor, Tensor]:
    mean = tokens.mean(dim=1, keepdim=True)
    beside = torch.cat([tokens, mean.expand_as(tokens)], dim=-1)
    return (mean @ to_channels).sigmoid(), (beside @ to_place).sigmoid()


def _gated(output: Tensor, tokens: Tensor, to_channels: Tensor, to_place: Tensor) -> Tensor:
    channel, spatial = _gates(tokens, to_channels, to_place)
    return output * channel * spatial


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


def _gate_cases(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [(draw(2, 7, 8), draw(2, 7, 4), draw(4, 8), draw(8, 1)), (draw(3, 5, 6), draw(3, 5, 2), draw(2, 6), draw(4, 1))]


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


def _stage_cases(generator: torch.Generator) -> list[tuple]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    return [(area * draw(4, 17), draw(4, 25), 32 * draw(2, 9), area) for area in (49, 16, 49)]


EXERCISES = (
    Exercise(
        id="lightvit.reach", prompt="Weights that one head computes in windows of 7 x 7 on a map of 28 x 28",
        solution=38_416, cases=None, points=1, minutes=3, mistakes=(
            Mistake("all pairs", 614_656, "This is full attention: every token looks at every token. Here it sees its window only.",
                    "784 tokens, each with as many weights as its window has tokens."),
            Mistake("one window", 2_401, "This is one window. The map has more of them.",
                    "Multiply by the number of windows: (28 / 7) squared."),
            Mistake("one weight for each token", 784, "This is the number of tokens. Each of them weighs every token of its window.",
                    "Multiply the 784 tokens by the tokens of a window, 7 x 7."),
            Mistake("one side of a window", 5_488, "You gave each token the seven tokens of one side. A window has two.",
                    "A window of 7 x 7 holds 49 tokens."),
        )),
    Exercise(
        id="lightvit.windows", prompt="Attention inside windows, tokens back in reading order", solution=_window_attention,
        cases=_map_cases, points=3, minutes=15, tolerance=1e-4, mistakes=(
            Mistake("window not reversed", _windows_not_reversed,
                    "Every number is right and most stand in the wrong place: your tokens come out window by window, they "
                    "went in row by row.",
                    "Undo what you did to cut the windows: reshape to (B, rows, columns, size, size, D), swap the same two "
                    "axes again, then reshape to the map."),
            Mistake("strips instead of windows", _windows_as_strips,
                    "Your windows are strips: size * size tokens that follow each other in memory lie side by side, not in "
                    "a square.",
                    "Split both height and width into (windows, size), and swap the two middle axes before you flatten."),
            Mistake("no scale", _windows_without_scale,
                    "The windows are right, the weights too peaked. What happens to a dot product when vectors get longer?",
                    "Divide the dot products by the square root of the width of a token."),
            Mistake("whole map", _no_windows, "Your tokens look at the whole map: size changes nothing.",
                    "Cut the map into windows first, as a larger batch; a softmax never crosses the batch axis."),
        )),
    Exercise(
        id="lightvit.aggregate_and_broadcast", prompt="Global tokens gather from all image tokens and hand back to all",
        solution=_through_global, cases=_global_cases, points=3, minutes=15, tolerance=1e-4, mistakes=(
            Mistake("no scale", _global_no_scale,
                    "Your weights are too peaked. What happens to a dot product when vectors get longer?",
                    "Both softmaxes want their scores divided by the square root of the width of a head."),
            Mistake("broadcast not added", _global_not_added,
                    "The global tokens are right, and nobody hears of them: your image tokens are what they were.",
                    "Let the image tokens attend to the aggregated global tokens and add the result to `local`."),
            Mistake("local thrown away", _global_local_lost,
                    "You return what is broadcast alone. What the windows found is lost.",
                    "Add the two: local + broadcast."),
            Mistake("old global tokens broadcast", _global_not_aggregated,
                    "Your image tokens hear from the global tokens before these have gathered anything.",
                    "Keys and values of the broadcast are made from the result of the aggregation."),
            Mistake("aggregated tokens not mapped", _global_not_mapped,
                    "You use the aggregated tokens themselves as keys and as values.",
                    "Multiply them by to_key for the keys and by to_value for the values."),
        )),
    Exercise(
        id="lightvit.gates", prompt="Gate the output of an MLP by channel and by place", solution=_gated,
        cases=_gate_cases, points=2, minutes=10, mistakes=(
            Mistake("spatial gate forgotten", _gated_no_spatial,
                    "Every place gets the same gates. Which of the two is missing?",
                    "Multiply by the spatial gate (B, N, 1) as well: it is made from each token and the mean, side by side."),
            Mistake("channel gate forgotten", _gated_no_channel,
                    "All channels of a place get the same gate. Which of the two is missing?",
                    "Multiply by the channel gate (B, 1, D) as well: it is made from the mean of the tokens."),
            Mistake("no sigmoid", _gated_no_sigmoid,
                    "A gate lets through something between nothing and all. Yours amplifies, and changes signs.",
                    "Put each of the two gates through a sigmoid."),
            Mistake("gates added", _gated_sum,
                    "You add the gates. Then a place whose gate is shut still passes what its channels let through.",
                    "Multiply output, channel gate and spatial gate."),
            Mistake("mean over the batch", _gated_over_batch,
                    "The pictures of a batch influence each other: compare one picture alone with the same in a batch.",
                    "The mean runs over the tokens of one picture: axis 1 alone."),
        )),
    Exercise(
        id="lightvit.attention_macs", prompt="MACs of LightViT's attention", solution=_attention_macs, cases=_stage_cases,
        points=3, minutes=12, mistakes=(
            Mistake("window's area left out", _attention_macs_no_area,
                    "Too few, and by more the larger the windows are. With how many tokens does each token compare itself?",
                    "Each of the N image tokens meets the `area` tokens of its window, in two products."),
            Mistake("full attention", _attention_macs_full, "Your cost is that of tokens that see the whole map.",
                    "Each image token meets only `area` others; only the global tokens meet them all."),
            Mistake("one way", _attention_macs_one_way,
                    "Aggregation or broadcast, one of them is missing: global tokens look at image tokens, and then?",
                    "Each way has two products of num_tokens * num_global * dim."),
            Mistake("kv_global left out", _attention_macs_no_map,
                    "One small linear layer is missing: who makes the keys and values of the broadcast?",
                    "kv_global maps num_global tokens from dim to 2 dim."),
            Mistake("flops", _attention_macs_flops,
                    "Exactly twice too much: you counted operations, the question is about multiply-accumulates.",
                    "One multiply and one add are one MAC: leave the factor 2 out."),
        )),
    Exercise(
        id="lightvit.budget", prompt="Global tokens whose attention costs no more than that of windows", solution=24,
        cases=None, points=2, minutes=6, mistakes=(
            Mistake("one way", 49, "You counted one way, from image to global tokens or back.",
                    "Aggregating and broadcasting have two products each: 4 N T d together."),
            Mistake("rounded up", 25, "With so many it costs a little more: a budget is a limit.", "Round down."),
            Mistake("windows counted once", 12, "You counted one of the two products inside windows.",
                    "Scores and mixing, both: 2 * 49 * N d."),
        )),
)
