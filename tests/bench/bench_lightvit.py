"""LightViT-Tiny beside its formulas taken literally, and beside timm's models of its class, taking turns.

`make bench` prints the ratios of times with their intervals (above 1: the rival is slower) and the time by part.
LIGHTVIT_BENCH_THREADS sets the threads, as in the other benchmarks; the type is an argument, for a GPU.
"""

import argparse
import os
import statistics
import time
from collections import defaultdict

import torch
import torch.nn.functional as F
from lightvit_for_inference import for_inference
from torch import Tensor, nn

from lightvit_lab import models, profiling
from lightvit_lab.models.lightvit import BiAttn, BiAttnMlp, LightViT, LightViTAttention, ResidualMergePatch
from lightvit_lab.runtime import device

OURS = ("lightvit_tiny", "for_inference")
RIVALS = ("pvt_v2_b0", "deit_tiny_patch16_224", "levit_128s")
TOLERANCE = 1e-5    # of logits, in float32


class LiteralLightViT(nn.Module):
    """The formulas of LightViT, one after the other, on the weights of `model`, for maps that divide into windows.

    Tokens stay in reading order; every block cuts the map into windows and puts it together again, writes softmax out,
    gives the spatial gate [local, mean] side by side, and multiplies both gates before the tokens.
    """

    def __init__(self, model: LightViT):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        model = self.model
        tokens, grid = model.patch_embed(images)
        tokens = torch.cat([model.global_token.expand(len(tokens), -1, -1), tokens], dim=1)
        for stage in model.stages:
            for layer in stage:
                if isinstance(layer, ResidualMergePatch):
                    tokens, grid = merge(layer, tokens, *grid)
                else:
                    tokens = tokens + attention(layer.attn, layer.norm1(tokens), *grid, stage.window_size)
                    hidden = layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.norm2(tokens))))
                    tokens = tokens + hidden * gates(layer.mlp.attn, hidden)
        return model.head(model.neck(model.norm(tokens)).mean(dim=1))


def cut(tokens: Tensor, height: int, width: int, size: int) -> Tensor:
    """(B, height * width, C) in reading order -> (B * windows, size * size, C)."""
    batch, _, dim = tokens.shape
    tokens = tokens.view(batch, height // size, size, width // size, size, dim)
    return tokens.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, dim)


