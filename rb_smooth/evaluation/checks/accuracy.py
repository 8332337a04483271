"""Trust checks of clean accuracy: that it is more than guessing, and that it is reached on raw pixels."""

from __future__ import annotations

from torch import Tensor

from rb_smooth.evaluation.checks.verdicts import CheckContext, CheckOutcome

_CHANCE = 0.05
"""How likely so many right answers may be by guessing."""

_MIN_POINTS = 10
"""Points below which nothing is said of guessing."""

_SURE, _FAR = 1e-3, 0.2
"""How unlikely it must be by chance, and by how much more of the points, that normalised images do better than raw."""


def check_normalisation(context: CheckContext) -> CheckOutcome:
    """Whether the model takes pixels in [0, 1] as they are: eps is a radius among these.

    One that wants its images standardised, in [-1, 1] or in [0, 255] would do far better on such images.
    """
    raw = context.is_correct(context.x)
    for name, x in _normalise(context.x).items():
        other = context.is_correct(x)
        gained, lost = int((other & ~raw).sum()), int((raw & ~other).sum())
        if gained - lost >= _FAR * len(raw) and _binomial_tail(gained, gained + lost, 0.5) < _SURE:
            return "refused", (
                f"of raw pixels {_fraction(raw)} are classified rightly, of {name} {_fraction(other)}: the "
                "normalisation "
                "stands outside; put it inside, as models.Normalized does"
            )
    return "passed", f"on raw pixels {_fraction(raw)} of the points are right, and normalising them first gains nothing"


def check_accuracy(context: CheckContext) -> CheckOutcome:
    """Whether clean accuracy is above that of guessing, by a one-sided binomial test."""
    right = context.is_correct(context.x)
    if len(right) < _MIN_POINTS:
        return "skipped", f"{len(right)} points say too little; {_MIN_POINTS} would do"
    found = f"{int(right.sum())} of {len(right)} points are classified rightly, among {context.classes} classes"
    likely = _binomial_tail(int(right.sum()), len(right), 1 / context.classes)
    return ("passed", found) if likely < _CHANCE else ("unreliable", f"{found}: guessing does as well")


def _normalise(x: Tensor) -> dict[str, Tensor]:
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True, unbiased=False).clamp_min(1e-3)
    return {"standardised ones": (x - mean) / std, "ones in [-1, 1]": 2 * x - 1, "ones in [0, 255]": 255 * x}


def _binomial_tail(successes: int, trials: int, probability: float) -> float:
    """How likely at least as many successes are."""
    from scipy.stats import binomtest

    return float(binomtest(successes, trials, probability, "greater").pvalue)


def _fraction(flags: Tensor) -> str:
    return f"{float(flags.double().mean()):.0%}"
