"""Token merging, against the official code: matchings of fixed tokens, and models of timm that
merge.
"""

import ast
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from lightvit_lab.dynamic.token_merging.matching import Matching, bipartite_soft_matching
from lightvit_lab.dynamic.token_merging.merging import merge_tokens, source_map

from ..cases import Case, call_of
from . import Found, NotCovered, adapter
from .shared import flops, of_logits, parameters, timm_model


def _is_tome(case: Case) -> bool:
    return case.source == "facebookresearch/ToMe"


@adapter(
    "a matching of ToMe",
    lambda case: _is_tome(case) and call_of(case.call)[0] == "bipartite_soft_matching",
)
def run_matching(case: Case) -> Found:
    """What merging gives in every mode, and who went where."""
    settings = call_of(case.call)[2]
    classes, distilled = settings.get("class_token", False), settings.get("distill_token", False)
    if distilled and not classes:
        raise NotCovered("a distillation token without a class token")
    tokens, size = case.tensor("x"), case.tensor("size")
    matching = bipartite_soft_matching(case.tensor("metric"), settings["r"], classes + distilled)
    mean = matching.merge(tokens, mode="mean")
    yield "merge_mean", mean
    yield "merge_amax", matching.merge(tokens, mode="max")
    yield "wavg_x", matching.merge(tokens)
    yield "wavg_size", matching.merge_sizes()
    yield "wavg2_x", matching.merge(tokens, size)
    yield "wavg2_size", matching.merge_sizes(size)
    yield "source", F.one_hot(matching.places(), mean.shape[1]).mT
    yield "unmerge", matching.unmerge(_as_unmerged(matching, mean) if distilled else mean)
    yield "out_tokens", mean.shape[1]


def _as_unmerged(matching: Matching, merged: Tensor) -> Tensor:
    """`merged` in the order that the official unmerge takes it for, with a distillation token.

    The official merge then puts the distillation token, first of one set, behind the class token,
    first of the other, and its unmerge does not put it back: it still takes all of one set to come
    before all of the other.
    """
    first = (matching.kept.shape[1] + matching.gone.shape[1] + 1) // 2 - matching.gone.shape[1]
    one, other = merged[:, :first], merged[:, first:]
    return torch.cat([one[:, :1], other[:, :1], one[:, 1:], other[:, 1:]], dim=1)


@adapter(
    "a model of timm that merges by ToMe",
    lambda case: _is_tome(case) and "tome.patch.timm" in case.call,
    settings=("r",),
)
@torch.inference_mode()
def run_model(case: Case) -> Found:
    """Logits, sizes and sources of tokens, how many are left, and the cost."""
    whole, images = timm_model(case), case.tensor()
    proportional = call_of(case.call, "tome.patch.timm")[2].get("prop_attn", True)
    merged = merge_tokens(
        whole, **_asked(case, len(whole.blocks)), proportional_attention=proportional
    )
    yield from of_logits(merged(images))
    source = F.one_hot(source_map(merged)).mT
    yield "source", source
    yield "size", source.sum(-1, keepdim=True).float()
    yield "r_per_block", merged.r_per_block
    yield "tokens_after_block", merged.tokens_per_block
    yield "params", parameters(merged)
    yield "flops.torch_flop_counter", flops(case, merged)
    yield "baseline_logits_stats", whole(images)


def _asked(case: Case, depth: int) -> dict[str, object]:
    """`r` and its schedule: one number, a list with one for each block, or the official pair (r,
    inflect).
    """
    said = re.search(r"model\.r\s*=\s*(\S.*)$", case.call)
    r = ast.literal_eval(said[1]) if said else case.facts["r"]
    if isinstance(r, list):
        return {"r": (r + [0] * depth)[:depth]}
    r, inflect = r if isinstance(r, tuple) else (r, 0)
    if inflect not in (0, -1):
        raise NotCovered(
            f"inflect={inflect}: the library has a constant schedule and a decreasing one"
        )
    return {"r": r, "schedule": "decreasing" if inflect else "constant"}
