"""No perturbation: v = 0."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn


class Unperturbed:
    """Does not change the weights or call the loss. Source: plain training."""

    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> AbstractContextManager[None]:
        return nullcontext()
