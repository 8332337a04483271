"""Schedules: factors on an optimizer's learning rate. A recipe names one of the public functions here."""

from __future__ import annotations

import math

from rb_smooth.contracts import Schedule


def constant() -> Schedule:
    """The learning rate stays as it is."""
    return lambda epoch, epochs: 1.0


def piecewise(*, drops: list[int], factor: float = 0.1) -> Schedule:
    """Multiplied by `factor` at each epoch of `drops` (ascending, counted from 0); constant within an epoch.

    Differs from the authors' code: there the last minibatch of the epoch before a drop already uses the lower rate.
    """
    if drops != sorted(drops) or any(drop < 0 for drop in drops):
        raise ValueError(f"expected drops to be ascending epochs >= 0, got {drops}")
    if factor <= 0:
        raise ValueError(f"expected factor > 0, got {factor}")
    return lambda epoch, epochs: factor ** sum(int(epoch) >= drop for drop in drops)


def cosine() -> Schedule:
    """From 1 at the start to 0 at the end, along half a cosine, moved at every minibatch."""
    return lambda epoch, epochs: 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1.0)))
