"""Learning-rate schedules: factors on the optimizer's `lr`. A recipe names one of the public functions here."""

from __future__ import annotations

import math

from rb_smooth.components import ranges
from rb_smooth.components.interfaces import Schedule


def constant() -> Schedule:
    """Factor 1 throughout. Source: ours."""
    return lambda epoch, epochs: 1.0


def piecewise(*, drops: list[int], factor: float = 0.1) -> Schedule:
    """Multiply by `factor` at each epoch of `drops`; constant within an epoch. Source: Kanai et al., appendix E.

    drops (list of epochs, ascending, from 0): epochs at which the rate drops. Source: Kanai et al., appendix E: 100
        and 150.
    factor (> 0): factor of each drop. Source: Kanai et al., appendix E.

    Differs from the authors' code, where the last minibatch before a drop already uses the lower rate.
    """
    if drops != sorted(drops) or any(drop < 0 for drop in drops):
        raise ValueError(f"expected drops to be ascending epochs >= 0, got {drops}")
    ranges.above(0, factor=factor)
    return lambda epoch, epochs: factor ** sum(int(epoch) >= drop for drop in drops)


def cosine() -> Schedule:
    """From 1 to 0 along half a cosine, updated every minibatch. Source: ours; in neither paper."""
    return lambda epoch, epochs: _cosine_interpolate(1.0, 0.0, min(epoch / epochs, 1.0))


def one_cycle(*, peak: float = 0.3, start: float = 0.04, end: float = 4e-6) -> Schedule:
    """From `start` up to 1 and down to `end`, each along half a cosine, updated every minibatch. Source: Smith and
    Topin, arXiv 1708.07120; shape of torch's OneCycleLR.

    peak (share of the run, > 0, < 1): time at which the factor is 1. Source: torch's OneCycleLR.
    start (>= 0, <= 1): factor at the start. Source: torch's OneCycleLR.
    end (>= 0, <= 1): factor at the end. Source: torch's OneCycleLR.
    """
    if not 0 < peak < 1 or not 0 <= start <= 1 or not 0 <= end <= 1:
        raise ValueError(f"expected 0 < peak < 1 and start, end in [0, 1], got {peak}, {start}, {end}")

    def factor(epoch: float, epochs: int) -> float:
        share = min(epoch / epochs, 1.0)
        if share < peak:
            return _cosine_interpolate(start, 1.0, share / peak)
        return _cosine_interpolate(1.0, end, (share - peak) / (1 - peak))

    return factor


def _cosine_interpolate(one: float, other: float, share: float) -> float:
    """Interpolate from `one` at share 0 to `other` at share 1, along half a cosine."""
    return other + (one - other) * 0.5 * (1 + math.cos(math.pi * share))
