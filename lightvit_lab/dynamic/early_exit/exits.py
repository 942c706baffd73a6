"""Early exits: heads between the blocks, by which easy pictures leave.

Page: chapters/dynamic/early_exit. A picture that leaves is taken out of the batch: the blocks after
its exit do not compute it. The exits of ViTs are compared in arXiv 2106.15183 (Bakhtiarnia et al.);
leaving by a threshold is BranchyNet's (arXiv 1709.01686). The end teaches the exits as in Phuong
and Lampert, Distillation-based training for multi-exit architectures (ICCV 2019), and Zhang et al.,
Be Your Own Teacher, arXiv 1905.08094.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_choice, require_range
from ...models.timm_parts import WrappedBlock, embed, finish, require_plain_vit
from ...models.transforming import Plan, transform, transformed
from ...runtime.wrapped import unwrapped
from ...training import Batch, History, fit, label_loss
from ..layers import listed, require_layers
from ..token_pruning.adaptive_sampling import drop_pictures
from .heads import HEADS, ExitHead, make_head
from .rules import Rule, rule_from_plan, rule_to_plan


class ExitBlock(WrappedBlock):
    """A block and the exit behind it, called as the block; both are pruned away together."""

    def __init__(self, block: nn.Module, head: ExitHead):
        super().__init__(block)
        self.exit = head

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens)


class Exited(NamedTuple):
    """Logits (batch, classes), and the exit at which each picture left, (batch,)."""

    logits: Tensor
    exits: Tensor


class EarlyExitViT(nn.Module):
    """`model` with exits behind some blocks: inputs -> logits (batch, classes), by `rule` in eval.

    Without a rule, and in train mode, logits are those of `model` itself; `model(inputs,
    every=True)` returns those of all exits, the end's last.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], head: str = "linear"):
        super().__init__()
        self.model, self.rule = model, None
        heads = {layer: make_head(head, model, place, len(layers))
                 for place, layer in enumerate(sorted(layers))}
        for layer, exit_head in heads.items():
            exit_head.to(next(model.parameters()))
            model.blocks[layer] = ExitBlock(model.blocks[layer], exit_head)

    @property
    def blocks(self) -> nn.Module:
        """The blocks of the model, some of them `ExitBlock`."""
        return self.model.blocks

    @property
    def exits(self) -> list[ExitHead]:
        """The exits, in order, without the model's own end."""
        return [self.blocks[layer].exit for layer in self.exit_layers]

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """The 0-based blocks behind which the exits stand."""
        return tuple(place for place, block in enumerate(self.blocks)
                     if isinstance(block, ExitBlock))

    def parameters_without_exits(self) -> list[nn.Parameter]:
        """The parameters of the model itself."""
        return [value for name, value in self.named_parameters() if ".exit." not in name]

    def train(self, mode: bool = True) -> EarlyExitViT:
        """Train mode; a frozen model behind its exits stays in eval mode, batch norms included."""
        super().train(mode)
        if mode and not any(value.requires_grad for value in self.parameters_without_exits()):
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
        """The logits (batch, classes) of one exit after the other, the end's last.

        Blocks run only as far as the iteration goes.
        """
        tokens = embed(self.model, inputs)
        for block in self.blocks:
            tokens = block(tokens)
            if isinstance(block, ExitBlock):
                yield block.exit(tokens)
        yield finish(self.model, tokens)

    def leave(self, inputs: Tensor) -> Exited:
        """Run, and let pictures leave by the rule. Without one, all stay to the end.

        On a GPU each exit waits for the device, since the pictures that leave have to be known
        before the next block begins.
        """
        tokens = embed(self.model, inputs)
        here = torch.arange(inputs.shape[0], device=inputs.device)       # places in the batch
        exits = torch.full_like(here, len(self.exits))
        passed: list[Tensor] = []
        answers: list[tuple[Tensor, Tensor]] = []                        # places, logits
        for block in self.blocks:
            tokens = block(tokens)
            if self.rule is None or not isinstance(block, ExitBlock):
                continue
            passed.append(block.exit(tokens))
            gone = self.rule.leaves(passed)
            if gone.any():
                exits[here[gone]] = len(passed) - 1
                answers.append((here[gone], passed[-1][gone]))
                here, tokens, passed = here[~gone], tokens[~gone], [one[~gone] for one in passed]
                drop_pictures(self.model, gone)
            if not len(here):
                break
        if len(here) or not answers:
            answers.append((here, finish(self.model, tokens)))
        places, logits = (torch.cat(parts) for parts in zip(*answers))
        return Exited(logits[places.argsort()], exits)


