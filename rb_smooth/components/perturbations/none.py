"""No perturbation: the gradient is taken at the weights themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn


class Unperturbed:
    """Leaves the weights alone and never calls the loss. Source: plain training."""

    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> AbstractContextManager[None]:
        return nullcontext()
