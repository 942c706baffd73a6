"""The pictures of a box and what a model makes of them: answers and maps, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..data.images import decode
from ..errors import LabError, require_logits
from ..explain import relevance, rollout
from ..explain.maps import image_part, recorded
from ..figures.atlas import Atlas
from ..figures.gather import atlas
from ..models import timm_parts
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped

Explainer = Callable[[nn.Module, Tensor, Any], Tensor]
TOKENS = ("attention", "rollout", "relevance")


class Recorded(NamedTuple):
    """One run: probabilities (B, classes), and maps as `figures.explorer` takes them."""

    probabilities: Tensor
    maps: dict[str, Any]        # attention, flows, grids, prefix, grid


def record(model: nn.Module, inputs: Tensor) -> Recorded:
    """Run `model` on inputs (B, 3, H, W); no maps where attention is not one square map a head.

    All is on the CPU, in float32. Grids are the flows as the head reads them, where it does not
    read the class token alone. Without a class token, maps leave out all tokens in front of the
    patches.
    """
    model = unwrapped(model)
    try:
        attention, logits = recorded(model, inputs)
    except LabError:        # attention that cannot be read
        with on_device(model, precision="float32") as place:
            attention, logits = [], model(as_input(model, inputs).to(place))
    require_logits("attention_explorer", model, logits)
    probabilities = logits.float().softmax(-1).cpu()
    maps: dict[str, Any] = {"attention": [], "flows": {}, "grids": {}}
    if not attention or any(isinstance(part, dict) or part.shape != attention[0].shape
                            for part in attention):
        return Recorded(probabilities, maps | {"prefix": 0, "grid": None})
    flows = {"rollout": rollout(attention).cpu()}
    with suppress(LabError):        # attention that can be read, but whose gradients cannot
        flows["relevance"] = relevance(model, inputs).cpu()
    prefix, *grid = timm_parts.layout(model, inputs, attention[0].shape[-1])
    if timm_parts.head_tokens(model) != slice(0, 1):
        maps["grids"] = {f"{name} of the head": image_part(model, inputs, flow)
                         for name, flow in flows.items()}
    cut = 0 if timm_parts.has_class_token(model) else prefix
    maps["attention"] = [part[..., cut:, cut:].cpu() for part in attention]
    maps["flows"] = {name: flow[..., cut:, cut:] for name, flow in flows.items()}
    return Recorded(probabilities, maps | {"prefix": prefix - cut, "grid": tuple(grid)})


class Album:
    """Pictures, those that readers add too, as a model takes them."""

    def __init__(self, caller: str, model: nn.Module, pictures: Pictures,
                 class_names: Sequence[str] | None = None) -> None:
        if not isinstance(pictures, Pictures) or len(pictures) == 0:
            raise LabError(f"{caller}: no pictures in pictures={type(pictures).__name__}; give "
                           'some that data.load made, as data.load("shapes", "test", count=8)')
        self.model, self.pictures, self.images = model, pictures, pictures.images
        self.class_names = tuple(class_names or pictures.class_names)
        self.captions = [f"{index}: {self.name(int(label))}"
                         for index, label in enumerate(pictures.labels)]

    def name(self, label: int) -> str:
        """The name of a class; its number where there are fewer names."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def choices(self) -> list[tuple[str, int]]:
        """Caption and number of each picture."""
        return [(caption, index) for index, caption in enumerate(self.captions)]

    def add(self, name: str, content: bytes) -> int:
        """Add the picture in a file's bytes, cut and resized as the others are; gives its number.

        Raises LabError if it cannot be read.
        """
        try:
            pixels = decode([(name, content)], 1, tuple(self.images.shape[-2:]))
        except LabError as error:
            raise LabError(f"{name} cannot be read as a picture ({error.__cause__}); choose a "
                           "whole PNG, JPEG or WebP file") from error
        self.images = torch.cat([self.images, pixels.float() / 255])
        self.captions.append(f"{len(self.captions)}: {name}")
        return len(self.captions) - 1

    def inputs(self, which: slice) -> Tensor:
        """Some of the pictures as the model takes them, where the model is."""
        return as_input(self.model, self.pictures.normalize(self.images[which]))


class ExplainedAlbum(Album):
    """An album, and for each picture the model's answer and maps, computed when first asked for."""

    def __init__(self, model: nn.Module, pictures: Pictures, explainers: Mapping[str, Explainer],
                 class_names: Sequence[str] | None) -> None:
        super().__init__("attention_explorer", model, pictures, class_names)
        wrong = [name for name, explainer in explainers.items()
                 if not callable(explainer) or name in TOKENS]
        if wrong:
            raise LabError(f"attention_explorer: explainers {', '.join(wrong)}: give functions "
                           "(model, inputs, target) -> (batch, rows, columns), by names other than "
                           f"{', '.join(TOKENS)}")
        self.explainers = explainers
        self._recorded: dict[int, Recorded] = {}
        self._atlases: dict[tuple[int, str], Atlas] = {}
        maps = self.recorded(0).maps
        self.methods = [*maps["flows"], *maps["grids"], *explainers]
        if maps["attention"]:
            self.methods.insert(0, "attention")
        if not self.methods:
            raise LabError(f"attention_explorer: the attention of {type(model).__name__} is not "
                           "one square map a head; give explainers={'name': function of (model, "
                           "inputs, target) -> (batch, rows, columns)}")

    def recorded(self, picture: int) -> Recorded:
        """The model's run on one picture."""
        if picture not in self._recorded:
            self._recorded[picture] = record(self.model, self.inputs(slice(picture, picture + 1)))
        return self._recorded[picture]

    def atlas(self, picture: int, method: str) -> Atlas:
        """The maps of one picture: those of the model's run, or those of an explainer."""
        key = picture, method if method in self.explainers else ""
        if key not in self._atlases:
            this = slice(picture, picture + 1)
            maps = self._explained(this, method) if key[1] else self.recorded(picture).maps
            self._atlases[key] = atlas(self.images[this], self.captions[this],
                                       caller="attention_explorer", **maps)
        return self._atlases[key]

    def _explained(self, this: slice, method: str) -> dict[str, Any]:
        run = self.recorded(this.start)
        try:
            predicted = run.probabilities.argmax(-1)
            found = self.explainers[method](self.model, self.inputs(this), predicted)
        except Exception as error:
            raise LabError(f"{method}: {error}") from error
        is_fine = found.shape[1:] == self.images.shape[-2:]        # pixels are read by patches
        return {"grids": {method: found}, "grid": run.maps["grid"] if is_fine else None}

    def answer(self, picture: int) -> str:
        """The predicted class of one picture and its probability, in words."""
        probability, label = self.recorded(picture).probabilities[0].max(dim=0)
        return f"The model says {self.name(int(label))}, with probability {probability.item():.0%}."

    def together(self, count: int) -> dict[str, Any]:
        """The first `count` pictures with all their maps, as `figures.explorer` takes them."""
        inputs = self.inputs(slice(count))
        run = record(self.model, inputs)
        target, grids = run.probabilities.argmax(-1), dict(run.maps["grids"])
        for name, explain in self.explainers.items():
            grids[name] = explain(self.model, inputs, target)
        return {"images": self.images[:count], "captions": self.captions[:count],
                **run.maps, "grids": grids}
