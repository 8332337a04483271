"""Weights that come and go: from any of the forms that this field passes around, and in the plainest one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth import files
from rb_smooth.models import Normalized
from rb_smooth.refusal import Refused

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def start_from(model: Normalized, path: Path) -> None:
    """Give `model` the weights in `path`: of one of our models, or of the bare network inside.

    Taken are a state dict, or one wrapped under "state_dict", "model_state_dict", "model" or "net"; prefixes of
    DataParallel and of compiled models are stripped. A bare network keeps the data's own normalisation. Nothing in the
    file is executed. Raises Refused, naming both sides, if the file is another network's.
    """
    if not path.exists():
        raise Refused(f"expected weights to start from in {path}, got nothing there; correct train.start")
    weights = _unwrapped(files.load_tensors(path), path)
    target: Any = model if any(key.startswith("net.") for key in weights) else model.net
    wanted: Mapping[str, Tensor] = target.state_dict()
    counts = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    weights = counts | weights  # which old checkpoints lack, and nothing of ours depends on
    missing, surplus = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or surplus:
        difference = f"{min(missing)} missing" if missing else f"{min(surplus)} besides"
        raise Refused(f"expected this model's weights in {path}, got another's ({difference}); correct train.start")
    for key, value in wanted.items():
        if weights[key].shape != value.shape:
            raise Refused(
                f"expected {key} of shape {tuple(value.shape)} in {path}, as the data's classes and the model want it, "
                f"got {tuple(weights[key].shape)}; start from a model of the same classes"
            )
        if weights[key].is_floating_point() != value.is_floating_point() or not weights[key].isfinite().all():
            raise Refused(
                f"expected {key} in {path} to be finite numbers of type {value.dtype}, got {weights[key].dtype} or "
                "infinities; start from other weights"
            )
    target.load_state_dict(weights)


def exported(model: nn.Module) -> dict[str, Tensor]:
    """A plain CPU state dict, floating point in fp32: what RobustBench's loader takes."""
    state = model.state_dict()
    return {
        key: (value.float() if value.is_floating_point() else value)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping) and (
        inside := [loaded[w] for w in _WRAPPERS if isinstance(loaded.get(w), Mapping)]
    ):
        loaded = inside[0]
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(v, Tensor) and v.layout == torch.strided for v in loaded.values())
    ):
        raise Refused(f"expected a state dict in {path}, got something else; correct train.start")
    weights = {str(key): value for key, value in loaded.items()}
    while prefix := next((each for each in _PREFIXES if all(key.startswith(each) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights
