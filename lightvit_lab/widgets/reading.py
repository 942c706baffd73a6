"""What the attention box shows: pictures, a model's answers about them, and its maps, each computed
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """One run of the model: probabilities (B, classes), attention per block, flows, and how the
    tokens lie.

    `read` has the flows as the head reads them, (B, rows, columns), where that is no class token
    alone.
    """

    probabilities: Tensor
    attention: list[Tensor]
    flows: dict[str, Tensor]
    read: dict[str, Tensor]
    prefix: int
    grid: tuple[int, int] | None


def record(model: nn.Module, inputs: Tensor) -> Recorded:
    """Run `model` on inputs (B, 3, H, W); no attention and no flows where it has not one square map
    a head.

    All is on the CPU, in float32. Without a class token, maps leave out all tokens in front: they
    have no name.
    """
    maps, logits = _attention(model, inputs)
    require_logits("attention_explorer", model, logits)
    chances = logits.float().softmax(-1).cpu()
    if not maps or any(isinstance(part, dict) or part.shape != maps[0].shape for part in maps):
        return Recorded(chances, [], {}, {}, 0, None)
    maps, flows = [part.cpu() for part in maps], {"rollout": rollout(maps).cpu()}
    try:
        flows["relevance"] = relevance(model, inputs).cpu()
    except LabError:        # attention that can be read, but whose gradients cannot
        pass
    prefix, *grid = timm_parts.layout(model, inputs, maps[0].shape[-1])
    read = {} if timm_parts.head_tokens(model) == slice(0, 1) else {
        f"{name} of the head": image_part(model, inputs, flow) for name, flow in flows.items()}
    cut = 0 if timm_parts.has_class_token(model) else prefix
    return Recorded(chances, [part[..., cut:, cut:] for part in maps],
                    {name: flow[..., cut:, cut:] for name, flow in flows.items()}, read, prefix - cut, tuple(grid))


def _attention(model: nn.Module, inputs: Tensor) -> tuple[list[Any], Tensor]:
    model = unwrapped(model)
    try:
        timm_parts.attention_modules(model)
    except LabError:
        with on_device(model, precision="float32") as place:
            return [], model(as_input(model, inputs).to(place))
    return recorded(model, inputs)


class Album:
    """Pictures, those that readers bring too, as a model takes them."""

    def __init__(self, model: nn.Module, pictures: Pictures, class_names: tuple[str, ...]) -> None:
        self.model, self.pictures, self.class_names = model, pictures, class_names
        self.images = pictures.images
        self.captions = [f"{index}: {self.name(int(label))}" for index, label in enumerate(pictures.labels)]

    def name(self, label: int) -> str:
        """The name of a class; its number where there are fewer names."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def add(self, name: str, content: bytes) -> int:
        """Add the picture in a file's bytes, cut and resized as the others are; gives its number.
        Raises LabError.
        """
        height, width = self.images.shape[-2:]
        try:
            pixels = decode([(name, content)], 1, (height, width))
        except LabError as error:
            raise LabError(f"{name} cannot be read as a picture ({error.__cause__}); choose a whole PNG, JPEG or WebP "
                           "file") from error
        self.images = torch.cat([self.images, pixels.float() / 255])
        self.captions.append(f"{len(self.captions)}: {name}")
        return len(self.captions) - 1

    def inputs(self, which: slice) -> Tensor:
        """Some of the pictures as the model takes them, where the model is."""
        return as_input(self.model, self.pictures.normalize(self.images[which]))


class Reading(Album):
    """An album, and for each picture the model's answer and maps, computed at the first look."""

    def __init__(self, model: nn.Module, pictures: Pictures, explainers: Mapping[str, Explainer],
                 class_names: tuple[str, ...]) -> None:
        super().__init__(model, pictures, class_names)
        self.explainers = explainers
        self._recorded: dict[int, Recorded] = {}
        self._atlases: dict[tuple[int, str], Atlas] = {}
        first = self.recorded(0)
        self.methods = (("attention",) if first.attention else ()) + (*first.flows, *first.read, *explainers)
        if not self.methods:
            raise LabError(f"attention_explorer: the attention of {type(model).__name__} is not one square map a head; "
                           "give explainers={'name': function of (model, inputs, target) -> (batch, rows, columns)}")

    def recorded(self, picture: int) -> Recorded:
        """The model's run on one picture."""
        if picture not in self._recorded:
            self._recorded[picture] = record(self.model, self.inputs(slice(picture, picture + 1)))
        return self._recorded[picture]

    def atlas(self, picture: int, method: str) -> Atlas:
        """One method's maps of one picture."""
        if (picture, method) not in self._atlases:
            self._atlases[picture, method] = self._compute(picture, method)
        return self._atlases[picture, method]

    def answer(self, picture: int) -> str:
        """The predicted class of one picture and its probability, in words."""
        probability, label = self.recorded(picture).probabilities[0].max(dim=0)
        return f"The model says {self.name(int(label))}, with probability {probability.item():.0%}."

    def together(self, count: int) -> dict[str, Any]:
        """The first `count` pictures with all their maps, as the arguments of `figures.explorer`."""
        inputs = self.inputs(slice(count))
        run = record(self.model, inputs)
        target = run.probabilities.argmax(-1)
        grids = run.read | {name: explain(self.model, inputs, target) for name, explain in self.explainers.items()}
        return dict(images=self.images[:count], captions=self.captions[:count], attention=run.attention,
                    flows=run.flows, grids=grids, prefix=run.prefix, grid=run.grid)

    def _compute(self, picture: int, method: str) -> Atlas:
        run, this = self.recorded(picture), slice(picture, picture + 1)
        image, caption = self.images[this], self.captions[this]
        layout: dict[str, Any] = dict(prefix=run.prefix, grid=run.grid, caller="attention_explorer")
        if method == "attention":
            return atlas(image, caption, attention=run.attention, **layout)
        if method in run.flows:
            return atlas(image, caption, flows={method: run.flows[method]}, **layout)
        if method in run.read:
            return atlas(image, caption, grids={method: run.read[method]}, **layout)
        found = self.explainers[method](self.model, self.inputs(this), run.probabilities.argmax(-1))
        own = tuple(found.shape[1:]) not in (run.grid, tuple(image.shape[-2:]))
        return atlas(image, caption, grids={method: found}, **layout | ({"grid": None} if own else {}))
