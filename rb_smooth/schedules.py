"""Schedules: factors on an optimizer's learning rate. A recipe names one of the public functions here."""

from __future__ import annotations

import math

from rb_smooth import ranges
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
    ranges.above(0, factor=factor)
    return lambda epoch, epochs: factor ** sum(int(epoch) >= drop for drop in drops)


def cosine() -> Schedule:
    """From 1 at the start to 0 at the end, along half a cosine, moved at every minibatch."""
    return lambda epoch, epochs: _between(1.0, 0.0, min(epoch / epochs, 1.0))


def one_cycle(*, peak: float = 0.3, start: float = 0.04, end: float = 4e-6) -> Schedule:
    """Up from `start` to 1 along half a cosine, then down to `end`, moved at every minibatch.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", arXiv
    1708.07120; the shape and defaults of torch's OneCycleLR. peak: where in the run, in (0, 1), the factor is 1.
    """
    if not 0 < peak < 1 or not 0 <= start <= 1 or not 0 <= end <= 1:
        raise ValueError(f"expected 0 < peak < 1 and start, end in [0, 1], got {peak}, {start}, {end}")

    def factor(epoch: float, epochs: int) -> float:
        share = min(epoch / epochs, 1.0)
        if share < peak:
            return _between(start, 1.0, share / peak)
        return _between(1.0, end, (share - peak) / (1 - peak))

    return factor


def _between(one: float, other: float, share: float) -> float:
    """From `one` at share 0 to `other` at share 1, along half a cosine."""
    return other + (one - other) * 0.5 * (1 + math.cos(math.pi * share))
