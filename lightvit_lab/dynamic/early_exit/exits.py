"""Early exits: heads between the blocks, by which pictures that are easy leave. Page:
chapters/dynamic/early_exit.

A picture that leaves is taken out of the batch: the blocks after its exit never see it. The exits
of ViTs are compared in arXiv 2106.15183 (Bakhtiarnia et al.); leaving by a threshold is
BranchyNet's (arXiv 1709.01686).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import LabError, plain_numbers
from ...models.timm_parts import (WrappedBlock, embed, finish, last_norm, reads_class_token,
                                  require_plain_vit, token_counts)
from ...models.transforming import Plan, transform, transformed
from ...runtime.wrapped import unwrapped
from ..token_pruning.adaptive_sampling import drop_pictures
from .rules import Rule, described, require_reachable, rule_of


class ExitHead(nn.Module):
    """A norm and a linear layer on the class token, or on the mean of the image tokens where the
    model has it so.

    (batch, tokens, dim) -> logits (batch, classes), divided in eval mode by `temperature`, which
    calibration sets.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.norm, self.head = copy.deepcopy(last_norm(model)), copy.deepcopy(model.head)
        self.prefix = None if reads_class_token(model) else model.num_prefix_tokens
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        one = tokens[:, 0] if self.prefix is None else tokens[:, self.prefix:].mean(1)
        logits = self.head(self.norm(one))
        return logits if self.training else logits / self.temperature.to(logits)


class ExitBlock(WrappedBlock):
    """A block and the exit behind it; called as the block. If the block is pruned away, its exit
    goes with it.
    """

    def __init__(self, block: nn.Module, head: ExitHead):
        super().__init__(block)
        self.exit = head

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens)


class Left(NamedTuple):
    """Logits (batch, classes), and at which exit each picture left (batch,), from 0; the model's
    own end comes last.
    """

    logits: Tensor
    exits: Tensor


class EarlyExitViT(nn.Module):
    """`model` with exits behind some blocks: inputs -> logits (batch, classes), in eval mode by
    `rule`.

    Without a rule, and in train mode, logits are those of `model` itself; `model(inputs,
    every=True)` returns those of all exits, the end's last.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], rule: Rule | None = None):
        super().__init__()
        self.model, self.rule = model, rule
        for layer in layers:
            model.blocks[layer] = ExitBlock(model.blocks[layer], ExitHead(model))
        self.num_prefix_tokens = model.num_prefix_tokens

    @property
    def blocks(self) -> nn.Module:
        """The blocks of the model, some of them `ExitBlock`."""
        return self.model.blocks

    @property
    def num_image_tokens(self) -> int:
        """Image tokens that enter the blocks."""
        return token_counts("add_exits", self.model)[0] - self.num_prefix_tokens

    @property
    def exits(self) -> list[ExitHead]:
        """The exits, in order, without the model's own end."""
        return [block.exit for block in self.blocks if isinstance(block, ExitBlock)]

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """The 0-based blocks behind which the exits stand."""
        return tuple(place for place, block in enumerate(self.blocks) if isinstance(block, ExitBlock))

    def train(self, mode: bool = True) -> EarlyExitViT:
        """Train mode; a model that is frozen behind its exits stays in eval mode, where batch norms
        learn nothing.
        """
        super().train(mode)
        own = {id(value) for head in self.exits for value in head.parameters()}
        if mode and not any(value.requires_grad for value in self.model.parameters() if id(value) not in own):
            self.model.eval()
            for head in self.exits:
                head.train()
        return self

    def forward(self, inputs: Tensor, every: bool = False) -> Tensor | tuple[Tensor, ...]:
        if every:
            return tuple(self.each(inputs))
        if self.training or self.rule is None:
            return self.model(inputs)
        return self.leave(inputs).logits

    def each(self, inputs: Tensor) -> Iterator[Tensor]:
        """The logits (batch, classes) of one exit after the other, the end's last; each is computed
        when asked for.
        """
        tokens = embed(self.model, inputs)
        for block in self.blocks:
            tokens = block(tokens)
            if isinstance(block, ExitBlock):
                yield block.exit(tokens)
        yield finish(self.model, tokens)

    def leave(self, inputs: Tensor) -> Left:
        """Run, and let pictures leave by the rule. Without one, all stay to the end.

        On a GPU each exit waits for the device, since who leaves has to be known before the next
        block begins.
        """
        tokens = embed(self.model, inputs)
        here = torch.arange(inputs.shape[0], device=inputs.device)
        seen: list[Tensor] = []
        left: list[tuple[Tensor, Tensor, int]] = []       # places in the batch, logits, exit
        for block in self.blocks:
            tokens = block(tokens)
            if self.rule is None or not isinstance(block, ExitBlock):
                continue
            seen.append(block.exit(tokens))
            gone = self.rule.leaves(seen)
            if gone.any():
                left.append((here[gone], seen[-1][gone], len(seen) - 1))
                here, tokens, seen = here[~gone], tokens[~gone], [logits[~gone] for logits in seen]
                drop_pictures(self.model, gone)
            if not here.shape[0]:
                break
        if here.shape[0] or not left:
            left.append((here, finish(self.model, tokens), len(self.exits)))
        return _gathered(left)