@plain_numbers
def add_exits(model: nn.Module, layers: Sequence[int], rule: Rule | None = None,
              head: str = "linear") -> EarlyExitViT:
    """A copy of `model` with an exit behind each of the 0-based blocks `layers`.

    Each is a copy of the model's own norm and head, behind LGViT's convolution or attention with
    `head="lgvit"`; train them before use: `train_exits`. `rule` (`Confidence(0.9)`, `Entropy(0.3)`,
    `Patience(2)`) says when pictures leave; None lets none leave, so that the logits stay those of
    `model`. Raises LabError on layers out of range or given twice, on rules that no picture can
    meet, and on other models than the lab's ViT and timm's ViT and DeiT.
    """
    plan = {"transform": "early_exit", "layers": listed(layers), "rule": rule_to_plan(rule),
            "head": head}
    return transformed(model, plan, apply_exits)


def with_rule(model: EarlyExitViT, rule: Rule | None) -> EarlyExitViT:
    """A copy of `model`, whose pictures leave by `rule`. Raises LabError if it has no exits."""
    plan = {"transform": "exit_rule", "rule": rule_to_plan(rule)}
    return transformed(model, plan, apply_exit_rule)


@transform("early_exit")
def apply_exits(model: nn.Module, plan: Plan) -> EarlyExitViT:
    """Put exits behind the blocks of `plan`: {"layers": [1, 3], "rule": a rule's plan or None}.

    "head" is one of `heads.HEADS`, and missing in plans of exits that were first saved.
    """
    if isinstance(model, EarlyExitViT):
        raise LabError(f"add_exits: this model has exits behind blocks {list(model.exit_layers)}; "
                       "give the model before, which is model.model, or name all layers at once")
    require_plain_vit("add_exits", model)
    if any(hasattr(block, "trace") for block in model.blocks):
        raise LabError("add_exits: this model merges tokens, and sizes of merged tokens are those "
                       "of a whole batch, which no picture can leave; give the model before")
    head, depth = plan.get("head", "linear"), len(model.blocks)
    require_choice("add_exits", "head", head, HEADS)
    if depth < 2:
        raise LabError(f"add_exits: this model has {depth} block, and an exit needs one behind "
                       "it; give a deeper one")
    layers = require_layers("add_exits", plan.get("layers"), depth - 2,
                            f"; the last of the {depth} blocks ends in the model's own head")
    return apply_exit_rule(EarlyExitViT(model, layers, head), plan)


@transform("exit_rule")
def apply_exit_rule(model: nn.Module, plan: Plan) -> EarlyExitViT:
    """Give `model` the rule of `plan`: {"rule": {"name": "patience", "agree": 2}}."""
    model = require_exits("with_rule", model)
    model.rule = rule_from_plan(plan.get("rule"), len(model.exits))
    return model


def require_exits(caller: str, model: nn.Module) -> EarlyExitViT:
    """`model`, or the one inside torch's wrappers. Raises LabError unless it has exits."""
    model = unwrapped(model)
    if not isinstance(model, EarlyExitViT) or not model.exits:
        raise LabError(f"{caller}: {type(model).__name__} has no exits; "
                       "add_exits(model, layers) gives it some")
    return model


@plain_numbers
@dataclass(frozen=True)
class ExitObjective:
    """The labels' loss, a mean over exits, and `teach` times the divergence of exits from the end.

    No gradient reaches the end through what it teaches. `temperature` T softens both sides, and the
    divergence, a mean over the early exits, is multiplied by T^2, as in arXiv 1503.02531.
    """

    teach: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        require_range("ExitObjective", "teach", self.teach, 0)
        require_range("ExitObjective", "temperature", self.temperature, 1e-6)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        *early, end = (logits.float() for logits in model(batch.inputs, every=True))
        labels = sum(label_loss(logits, batch) for logits in (*early, end)) / (len(early) + 1)
        divergence = sum(self._divergence(logits, end.detach()) for logits in early) / len(early)
        taught = self.teach * divergence
        return labels + taught, end, {"labels": labels, "end teaches": taught}

    def _divergence(self, early: Tensor, end: Tensor) -> Tensor:
        ours, theirs = (F.log_softmax(logits / self.temperature, 1) for logits in (early, end))
        return self.temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def train_exits(model: EarlyExitViT, data: Pictures, objective: ExitObjective | None = None,
                whole: bool = True, **settings: Any) -> History:
    """Train `model` in place on `data` by `training.fit`, whose `settings` are taken.

    `whole=False` trains the exits alone, and the logits at the end stay as they were. Raises
    LabError if there are no exits, and what `fit` refuses.
    """
    model = require_exits("train_exits", model)
    frozen = [] if whole else model.parameters_without_exits()
    frozen = [value for value in frozen if value.requires_grad]
    try:
        for value in frozen:
            value.requires_grad_(False)
        return fit(model, data, objective=objective or ExitObjective(), **settings)
    finally:
        for value in frozen:
            value.requires_grad_(True)
