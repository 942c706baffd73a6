"""MACs by `count` and what other counters make of the same models: their error in percent.

fvcore and torchinfo are asked where they are installed (`pip install fvcore torchinfo`), hooks on linear layers and
convolutions stand for thop and its kind, FlopCounterMode is torch's own. That `count` is right is shown by closed forms
in tests/profiling/test_counting.py.
"""

import copy
import logging
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightvit_lab import models, profiling
from lightvit_lab.experiments.light_models import layers_alone

warnings.filterwarnings("ignore")
logging.disable(logging.ERROR)


def written_out(name: str) -> nn.Module:
    """A timm model whose attention makes its two products one by one."""
    model = models.create_model(name)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def int8(name: str) -> nn.Module:
    """torch's own dynamic quantization of the linear layers."""
    return torch.ao.quantization.quantize_dynamic(models.create_model(name).eval(), {nn.Linear}, dtype=torch.qint8)


def torchao(configuration: str) -> nn.Module:
    """DeiT-S with torchao's quantized linear layers."""
    from torchao import quantization

    model = models.create_model("deit_small_patch16_224").eval()
    quantization.quantize_(model, getattr(quantization, configuration)())
    return model


def torchvision_vit() -> nn.Module:
    """Its attention is nn.MultiheadAttention, which has a fast path without gradients."""
    from torchvision.models import vit_b_16

    return vit_b_16()


CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "deit_tiny": (lambda: models.create_model("deit_tiny_patch16_224"), 224),
    "deit_tiny, written out": (lambda: written_out("deit_tiny_patch16_224"), 224),
    "deit_small": (lambda: models.create_model("deit_small_patch16_224"), 224),
    "vit_small, 384 px": (lambda: models.create_model("vit_small_patch16_384"), 384),
    "torchvision vit_b_16": (torchvision_vit, 224),
    "pvt_v2_b0": (lambda: models.create_model("pvt_v2_b0"), 224),
    "swin_tiny": (lambda: models.create_model("swin_tiny_patch4_window7_224"), 224),
    "lightvit_tiny": (lambda: models.create_model("lightvit_tiny"), 224),
    "deit_small, int8 dynamic": (lambda: int8("deit_small_patch16_224"), 224),
    "deit_small, torchao int8 weights": (lambda: torchao("Int8WeightOnlyConfig"), 224),
    "deit_small, torchao int8 dynamic": (lambda: torchao("Int8DynamicActivationInt8WeightConfig"), 224),
}


def by_hooks(model: nn.Module, image: torch.Tensor) -> float:
    """What thop does: a hook on each linear layer and convolution. What happens between them is not seen."""
    return layers_alone(model, image.shape[-1])


def by_torch(model: nn.Module, image: torch.Tensor) -> float:
    """torch's counter as it is."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() / 2


def by_fvcore(model: nn.Module, image: torch.Tensor) -> float:
    """fvcore: adds norms, does not know fused attention."""
    from fvcore.nn import FlopCountAnalysis

    return FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def by_torchinfo(model: nn.Module, image: torch.Tensor) -> float:
    """torchinfo's mult-adds: a linear layer counts once, however many tokens pass through it."""
    from torchinfo import summary

    return summary(model, input_data=image, verbose=0).total_mult_adds


COUNTERS = {"FlopCounterMode": by_torch, "hooks (thop)": by_hooks, "fvcore": by_fvcore, "torchinfo": by_torchinfo}


@torch.no_grad()
def main() -> None:
    """Print one line per model."""
    print(f"{'':34} {'GMACs':>7}" + "".join(f" {label:>16}" for label in COUNTERS))
    for label, (build, size) in CASES.items():
        try:
            model = build().eval()
        except ImportError as error:
            print(f"{label:34} needs {error.name}")
            continue
        true = profiling.count(model, (3, size, size)).macs
        errors = []
        for counter in COUNTERS.values():
            try:
                errors.append(f"{counter(copy.deepcopy(model), torch.rand(1, 3, size, size)) / true - 1:+.1%}")
            except ImportError:
                errors.append("not installed")
            except Exception as error:  # noqa: BLE001  that a counter breaks is its result
                errors.append(type(error).__name__[:16])
        print(f"{label:34} {true / 1e9:7.3f}" + "".join(f" {error:>16}" for error in errors), flush=True)


if __name__ == "__main__":
    main()
