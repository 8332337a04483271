"""Weights lent and given back: whatever happens inside a `with`, the tensors leave it bit for bit as they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def preserve(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Copy `tensors`, and copy them back on leaving, also on an exception. Their storage never moves.

    Copying back is exact where adding and subtracting is not. Costs one copy of `tensors`.
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
    """Inside, `weights` are w + v; afterwards w again, bit for bit.

    Costs one copy of `weights` while it lasts: `v` is let go as soon as it is added (pass it without keeping a name).
    """
    with preserve(weights):
        with torch.no_grad():
            if weights:
                torch._foreach_add_(list(weights), list(v))
        del v
        yield


@contextmanager
def swapped(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Inside, `weights` hold `values`; afterwards their own again, bit for bit."""
    with preserve(weights):
        with torch.no_grad():
            for weight, value in zip(weights, values, strict=True):
                weight.copy_(value)
        yield


@contextmanager
def no_param_grad(model: nn.Module) -> Iterator[None]:
    """Inside, no parameter of `model` wants a gradient: a backward pass to the input computes none of theirs."""
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def to_device(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it, also within lists, tuples and dicts, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(each, device) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(each, device) for each in value)
    return value
