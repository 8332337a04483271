"""Context managers that change tensors or requires_grad and restore them, bit for bit, also on an exception."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def preserve(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Restore `tensors` on exit, in place, also on an exception. Allocates one copy of them.

    Copying is exact; subtracting an added shift is not.
    """
    saved = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)


@contextmanager
def perturbed(weights: Sequence[Tensor], v: Sequence[Tensor]) -> Iterator[None]:
    """Inside, `weights` are w + v; afterwards w, bit for bit.

    Allocates one copy of `weights`; `v` is freed once it is added, unless the caller keeps a reference.
    """
    with preserve(weights):
        with torch.no_grad():
            if weights:
                torch._foreach_add_(list(weights), list(v))
        del v
        yield


@contextmanager
def swapped(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Inside, `weights` hold `values`; afterwards their own values, bit for bit."""
    with preserve(weights):
        with torch.no_grad():
            for weight, value in zip(weights, values, strict=True):
                weight.copy_(value)
        yield


@contextmanager
def no_param_grad(model: nn.Module) -> Iterator[None]:
    """Inside, requires_grad is False for all parameters: a backward pass to the input computes no weight gradients."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def to_device(value: Any, device: torch.device) -> Any:
    """Move every tensor in `value`, also within lists, tuples and dicts, to `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(each, device) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(each, device) for each in value)
    return value
