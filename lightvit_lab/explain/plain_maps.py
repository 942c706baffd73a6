"""Maps that know nothing of the model: an explainer that does not beat them explains nothing.

Each is an explainer, (model, inputs, target) -> (batch, rows, columns), that uses neither the model
nor the target.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import plain_numbers, require_images, require_range
from ..runtime.running import cast
from .passes import Target


@plain_numbers
def random_map(seed: int = 0, patch_size: int = 4) -> Callable[..., Tensor]:
    """An explainer that draws a number in [0, 1) for each patch.

    Its maps are (batch, height / patch_size, width / patch_size). The numbers follow from `seed`
    and the picture's own values, whatever its batch.
    """
    require_range("random_map", "patch_size", patch_size, 1)

    def random_map(model: nn.Module | None, inputs: Tensor, target: Target = None) -> Tensor:
        require_images("random_map", inputs)
        grid = [max(1, side // patch_size) for side in inputs.shape[-2:]]
        maps = []
        for picture in inputs.detach().float().cpu().numpy():
            generator = torch.Generator().manual_seed(zlib.crc32(picture.tobytes(), seed))
            maps.append(torch.rand(grid, generator=generator))
        return torch.stack(maps).to(inputs.device)

    return random_map


def centre_map(model: nn.Module | None, inputs: Tensor, target: Target = None) -> Tensor:
    """A Gaussian hill in the middle, as wide as a quarter of each side: (batch, height, width)."""
    require_images("centre_map", inputs)
    places = [(torch.arange(side, device=inputs.device) + 0.5) / side for side in inputs.shape[-2:]]
    down, across = (torch.exp(-8 * (place - 0.5) ** 2) for place in places)
    return (down[:, None] * across).expand(len(inputs), -1, -1).clone()


def edge_map(model: nn.Module | None, inputs: Tensor, target: Target = None) -> Tensor:
    """How steep the grey picture is (Sobel), the mean over 3 x 3 pixels: (batch, height, width).

    Adebayo et al., arXiv 1810.03292, found maps in use that hardly differ from an edge detector's.
    """
    require_images("edge_map", inputs)
    slope = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=inputs.device) / 8
    grey = F.pad(inputs.detach().float().mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    with cast("float32", grey.device):
        across, down = F.conv2d(grey, torch.stack([slope, slope.T])[:, None]).unbind(1)
    steep = (across**2 + down**2).sqrt()[:, None]
    return F.avg_pool2d(F.pad(steep, (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
