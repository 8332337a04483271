"""The threat model. Does not import torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

Norm = Literal["Linf", "L2"]

MAX_RADIUS: dict[str, float] = {"Linf": 1.0, "L2": 2000.0}
"""Largest radius and step: from there on a ball holds every image, in L2 of up to 1024 x 1024 pixels."""


class Threat(NamedTuple):
    """A norm ball of radius `eps` around each input, in pixel space [0, 1], and PGD's step size."""

    norm: Norm
    eps: float
    step_size: float

    def check(self) -> Threat:
        """Return the threat model. Raises ValueError for a radius or a step out of range."""
        for name, value in (("eps", self.eps), ("step_size", self.step_size)):
            if not value > 0:
                raise ValueError(f"expected {name} > 0, got {value}")
            if value > MAX_RADIUS[self.norm]:
                raise ValueError(f"expected {name} <= {MAX_RADIUS[self.norm]:g} in {self.norm}, got {value}")
        return self