def _gathered(left: list[tuple[Tensor, Tensor, int]]) -> Left:
    """What left in parts, in the order in which it came."""
    places = torch.cat([where for where, _, _ in left])
    exits = torch.cat([torch.full_like(where, place) for where, _, place in left])
    order = places.argsort()
    return Left(torch.cat([logits for _, logits, _ in left])[order], exits[order])


@plain_numbers
def add_exits(model: nn.Module, layers: Sequence[int], rule: Rule | None = None) -> EarlyExitViT:
    """A copy of `model` with an exit behind each of the 0-based blocks `layers`, made of its own
    norm and head.

    Train the exits before use: `exit_training.train_exits`. `rule` (`Confidence(0.9)`,
    `Patience(2)`) says when pictures leave; None lets all pass, so that the logits stay those of
    `model`. Raises LabError on layers out of range or given twice, on rules that no picture can
    meet, and on other models than the lab's ViT and timm's ViT and DeiT.
    """
    layers = list(layers) if isinstance(layers, Sequence | range) else layers
    plan = {"transform": "early_exit", "layers": layers, "rule": described(rule)}
    _require_layers(model, layers)      # before the copy
    return transformed(model, plan, apply_exits)


def with_rule(model: EarlyExitViT, rule: Rule | None) -> EarlyExitViT:
    """A copy of `model`, which has exits, that lets pictures leave by `rule`. Raises LabError if it
    has none.
    """
    return transformed(model, {"transform": "exit_rule", "rule": described(rule)}, apply_exit_rule)


@transform("early_exit")
def apply_exits(model: nn.Module, plan: Plan) -> EarlyExitViT:
    """Put exits behind the blocks of `plan`: {"layers": [1, 3], "rule": {"name": "confidence",
    "threshold": 0.9}}.
    """
    layers, rule = plan.get("layers"), rule_of(plan.get("rule"))
    _require_layers(model, layers)
    require_reachable("add_exits", rule, len(layers))
    return EarlyExitViT(model, sorted(layers), rule)


@transform("exit_rule")
def apply_exit_rule(model: nn.Module, plan: Plan) -> EarlyExitViT:
    """Give `model` the rule of `plan`: {"rule": {"name": "patience", "agree": 2}}."""
    require_exits("with_rule", model)
    rule = rule_of(plan.get("rule"))
    require_reachable("with_rule", rule, len(model.exits))
    model.rule = rule
    return model


def require_exits(caller: str, model: nn.Module) -> EarlyExitViT:
    """`model`, or the one inside torch's wrappers. Raises LabError, in the name of `caller`, unless
    it has exits.
    """
    model = unwrapped(model)
    if not isinstance(model, EarlyExitViT) or not model.exits:
        raise LabError(f"{caller}: {type(model).__name__} has no exits; add_exits(model, layers) gives it some")
    return model


def _require_layers(model: nn.Module, layers: Sequence[int]) -> None:
    if isinstance(model, EarlyExitViT):
        raise LabError(f"add_exits: this model has exits behind blocks {list(model.exit_layers)}; give the model they "
                       "were added to, which is model.model, or name all layers at once")
    require_plain_vit("add_exits", model)
    # of merged tokens' sizes
    if any(getattr(block, "trace", None) is not None for block in model.blocks):
        raise LabError("add_exits: this model's blocks hand on what they know of a whole batch, as merging does, so no "
                       "picture can leave it; give the model before its tokens were merged")
    depth = len(model.blocks)
    if depth < 2:
        raise LabError(f"add_exits: this model has {depth} block, so nothing lies behind an exit; give a deeper one")
    known = isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)
    if not known or len(set(layers)) < len(layers) or not 0 <= min(layers) <= max(layers) <= depth - 2:
        raise LabError(f"add_exits: layers={layers!r}; give 0-based blocks 0 to {depth - 2}, each once, as in "
                       f"layers=[{(depth - 1) // 2}]; the last of the {depth} blocks ends in the model's own head")
