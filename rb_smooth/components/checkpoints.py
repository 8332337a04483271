"""Read weights from the usual checkpoint formats, load them into a model, and export a plain state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rb_smooth.components.models import Normalized
from rb_smooth.core import files
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.input_files import regular_file

_PREFERRED = ("state_dict", "model_state_dict", "model", "net", "ema_state_dict", "model_ema", "ema", "params")
"""Keys of state dicts, in the order in which one is read if several fit the model and none is requested."""
_NORMALISATION = {"mean": "std", "mu": "sigma", "new_mean": "new_std"}
"""Names of a normalisation's two tensors, whatever precedes them."""
_COUNTERS = ("n_averaged", "num_updates")
"""Counters that averaged models save with their weights."""


class _Match(NamedTuple):
    """How a state dict fits a network whose keys are `wanted`, all after `prefix`.

    missing: wanted keys that it lacks. surplus: its keys of nothing known. mean, std: the normalisation beside them.
    """

    prefix: str
    weights: dict[str, Tensor]
    missing: list[str]
    surplus: list[str]
    mean: Tensor | None = None
    std: Tensor | None = None

    @property
    def fits(self) -> bool:
        return not self.missing and not self.surplus


def load_checkpoint(
    model: Normalized, path: Path, cure: str = "correct train.start", key: str | None = None
) -> tuple[str, ...]:
    """Load the weights in `path`, and the normalisation if the file has one, into `model`; executes no code in it.

    The network decides: any state dict in the file that has all its keys after one common prefix is read, such as
    those of DataParallel, compiled, averaged and wrapped models. Without a normalisation, the model keeps the data's.

    key:  which state dict to read, if several fit.
    cure: the fix that the UserError names, raised if none fits, or shapes differ.

    Returns the keys of the other state dicts that fit.
    """
    if not path.exists():
        raise UserError(f"expected weights to start from in {path}, got nothing there; {cure}")
    found = read_checkpoint(path, cure)
    if key is not None and key not in found:
        names = ", ".join(name for name in found if name) or "none"
        raise UserError(f"expected a state dict under {key!r} in {path}, got {names}; {cure}")
    wanted: Mapping[str, Tensor] = model.net.state_dict()
    matches = {name: _match(wanted, state) for name, state in found.items() if key in (None, name)}
    fitting = [name for name, match in matches.items() if match.fits]
    taken = fitting[0] if fitting else min(matches, key=lambda name: len(matches[name].missing))
    _load(model, matches[taken], path, cure)
    return tuple(fitting[1:])


def read_checkpoint(path: Path, cure: str) -> dict[str, dict[str, Tensor]]:
    """Return every state dict in a file of torch or safetensors by its key, the preferred first; executes no code.

    Keys of nested ones are joined by dots; "" is the file itself. Raises UserError, with `cure`, if there is none.
    """
    found = dict(_state_dicts(_read_file(path)))
    if not found:
        raise UserError(f"expected a state dict in {path}, got something else; {cure}")

    def place(name: str) -> int:
        first = name.partition(".")[0]
        return _PREFERRED.index(first) if first in _PREFERRED else len(_PREFERRED)

    return {name: found[name] for name in sorted(found, key=place)}


def _state_dicts(value: Any, key: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield mappings of tensors, except in an optimizer's state."""
    if not isinstance(value, Mapping) or not value:
        return
    if all(isinstance(each, Tensor) and each.layout == torch.strided for each in value.values()):
        yield key, {str(name): tensor for name, tensor in value.items() if name not in _COUNTERS}
        return
    for name, inside in value.items():
        if isinstance(name, str) and "optim" not in name.lower():
            yield from _state_dicts(inside, f"{key}.{name}" if key else name)


def _match(wanted: Mapping[str, Tensor], state: dict[str, Tensor]) -> _Match:
    """Find the prefix after which `state` has the most of the `wanted` keys; old files lack the counts of BatchNorm."""
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    anchors = {needed[0], needed[-1]} if needed else set()
    prefixes = {key.removesuffix(anchor) for key in state for anchor in anchors if f".{key}".endswith(f".{anchor}")}
    has = {prefix: sum(prefix + key in state for key in needed) for prefix in sorted(prefixes, key=len)}
    best = max(has, key=lambda prefix: has[prefix], default="")
    copies = [prefix for prefix in has if has[prefix] == len(needed) and _equal_copies(state, best, prefix, needed)]
    weights = {key: state.get(best + key, value) for key, value in wanted.items()}
    surplus = [key for key in state if not any(key.startswith(each) and key[len(each) :] in wanted for each in copies)]
    surplus = surplus if copies else [key for key in state if key.removeprefix(best) not in wanted]
    pairs = [
        (key, other)
        for key in surplus
        for mean, std in _NORMALISATION.items()
        if f".{key}".endswith(f".{mean}") and (other := key.removesuffix(mean) + std) in surplus
    ]
    surplus = [key for key in surplus if key not in sum(pairs, ())]
    moments = (state[name].flatten().float() for name in pairs[0]) if pairs else ()
    return _Match(best, weights, [key for key in needed if best + key not in state], surplus, *moments)


def _equal_copies(state: dict[str, Tensor], one: str, other: str, keys: list[str]) -> bool:
    """Whether the weights after two prefixes are equal: some libraries save a network twice."""
    return one == other or all(torch.equal(state[one + key], state[other + key]) for key in keys)


def _load(model: Normalized, match: _Match, path: Path, cure: str) -> None:
    prefix = match.prefix
    if not match.fits:
        sides = [f"{prefix}{min(match.missing)} missing"] if match.missing else []
        sides += [f"{min(match.surplus)} unexpected"] if match.surplus else []
        raise UserError(f"expected this model's weights in {path}, got another model's ({', '.join(sides)}); {cure}")
    for key, value in model.net.state_dict().items():
        stored = match.weights[key]
        if stored.shape != value.shape:
            raise UserError(
                f"expected {prefix}{key} of shape {tuple(value.shape)} in {path}, by the model and the data's "
                f"classes, got {tuple(stored.shape)}; {cure}"
            )
        if stored.is_floating_point() != value.is_floating_point():
            raise UserError(f"expected {prefix}{key} in {path} to be {value.dtype}, got {stored.dtype}; {cure}")
        if wrong := int((~stored.isfinite()).sum()):
            raise UserError(
                f"expected {prefix}{key} in {path} to be finite numbers, got {wrong} of {stored.numel()} NaN or "
                f"infinite: the training diverged, or the file is damaged; {cure}"
            )
    channels = model.mean.numel()
    moments = () if match.mean is None or match.std is None else ((match.mean, model.mean), (match.std, model.std))
    for stored, _ in moments:
        if stored.numel() not in (1, channels) or not stored.isfinite().all():
            raise UserError(f"expected a normalisation of {channels} channels in {path}, got {stored.tolist()}; {cure}")
    model.net.load_state_dict(match.weights)
    for stored, own in moments:
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
