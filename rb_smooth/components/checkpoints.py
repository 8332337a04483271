"""Read weights from the usual checkpoint formats, load them into a model, and export a plain state dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rb_smooth.components.models import Normalized
from rb_smooth.core import files
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.input_files import regular_file

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema_state_dict", "model_ema", "ema", "params")
"""Keys under which files hold a state dict; the first present is read unless a key is requested."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "ema.")
_NET_PREFIX = "net."
"""Prefix of the network's keys in `Normalized`."""
_NORMALISATION_KEYS = (("mean", "std"), ("mu", "sigma"), ("normalize.mean", "normalize.std"))
_COUNTERS = ("n_averaged", "num_updates")
"""Counters that averaged models save with their weights."""


class Checkpoint(NamedTuple):
    """A network's weights as read from a file.

    weights:   state dict of the network without its normalisation; `prefix` preceded its keys in the file.
    mean, std: (C,), normalisation stored in the file; None: none stored.
    others:    keys of further state dicts in the file.
    """

    weights: dict[str, Tensor]
    prefix: str
    mean: Tensor | None
    std: Tensor | None
    others: tuple[str, ...]


def load_checkpoint(model: Normalized, path: Path) -> None:
    """Load the weights in `path` into `model`, in any format that `read_checkpoint` reads.

    Without normalisation in the file, the model keeps the data set's. Raises UserError if keys or shapes differ.
    """
    if not path.exists():
        raise UserError(f"expected weights to start from in {path}, got nothing there; correct train.start")
    load_weights(model, read_checkpoint(path, "correct train.start"), path, "correct train.start")


def read_checkpoint(path: Path, cure: str, key: str | None = None) -> Checkpoint:
    """Read a state dict saved by torch or safetensors, plain or under one of the usual keys; execute no code in it.

    Strips prefixes of DataParallel, compiled, averaged and wrapped models; separates the normalisation's mean and std.

    key:  which state dict to read, if the file holds several.
    cure: the fix that the UserError names, raised if the file holds no state dict.
    """
    loaded = _read_file(path)
    names = [name for name in _WRAPPERS if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping)]
    if key is not None and key not in names:
        raise UserError(f"expected a state dict under {key!r} in {path}, got {', '.join(names) or 'none'}; {cure}")
    taken = key or next(iter(names), None)
    weights = _unwrap(loaded if taken is None else loaded[taken], path, cure)
    weights = _strip_prefixes({name: value for name, value in weights.items() if name not in _COUNTERS}, *_PREFIXES)
    mean = std = None
    for pair in _NORMALISATION_KEYS:
        if all(name in weights for name in pair):
            mean, std = (weights.pop(name).flatten().float() for name in pair)
            weights = _strip_prefixes(weights, *_PREFIXES)
    bare = _strip_prefixes(weights, _NET_PREFIX)
    others = tuple(name for name in names if name != taken)
    return Checkpoint(bare, "" if bare.keys() == weights.keys() else _NET_PREFIX, mean, std, others)


def load_weights(model: Normalized, checkpoint: Checkpoint, path: Path, cure: str) -> None:
    """Load the weights, and the normalisation if present, into `model`. Raises UserError if keys or shapes differ."""
    wanted: Mapping[str, Tensor] = model.net.state_dict()
    counts = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    prefix, weights = checkpoint.prefix, counts | checkpoint.weights  # old checkpoints lack counts, which are unused
    missing, surplus = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or surplus:
        sides = [f"{prefix}{min(missing)} missing"] if missing else []
        sides += [f"{prefix}{min(surplus)} unexpected"] if surplus else []
        raise UserError(f"expected this model's weights in {path}, got another model's ({', '.join(sides)}); {cure}")
    for key, value in wanted.items():
        if weights[key].shape != value.shape:
            raise UserError(
                f"expected {prefix}{key} of shape {tuple(value.shape)} in {path}, by the model and the data's "
                f"classes, got {tuple(weights[key].shape)}; {cure}"
            )
        if weights[key].is_floating_point() != value.is_floating_point() or not weights[key].isfinite().all():
            raise UserError(
                f"expected {prefix}{key} in {path} to be finite numbers of type {value.dtype}, got "
                f"{weights[key].dtype} or infinities; {cure}"
            )
    model.net.load_state_dict(weights)
    if checkpoint.mean is not None and checkpoint.std is not None:
        channels = model.mean.numel()
        for stored, own in ((checkpoint.mean, model.mean), (checkpoint.std, model.std)):
            if stored.numel() not in (1, channels) or not stored.isfinite().all():
                raise UserError(
                    f"expected a normalisation of {channels} channels in {path}, got {stored.tolist()}; {cure}"
                )
            own.copy_(stored.to(own).view(1, -1, 1, 1).expand_as(own))


def export_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A contiguous CPU state dict in fp32, as RobustBench's loader reads."""
    state = model.state_dict()
    return {
        key: (value.float() if value.is_floating_point() else value)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }


def _read_file(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return files.load_tensors(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(regular_file(path))
    except SafetensorError as error:
        raise UserError(
            f"expected tensors in {path}, got a damaged or foreign file ({first_line(error)}); restore it"
        ) from None


def _unwrap(loaded: Any, path: Path, cure: str) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping) and (
        inside := [loaded[w] for w in _WRAPPERS if isinstance(loaded.get(w), Mapping)]
    ):
        loaded = inside[0]
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(v, Tensor) and v.layout == torch.strided for v in loaded.values())
    ):
        raise UserError(f"expected a state dict in {path}, got something else; {cure}")
    return {str(key): value for key, value in loaded.items()}


def _strip_prefixes(weights: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Remove prefixes that all keys share, repeatedly."""
    while prefix := next((each for each in prefixes if weights and all(key.startswith(each) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights
