"""95 % confidence intervals and two-sided tests: for shares of test points, and for methods over seeds.

For shares of points the uncertainty is over test points, with the models fixed. For means over seeds it is over
training seeds, with the test set fixed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


class PairedCounts(NamedTuple):
    """Contingency table of two models on the same points: number of points that each classifies correctly."""

    both: int
    only_one: int
    only_other: int
    neither: int

    @property
    def n(self) -> int:
        return sum(self)


def wilson_interval(right: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of the share `right` / `n`. `right` need not be whole: published shares are rounded.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    p = right / n
    middle, half = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    low, high = (middle - half) / scale, (middle + half) / scale
    return (low if right > 0 else 0.0), (high if right < n else 1.0)  # exact there, whatever the rounding


def clopper_pearson_upper(right: int, n: int, error: float) -> float:
    """Upper bound of a share of which `right` of `n` are seen; it is below the true share with probability <= `error`.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
    """
    from scipy.stats import beta

    return 1.0 if right == n else float(beta.ppf(1 - error, right + 1, n - right))


def mcnemar_test(pairs: PairedCounts) -> float:
    """p-value of McNemar's exact test of equal accuracy on the same points; 1 if no point differs.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947; the
    exact form is the sign test on the points that one model only classifies correctly. It is conservative if they are
    few.
    """
    from scipy.stats import binomtest

    decided = pairs.only_one + pairs.only_other
    return float(binomtest(pairs.only_one, decided).pvalue) if decided else 1.0


def tango_interval(pairs: PairedCounts) -> tuple[float, float]:
    """Tango's score interval of the difference of two shares of the same points.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17, 1998: all differences D that a score test does not reject. Of n points only the first
    model has b right and only the second c; q is the likeliest share of the latter if D is true:

        | b - c - n D |  <=  z sqrt(n (2 q + D (1 - D)))
        q = (sqrt(B^2 - 8 n C) - B) / (4 n),    B = -b - c + (2 n - b + c) D,    C = -c D (1 - D)

    It keeps its coverage for few points and few differences, where Wald's is too narrow and has zero width for
    b = c = 0, and stays within [-1, 1] (Fagerland, Lydersen and Laake, "Recommended tests and confidence
    intervals for paired binomial proportions", 2014, recommend it). It can exclude 0 where the exact test, which is
    more conservative, gives p just above 0.05.
    """
    b, c, n = pairs.only_one, pairs.only_other, pairs.n

    def score(difference: float) -> float:
        """Score statistic; standard normal if `difference` is the true one, decreasing in it."""
        off = b - c - n * difference
        linear, constant = -b - c + (2 * n - b + c) * difference, -c * difference * (1 - difference)
        share = (math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return off / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, off) if off else 0.0

    found = (b - c) / n
    return _bisect(score, Z, -1.0, found), _bisect(score, -Z, found, 1.0)


def _bisect(score: Callable[[float], float], level: float, low: float, high: float) -> float:
    """The root of `score` = `level` in [`low`, `high`] for a decreasing `score`, by bisection to 1e-12."""
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > level else (low, middle)
    return (low + high) / 2


def newcombe_interval(first: float, n_first: int, second: float, n_second: int) -> tuple[float, float]:
    """Newcombe's hybrid score interval of the difference of two shares of independent samples.

    Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998,
    method 10: the two Wilson intervals combined in quadrature. first, second: shares in [0, 1].
    """
    (low, high), (low_second, high_second) = (
        wilson_interval(first * n_first, n_first),
        wilson_interval(second * n_second, n_second),
    )
    difference = first - second
    below = math.hypot(first - low, high_second - second)
    above = math.hypot(high - first, second - low_second)
    return max(-1.0, difference - below), min(1.0, difference + above)


def two_proportion_test(first: float, n_first: int, second: float, n_second: int) -> float:
    """p-value of Pearson's test, with the pooled share, that two independent samples have equal shares."""
    pooled = (first * n_first + second * n_second) / (n_first + n_second)
    variance = pooled * (1 - pooled) * (1 / n_first + 1 / n_second)
    return math.erfc(abs(first - second) / math.sqrt(2 * variance)) if variance > 0 else 1.0


def paired_t_test(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, Any]:
    """`first` minus `second`, both by seed, over their common seeds: a two-sided paired t-test.

    Returns `seeds`, `mean`, Student's 95 % interval `low` to `high`, `p`, and `p_holm`, which `apply_holm` sets. If no
    test is possible, these are None and `untested` gives the reason.
    """
    seeds = sorted(second.keys() & first.keys())
    differences = [first[seed] - second[seed] for seed in seeds]
    found: dict[str, Any] = {
        "seeds": seeds,
        "mean": fmean(differences) if seeds else None,
        **dict.fromkeys(("low", "high", "p", "p_holm", "untested")),
    }
    if len(seeds) < 2:
        return found | {"untested": "fewer than 2 seeds in common"}
    if stdev(differences) < 1e-9:  # no more than rounding
        return found | {"untested": "the same difference for every seed"}
    from scipy.stats import ttest_rel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of nearly equal values, handled above
        test = ttest_rel([first[seed] for seed in seeds], [second[seed] for seed in seeds])
        low, high = test.confidence_interval(0.95)
    return found | {"low": float(low), "high": float(high), "p": float(test.pvalue)}


def holm_correction(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p-values, in the order of `p`."""
    adjusted, highest = [0.0] * len(p), 0.0
    for tested, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - tested) * p[index]))
        adjusted[index] = highest
    return adjusted


def apply_holm(differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set `p_holm` in results of `paired_t_test`, over those with a p-value."""
    tested = [each for each in differences if each["p"] is not None]
    for each, p in zip(tested, holm_correction([each["p"] for each in tested]), strict=True):
        each["p_holm"] = p
    return differences


class Estimate(NamedTuple):
    """A mean and its 95 % interval by Student's t over n seeds; low and high are None for one seed."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean and interval of values, one per seed."""
    from scipy.stats import t

    n, mean = len(values), fmean(values)
    if n < 2:
        return Estimate(mean, None, None, n)
    half = float(t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def geometric_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Geometric mean of ratios paired by seed, with the interval of the mean logarithm."""
    logs = mean_interval([math.log(one / other) for one, other in zip(numerators, denominators, strict=True)])
    if logs.low is None or logs.high is None:
        return Estimate(math.exp(logs.mean), None, None, logs.n)
    return Estimate(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.n)