def join(windows: Tensor, height: int, width: int, size: int) -> Tensor:
    """The reverse of `cut`."""
    dim = windows.shape[-1]
    windows = windows.view(-1, height // size, width // size, size, size, dim)
    return windows.permute(0, 1, 3, 2, 4, 5).reshape(-1, height * width, dim)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v for every head; all (B, tokens, C)."""
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1) + bias
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def attention(layer: LightViTAttention, tokens: Tensor, height: int, width: int, size: int) -> Tensor:
    """Attention in windows, aggregation by the global tokens, broadcast to the image tokens."""
    count, heads = layer.num_tokens, layer.num_heads
    query, key, value = layer.qkv(tokens).chunk(3, dim=-1)
    image = [part[:, count:] for part in (query, key, value)]
    bias = layer.relative_position_bias_table[layer.relative_position_index]
    bias = bias.view(size * size, size * size, heads).permute(2, 0, 1)
    local = join(attend(*(cut(part, height, width, size) for part in image), heads, bias), height, width, size)
    aggregated = attend(query[:, :count], *image[1:], heads)
    local = local + attend(image[0], *layer.kv_global(aggregated).chunk(2, dim=-1), heads)
    return layer.proj(torch.cat([aggregated, local], dim=1))


def gates(layer: BiAttn, tokens: Tensor) -> Tensor:
    """The product of the channel gate and the spatial gate, (B, N, C)."""
    tokens = layer.norm(tokens)
    mean = F.gelu(layer.global_reduce(tokens.mean(dim=1, keepdim=True)))
    local = F.gelu(layer.local_reduce(tokens))
    both = torch.cat([local, mean.expand(-1, local.shape[1], -1)], dim=-1)
    return layer.channel_select(mean).sigmoid() * layer.spatial_select(both).sigmoid()


def merge(layer: ResidualMergePatch, tokens: Tensor, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    """Each 2 x 2 neighbourhood becomes a token: all four side by side, and their maximum."""
    of_global, image = tokens[:, : layer.num_tokens], tokens[:, layer.num_tokens :]
    maps = image.unflatten(1, (height, width))
    four = torch.cat([maps[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
    largest = F.max_pool2d(maps.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    image = layer.reduction(layer.norm(four)) + layer.res_proj(largest)
    tokens = torch.cat([layer.proj(layer.norm2(of_global)), image.flatten(1, 2)], dim=1)
    return tokens, (height // 2, width // 2)


def candidates(dtype: torch.dtype, compiled: bool) -> dict[str, nn.Module]:
    """The lab's model as it is and made ready, the literal form, and rivals; the first four have the same weights."""
    torch.manual_seed(0)
    model = models.create_model("lightvit_tiny").to(device(), dtype).eval()
    randomize(model)
    found = {"lightvit_tiny": model, "for_inference": for_inference(model), "literal": LiteralLightViT(model)}
    if compiled:
        found |= {"literal, compiled": torch.compile(found["literal"]), "lightvit_tiny, compiled": torch.compile(model)}
    return found | {name: models.create_model(name).to(device(), dtype).eval() for name in RIVALS}


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Draw what a fresh model has at zero or one, so that equal logits mean something."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("bias", "table", "running_mean")):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)


@torch.inference_mode()
def require_equal(found: dict[str, nn.Module], images: Tensor) -> None:
    """Stop if a form of the model gives other logits than the literal one; rivals have weights of their own."""
    expected = found["literal"](images)
    for label, model in found.items():
        if label not in RIVALS:
            worst = (model(images) - expected).abs().max().item()
            print(f"    {label}: logits within {worst:.1e} of the literal form's")
            if images.dtype == torch.float32 and worst > TOLERANCE:
                raise SystemExit(f"{label} computes something else")


@torch.inference_mode()
def shares(model: LightViT, images: Tensor, rounds: int = 9) -> dict[str, float]:
    """Share of each kind of part in the time of a forward, median over rounds; "the rest" is in no part."""
    kinds = {LightViTAttention: "attention", BiAttnMlp: "MLP with gates", ResidualMergePatch: "merging"}
    parts = [(module, kinds[type(module)]) for module in model.modules() if type(module) in kinds]
    parts += [(model.patch_embed, "stem"), (model.neck, "neck and head"), (model.head, "neck and head")]
    spent: dict[str, float] = defaultdict(float)
    handles = []
    for module, kind in parts:
        handles.append(module.register_forward_pre_hook(lambda *_, kind=kind: _clock(spent, kind, -1)))
        handles.append(module.register_forward_hook(lambda *_, kind=kind: _clock(spent, kind, 1)))
    found = []
    for _ in range(rounds):
        spent.clear()
        _clock(spent, "all", -1)
        model(images)
        _clock(spent, "all", 1)
        found.append({kind: seconds / spent["all"] for kind, seconds in spent.items() if kind != "all"})
    for handle in handles:
        handle.remove()
    medians = {kind: statistics.median(one[kind] for one in found) for kind in found[0]}
    return medians | {"the rest": 1 - sum(medians.values())}


def _clock(spent: dict[str, float], kind: str, sign: int) -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()
    spent[kind] += sign * time.perf_counter()


def compare(found: dict[str, nn.Module], images: Tensor, budget_s: float) -> None:
    """Print times, the ratios of each rival to both forms of ours, and where ours spend it."""
    times = profiling.measure(found, images, budget_s=budget_s)
    fast = times["for_inference"]
    print(f"batch {len(images)} ({fast.rounds} rounds; {fast.machine})")
    for label, one in times.items():
        ratios = [f"/ {ours}: {times.ratio(label, ours)}" for ours in OURS]
        print(f"    {label}: {one.latency_ms:.1f} ms; {'; '.join(ratios)}", flush=True)
    for label in OURS:
        parts = ", ".join(f"{kind} {share:.0%}" for kind, share in shares(found[label], images).items())
        print(f"    {label} by part: {parts}", flush=True)


def main() -> None:
    """Print one block per batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batches", nargs="*", type=int, default=[1, 8, 64])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--seconds", type=float, default=30, help="for each batch size")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which needs a C++ compiler")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("LIGHTVIT_BENCH_THREADS", "1")))
    dtype = getattr(torch, given.dtype)
    found = candidates(dtype, not given.no_compile)
    for batch in given.batches:
        images = torch.randn(batch, 3, 224, 224).to(device(), dtype)
        require_equal(found, images)
        compare(found, images, given.seconds)


if __name__ == "__main__":
    main()
