"""Trust checks of clean accuracy: above chance, and measured on pixels in [0, 1]."""

from __future__ import annotations

from torch import Tensor

from rb_smooth.evaluation.checks.verdicts import CheckContext, CheckOutcome

_CHANCE = 0.05
"""Significance level of the test against chance."""

_MIN_POINTS = 10
"""Smallest number of points for the test against chance."""

_NORMALISATION_P, _NORMALISATION_GAIN = 1e-3, 0.2
"""Significance level, and smallest gain in accuracy, for better results on normalised images than on raw ones."""


def check_normalisation(context: CheckContext) -> CheckOutcome:
    """Check that the model expects pixels in [0, 1], the unit of eps.

    A model that expects standardised images, or pixels in [-1, 1] or [0, 255], is far more accurate on those.
    """
    raw = context.is_correct(context.x)
    for name, x in _normalise(context.x).items():
        other = context.is_correct(x)
        gained, lost = int((other & ~raw).sum()), int((raw & ~other).sum())
        is_significant = _binomial_tail(gained, gained + lost, 0.5) < _NORMALISATION_P
        if gained - lost >= _NORMALISATION_GAIN * len(raw) and is_significant:
            return "failed", (
                f"accuracy is {_percent(raw)} on raw pixels, {_percent(other)} on {name}: the model lacks its "
                "normalisation; put it inside the model, as models.Normalized does"
            )
    return "passed", f"accuracy is {_percent(raw)} on raw pixels, and normalising them first gains nothing"


def check_accuracy(context: CheckContext) -> CheckOutcome:
    """Check that clean accuracy is above chance, by a one-sided binomial test."""
    correct = context.is_correct(context.x)
    if len(correct) < _MIN_POINTS:
        return "skipped", f"expected at least {_MIN_POINTS} points, got {len(correct)}"
    found = f"{int(correct.sum())} of {len(correct)} points are classified correctly, among {context.classes} classes"
    p = _binomial_tail(int(correct.sum()), len(correct), 1 / context.classes)
    return ("passed", found) if p < _CHANCE else ("unreliable", f"{found}: not significantly above chance")


def _normalise(x: Tensor) -> dict[str, Tensor]:
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True, unbiased=False).clamp_min(1e-3)
    return {"standardised images": (x - mean) / std, "pixels in [-1, 1]": 2 * x - 1, "pixels in [0, 255]": 255 * x}


def _binomial_tail(successes: int, trials: int, probability: float) -> float:
    """Return the probability of at least so many successes."""
    from scipy.stats import binomtest

    return float(binomtest(successes, trials, probability, "greater").pvalue)


def _percent(flags: Tensor) -> str:
    return f"{float(flags.double().mean()):.0%}"
