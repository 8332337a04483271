"""The ball in which a model is attacked. Costs no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

Norm = Literal["Linf", "L2"]


class Threat(NamedTuple):
    """A ball around each input, in pixel space [0, 1], and the step with which PGD walks in it."""

    norm: Norm
    eps: float
    step_size: float
