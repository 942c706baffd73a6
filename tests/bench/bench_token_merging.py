"""Token merging beside the published form, at the same r and the same logits, and beside the model that merges nothing.

The published form (arXiv 2210.09461) is written out here: attention's softmax by hand, all tokens multiplied by their
sizes, merged by scatter_reduce and divided again. DeiT-S with random weights, float32; goals, over five runs: the
interval of published / ours reaches 1.0 at 224 pixels in each, the median is at least 1.25 at 384, and merging is never
slower than the whole model where it is switched on. `forms`: how many kinds of attention shapes were timed, and for how
many of them writing out was faster here. `--small`: the lab's ViT on one picture, where merging cannot pay and
`faster_on` says so. LIGHTVIT_BENCH_THREADS sets the threads.
"""

import argparse
import os
import warnings
from statistics import median

import torch
from torch import nn

from lightvit_lab import models, profiling
from lightvit_lab.components import faster_attention
from lightvit_lab.dynamic.token_merging.merging import merge_tokens

DEIT = "deit_small_patch16_224"
CASES = {224: {"r": 13, "batch": 4}, 384: {"r": 38, "batch": 2}}
GOALS = {224: ("intervals that reach 1.00", lambda found: f"{sum(high >= 1 for _, _, high in found)} of {len(found)}"),
         384: ("median of the medians, 1.25 wanted", lambda found: f"{median(middle for middle, *_ in found):.2f}")}


class Published(nn.Module):
    """timm's ViT with ToMe as published: nothing fused, and the same r in every block, cut down to half."""

    def __init__(self, model, r):
        super().__init__()
        self.model, self.r = model, r

    def forward(self, inputs):
        tokens, size = self.model._pos_embed(self.model.patch_embed(inputs)), None
        for block in self.model.blocks:
            mixed, metric = explicit_attention(block.attn, block.norm1(tokens), size)
            tokens = tokens + mixed
            merge = matching(metric, min(self.r, (tokens.shape[1] - 1) // 2))
            size = torch.ones_like(tokens[..., :1]) if size is None else size
            tokens, size = merge(tokens * size), merge(size)
            tokens = tokens / size
            tokens = tokens + block.mlp(block.norm2(tokens))
        return self.model.forward_head(self.model.norm(tokens))


def explicit_attention(attention, tokens, size):
    """softmax(q k^T / sqrt(d) + log size) v by hand, and the mean of the keys over heads."""
    batch, count, dim = tokens.shape
    qkv = attention.qkv(tokens).reshape(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv.unbind(0)
    scores = query * attention.scale @ key.transpose(-2, -1)
    if size is not None:
        scores = scores + size.log()[:, None, None, :, 0]
    mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, count, dim)
    return attention.proj(mixed), key.mean(1)


def matching(metric, r):
    """A function that sums the tokens of the r most alike pairs; the class token is left alone."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
    scores[:, 0] = -torch.inf
    best, partner = scores.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)[..., None]
    going, staying = order[:, :r], order[:, r:].sort(dim=1)[0]
    into = partner[..., None].gather(1, going)

    def merge(tokens):
        first, second = tokens[:, ::2], tokens[:, 1::2]
        batch, _, dim = tokens.shape
        gone = first.gather(1, going.expand(batch, r, dim))
        second = second.scatter_reduce(1, into.expand(batch, r, dim), gone, reduce="sum")
        return torch.cat([first.gather(1, staying.expand(batch, -1, dim)), second], dim=1)

    return merge


def large(size, seconds, runs, batch=None):
    """Print the times of the whole model, the published form and ours at `size` pixels, and the ratios of every run."""
    case = CASES[size] | ({"batch": batch} if batch else {})
    torch.manual_seed(0)
    model = models.create_model(DEIT, img_size=size).eval()
    inputs = torch.randn(case["batch"], 3, size, size)
    ours = merge_tokens(model, case["r"])
    found = {"whole": model, "published": Published(model, case["r"]), "ours": ours}
    with torch.inference_mode():
        gap = (found["published"](inputs) - ours(inputs)).abs().max().item()
    macs = [profiling.count(one, (3, size, size)).macs for one in (model, ours)]
    ratios = []
    for run in range(runs):
        times = profiling.measure(found, inputs, budget_s=seconds, threads=torch.get_num_threads())
        if not run:
            print(f"{DEIT}, {size} px, r = {case['r']}, batch {case['batch']}, {times.conditions['threads']} threads; "
                  f"tokens at the end {ours.tokens_per_block[-1]}; logits of both forms differ by {gap:.1e}\n{times.table()}")
        ratios.append(times.ratio("published", "ours").estimate)
        print(f"    run {run}: published / ours {times.ratio('published', 'ours')}, whole / ours "
              f"{times.ratio('whole', 'ours')} (MACs {macs[0] / macs[1]:.2f} times fewer)", flush=True)
    asked = [faster for kind, faster in faster_attention._written_faster.items() if isinstance(kind[0], int)]
    name, said = GOALS[size]
    print(f"    {name}: {said(ratios)}; forms: {len(asked)} kinds of shapes, {sum(asked)} written out", flush=True)


def small(seconds):
    """Print what merging does to the lab's ViT of 65 tokens, for one picture and for 32, and whether it is left on."""
    torch.manual_seed(0)
    model = models.create_model("lab_vit").eval()
    for batch in (1, 32):
        inputs = torch.randn(batch, 3, 32, 32)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            merged = merge_tokens(model, 8, faster_on=inputs, budget_s=seconds)
        found = profiling.measure({"whole": model, "r = 8": merge_tokens(model, 8), "faster_on": merged}, inputs,
                                  budget_s=seconds, threads=torch.get_num_threads())
        print(f"lab_vit, batch {batch}: r = 8 / whole {found.ratio('r = 8', 'whole')}, with faster_on "
              f"{found.ratio('faster_on', 'whole')}, r used {merged.r_per_block}")
        for one in said:
            print(f"    it says: {one.message}", flush=True)


def main():
    """Run what is asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=[*CASES], nargs="*", default=None)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--batch", type=int, help="pictures; 4 at 224 pixels and 2 at 384 by default")
    parser.add_argument("--seconds", type=float, default=25, help="of taking turns, for each size")
    parser.add_argument("--runs", type=int, default=5, help="for each size")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("LIGHTVIT_BENCH_THREADS", "1")))
    everything = given.size is None and not given.small
    for size in CASES if everything else given.size or ():
        large(size, given.seconds, given.runs, given.batch)
    if everything or given.small:
        small(given.seconds / 5)


if __name__ == "__main__":
    main()
