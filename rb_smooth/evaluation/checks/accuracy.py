"""Trust checks of clean accuracy: that it is more than guessing, and that it is reached on raw pixels."""

from __future__ import annotations

from torch import Tensor

from rb_smooth.evaluation.checks.verdicts import Answer, Subject

_CHANCE = 0.05
"""How likely so many right answers may be by guessing."""

_FEWEST = 10
"""Points below which nothing is said of guessing."""

_SURE, _FAR = 1e-3, 0.2
"""How unlikely it must be by chance, and by how much more of the points, that normalised images do better than raw."""


def judge_normalisation(subject: Subject) -> Answer:
    """Whether the model takes pixels in [0, 1] as they are: eps is a radius among these.

    One that wants its images standardised, in [-1, 1] or in [0, 255] would do far better on such images.
    """
    raw = subject.right(subject.x)
    for name, x in _normalised(subject.x).items():
        other = subject.right(x)
        gained, lost = int((other & ~raw).sum()), int((raw & ~other).sum())
        if gained - lost >= _FAR * len(raw) and _by_chance(gained, gained + lost, 0.5) < _SURE:
            return "refused", (
                f"of raw pixels {_share(raw)} are classified rightly, of {name} {_share(other)}: the normalisation "
                "stands outside; put it inside, as models.Normalized does"
            )
    return "passed", f"on raw pixels {_share(raw)} of the points are right, and normalising them first gains nothing"


def judge_accuracy(subject: Subject) -> Answer:
    """Whether clean accuracy is above that of guessing, by a one-sided binomial test."""
    right = subject.right(subject.x)
    if len(right) < _FEWEST:
        return "skipped", f"{len(right)} points say too little; {_FEWEST} would do"
    found = f"{int(right.sum())} of {len(right)} points are classified rightly, among {subject.classes} classes"
    likely = _by_chance(int(right.sum()), len(right), 1 / subject.classes)
    return ("passed", found) if likely < _CHANCE else ("unreliable", f"{found}: guessing does as well")


def _normalised(x: Tensor) -> dict[str, Tensor]:
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True, unbiased=False).clamp_min(1e-3)
    return {"standardised ones": (x - mean) / std, "ones in [-1, 1]": 2 * x - 1, "ones in [0, 255]": 255 * x}


def _by_chance(successes: int, trials: int, probability: float) -> float:
    """How likely at least as many successes are."""
    from scipy.stats import binomtest

    return float(binomtest(successes, trials, probability, "greater").pvalue)


def _share(flags: Tensor) -> str:
    return f"{float(flags.double().mean()):.0%}"
