"""The threat model. Does not import torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

Norm = Literal["Linf", "L2"]


class Threat(NamedTuple):
    """A norm ball of radius `eps` around each input, in pixel space [0, 1], and PGD's step size."""

    norm: Norm
    eps: float
    step_size: float
