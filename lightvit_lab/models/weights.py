"""Trained weights, where a reader asks for them: no cell of a page downloads by itself."""

from __future__ import annotations

from typing import Any

from torch import nn


def pretrained(name: str, download: bool = False, **kwargs: Any) -> nn.Module:
    """A timm model in eval mode, with trained weights if `download` is True and they can be had.

    Otherwise it has fresh weights, and one printed sentence says so: what follows runs all the
    same, and its times are true, but its answers mean nothing. `kwargs` go to `create_model`.
    Weights are fetched once; timm keeps them. Raises LabError on an unknown name.
    """
    from . import create_model

    why = "set DOWNLOAD = True to fetch trained ones"
    if download:
        try:
            return create_model(name, pretrained=True, **kwargs).eval()
        except Exception as error:   # of network, host or disk: the reader's cells go on
            reason = (str(error).strip().splitlines() or [""])[0]
            why = f"trained ones could not be fetched ({type(error).__name__}: {reason[:200]})"
    model = create_model(name, **kwargs).eval()
    print(f"{name} has fresh weights, so its answers mean nothing: {why}.")
    return model
