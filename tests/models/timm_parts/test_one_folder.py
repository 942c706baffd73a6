"""Whoever asks where timm's part names stand in the library finds them in one folder."""

import ast
from pathlib import Path

import pytest
import timm
from torch import nn

from lightvit_lab import models

LIBRARY = Path(models.__file__).parents[1]
FOLDER = LIBRARY / "models" / "timm_parts"
BUILDERS = {"models/__init__.py": {"timm", "timm.models"},      # makes timm's models by name
            "models/lightvit.py": {"timm.layers"}}              # is built of one of timm's layers
NAMES = ("q_norm", "k_norm", "attn_drop", "proj_drop", "fused_attn", "attn_dim", "ls1", "ls2", "drop_path1", "drop_path2",
         "norm_pre", "fc_norm", "head_drop", "pos_drop", "patch_drop", "attn_pool", "reg_token", "global_pool",
         "num_reg_tokens", "no_embed_class", "pool_include_prefix", "dynamic_img_size", "has_class_token",
         "grid_size", "num_patches", "dynamic_feat_size", "strict_img_size", "dynamic_img_pad")
SHARED = {"has_class_token"}                                    # also a function of the folder's own
# what any model may have; no room below says it
READ_BY_NAME = {"training/probing.py": {"fused_attn"}, "distillation/feature_distillation/mimicking.py": {"fc_norm"}}
OUTSIDE = sorted(path for path in LIBRARY.rglob("*.py") if FOLDER not in path.parents)


def said(path):
    """Every attribute, and every string that could be one, in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_no_file_outside_the_folder_imports_timm_or_names_what_only_timm_s_models_have(path):
    own = {name for name in imported(path) if name.split(".")[0] == "timm"}
    assert own <= BUILDERS.get(str(path.relative_to(LIBRARY)), set())
    assert not set(said(path)) & (set(NAMES) - SHARED - READ_BY_NAME.get(str(path.relative_to(LIBRARY)), set()))


def test_the_names_looked_for_are_timm_s_and_not_the_lab_s():
    def attributes(model: nn.Module) -> set:
        return {name for part in model.modules() for name in (*vars(part), *part._modules, *part._parameters, *dir(type(part)))}

    theirs = attributes(timm.create_model("vit_tiny_patch16_224", depth=1, init_values=1.0, reg_tokens=2))
    ours = set().union(*(attributes(models.create_model(name)) for name in ("lab_vit", "lab_cct", "lab_lightvit")))
    assert set(NAMES) <= theirs and not set(NAMES) & ours
