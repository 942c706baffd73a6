"""Output errors of low-rank factors at equal rank, and from which rank on they are faster.

Errors are |y - y'| / |y| of each linear layer of the zoo's teacher on held-out pictures, each layer given what it
sees in the whole model. Goals: at most half of plain SVD's, and at most 0.8 of those of ASVD (arXiv 2312.05821),
which scales inputs by (mean |x|)^0.5. No linear layer of that rank has a smaller squared error on the calibration
pictures than ours (tests/compression/low_rank/test_low_rank.py), so where half is not reached, inputs are too round for it: of
rank 8 to 32 of 96. `--part` does one of three: errors (LIGHTVIT_DATA, or a download of CIFAR-10), calibration of
DeiT-S, time.
"""

import argparse
import time
from statistics import mean, median

import torch
from torch import Tensor, nn

from lightvit_lab import checkpoint, data, models, profiling
from lightvit_lab.compression.linear_layers import block_layers
from lightvit_lab.compression.low_rank.factors import LowRankLinear, break_even, factorize, output_error
from lightvit_lab.training import mean_interval

RANKS = (8, 16, 24, 32, 40, 47)
CALIBRATION, HELD_OUT, GROUPS = 128, 160, 8


@torch.no_grad()
def asvd(model: nn.Module, rank: int, inputs: Tensor, alpha: float = 0.5) -> nn.Module:
    """ASVD's factors, by its definition: truncate W S for S = diag((mean |x|)^alpha), multiply by the inverse of S."""
    sizes, layers, result = {}, block_layers("asvd", model), factorize(model, rank)

    def watch(name: str):
        def hook(_: nn.Module, given: tuple) -> None:
            sizes[name] = given[0].abs().flatten(0, -2).mean(0).double().pow(alpha).clamp(min=1e-6)
        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    model(inputs)
    for handle in handles:
        handle.remove()
    for name, layer in layers.items():
        if isinstance(factors := result.get_submodule(name), LowRankLinear):
            left, values, right = torch.linalg.svd(layer.weight.double() * sizes[name], full_matrices=False)
            factors.up.weight.copy_(left[:, :rank] * values[:rank])
            factors.down.weight.copy_(right[:rank] / sizes[name])
    return result


def errors(ranks: tuple[int, ...]) -> None:
    model = checkpoint.load("zoo:lab_vit_teacher/cifar10")
    calibration = data.load("cifar10", count=CALIBRATION).inputs
    held_out = data.load("cifar10", "test", count=HELD_OUT).inputs.chunk(GROUPS)
    print(f"{'rank':>5} {'plain':>7} {'ASVD':>7} {'ours':>7}  {'ours / plain (pictures)':>27}  {'worst layer':>11}"
          f"  {'squares':>7}  {'ours / ASVD (pictures)':>26}  CPU seconds")
    everywhere: dict[str, list[float]] = {"plain": [], "ASVD": []}
    for rank in ranks:
        start = time.process_time()
        ours = factorize(model, rank, calibration=calibration)
        seconds = time.process_time() - start
        rivals = {"plain": factorize(model, rank), "ASVD": asvd(model, rank, calibration), "ours": ours}
        found = {name: [output_error(model, other, part) for part in held_out] for name, other in rivals.items()}
        means = {name: [mean(part.values()) for part in parts] for name, parts in found.items()}
        ratios = {name: [one / two for one, two in zip(means["ours"], means[name])] for name in everywhere}
        by_layer = [mean(part[name] for part in found["ours"]) / mean(part[name] for part in found["plain"])
                    for name in found["ours"][0]]
        squares = sum(v * v for part in found["ours"] for v in part.values()) / sum(
            v * v for part in found["plain"] for v in part.values())
        shown = {name: "{:.3f} ({:.3f} to {:.3f})".format(*mean_interval(values)) for name, values in ratios.items()}
        for name in everywhere:
            everywhere[name].append(mean(ratios[name]))
        print(f"{rank:5} " + " ".join(f"{mean(means[name]):7.4f}" for name in rivals) + f"  {shown['plain']:>27}"
              f"  {max(by_layer):11.3f}  {squares:7.3f}  {shown['ASVD']:>26}  {seconds:7.1f}", flush=True)
    print(f"mean over ranks: ours / plain {mean(everywhere['plain']):.3f} (goal 0.5), ours / ASVD "
          f"{mean(everywhere['ASVD']):.3f} (goal 0.8)")


def calibration() -> None:
    model = models.create_model("deit_small_patch16_224").eval()
    inputs = torch.randn(32, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    start = time.process_time()
    factorize(model, energy=0.9, calibration=inputs)
    print(f"DeiT-S, 32 pictures of 224 px: {time.process_time() - start:.1f} CPU seconds in all (goal 20)")


def times(budget_s: float) -> None:
    tokens = torch.randn(8, 197, 384, generator=torch.Generator().manual_seed(0))
    for out_features in (384, 1536):
        even = break_even(384, out_features)
        ranks = [max(8, round(even * share / 8) * 8) for share in (0.125, 0.25, 0.5, 0.75, 1.0)]
        layers = {"whole": nn.Linear(384, out_features)} | {f"rank {rank}": LowRankLinear(384, out_features, rank)
                                                            for rank in ranks}
        found = profiling.measure(layers, tokens, budget_s=budget_s, threads=1)
        ratios = [found.ratio(f"rank {rank}", "whole") for rank in ranks]
        print(f"384 x {out_features}, 8 x 197 tokens, {found.conditions['machine']}")
        for rank, ratio in zip(ranks, ratios):
            print(f"  rank {rank:4}: MACs {rank / even:5.2f}x, time {ratio}")
        slow = _crossing(ranks, [_middle(one) for one in ratios])
        print(f"  as many MACs at rank {even:.0f}, as much time at rank {slow:.0f}")


def _middle(ratio: profiling.Ratio) -> float:
    return median([ratio.low, ratio.high]) if ratio.value is None else ratio.value


def _crossing(ranks: list[int], ratios: list[float]) -> float:
    """The rank at which a straight line through two neighbours reaches 1; the last rank where it does not."""
    for low, high, one, two in zip(ranks, ranks[1:], ratios, ratios[1:]):
        if one < 1 <= two:
            return low + (high - low) * (1 - one) / (two - one)
    return ranks[0] if ratios[0] >= 1 else ranks[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["errors", "calibration", "time"])
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of each measurement of time")
    arguments = parser.parse_args()
    parts = {"errors": lambda: errors(tuple(arguments.ranks)), "calibration": calibration,
             "time": lambda: times(arguments.budget)}
    for part in [arguments.part] if arguments.part else parts:
        parts[part]()
