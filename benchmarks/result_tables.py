"""Results as tables: figures with their spread, paired tests, and detectable differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, median, stdev
from typing import Any

from rb_smooth.config.method_names import adds_one_part
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.core.statistics import apply_holm, holm_correction, paired_t_test
from rb_smooth.evaluation.score import attack_title, selection_title
from rb_smooth.training.sweep.comparison import SIGNIFICANT

MAIN = ("at", "at+ensgd", "at+awp", "at+awp+ensgd")
"""The four methods of Kanai et al."""

CLAIMED_ON = (*MAIN, *(f"{method}+wa" for method in MAIN))
"""All methods in the claims."""

_CLAIMED = (("at+ensgd", "at"), ("at+awp", "at"), ("at+awp+ensgd", "at+awp"))
CLAIMS = (*_CLAIMED, *((f"{method}+wa", f"{minus}+wa") for method, minus in _CLAIMED))
"""(method, minus): the improvements that the papers claim; chosen before any measurement and tested as one family."""

FIGURES = {"clean": "clean", "pgd20": "PGD-20", "last_pgd20": "last PGD-20", "autoattack": "AutoAttack"}
POWER = 0.8


def group_lines(group: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Figures, claims and other single parts of runs under one attack on the same points."""
    yield from figure_lines(group, runs)
    yield from claim_lines(group)
    others = [each for pair, each in _tests_by_pair(group).items() if pair not in CLAIMS and adds_one_part(*pair)]
    yield from difference_lines(others, group["protocol"], "effect of one more part")


def claim_lines(group: dict[str, Any]) -> Iterator[str]:
    tested = _tests_by_pair(group)
    claimed = [tested[pair] for pair in CLAIMS if pair in tested]
    yield from difference_lines(claimed, group["protocol"], "the papers' claims")


def _tests_by_pair(group: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(method, minus) -> its test."""
    return {(each["method"], each["minus"]): each for each in group["differences"] if each["p"] is not None}


def restrict_to(group: dict[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """The group with these methods only, in this order."""
    rows = [row for method in methods for row in group["methods"] if row["method"] == method]
    differences = [each for each in group["differences"] if {each["method"], each["minus"]} <= set(methods)]
    return {**group, "methods": rows, "differences": differences}


def figure_lines(group: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """runs: for the seconds of training, as the median over seeds, since the machine also did other work."""
    protocol = group["protocol"]
    headings = {**FIGURES, "autoattack": attack_title(protocol)}
    several = any(len(row["seeds"]) > 1 for row in group["methods"])
    spread = "mean ± standard deviation over n seeds" if several else "with the 95 % interval over other test points"
    yield (
        f"{protocol['norm']} eps {eps_text(protocol['eps'])}, {protocol['n']} test points, best epoch by "
        f"{selection_title(protocol)}; %, {spread}; seconds of training of the median run:"
    )
    yield ""
    yield from table_head("method", "n", *headings.values(), "best − last", "seconds")
    for row in group["methods"]:
        figures = [figure(key, row, protocol["n"]) for key in FIGURES]
        seconds = median(run["training"]["seconds"] for run in runs if run["method"] == row["method"])
        gap = with_spread(signed(row["gap"]["mean"]), row["gap"]["std"])
        yield table_line(f"`{row['title']}`", str(len(row["seeds"])), *figures, gap, f"{seconds:.0f}")
    yield ""


def difference_lines(differences: Sequence[dict[str, Any]], protocol: dict[str, Any], what: str) -> Iterator[str]:
    """Paired t-tests of AutoAttack accuracy over common seeds; nothing if there are none."""
    if not differences:
        return
    corrected = holm_correction([each["p"] for each in differences])
    yield (
        f"{attack_title(protocol)} accuracy, {what}. Paired t-tests over equal seeds; p is corrected for this table "
        f"(Holm). {significant_of(corrected).capitalize()}. Intervals are over training seeds, for this test set. "
        f"Detectable: smallest difference found with {100 * POWER:.0f} % power at this spread over seeds:"
    )
    yield ""
    yield from table_head("difference", "n", "points", "95 % interval", "p (Holm)", "detectable")
    for each, p in zip(differences, corrected, strict=True):
        interval = f"{signed(each['low'])} to {signed(each['high'])}"
        title, n = f"`{each['method']}` − `{each['minus']}`", len(each["seeds"])
        yield table_line(title, str(n), signed(each["mean"]), interval, f"{p:.2g}", f"{100 * detectable(each):.1f}")
    yield ""


def significant_of(corrected: Sequence[float]) -> str:
    """`1 of 6 differences is significant at 5 %`, from p values with Holm's correction."""
    found = sum(p < SIGNIFICANT for p in corrected)
    return f"{found or 'none'} of {len(corrected)} differences {'is' if found == 1 else 'are'} significant at 5 %"


def detectable(difference: dict[str, Any], power: float = POWER) -> float:
    """The true difference that a two-sided paired t-test at 5 % finds with probability `power`, at the standard
    deviation behind the 95 % interval of `difference`.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    n = len(difference["seeds"])
    largest = 3 * t.ppf(1 - SIGNIFICANT / 2, n - 1)
    return float(brentq(lambda effect: _power(effect, n) - power, 0, largest)) * _deviation(difference) / n**0.5


def seeds_needed(difference: dict[str, Any], power: float = POWER, at_most: int = 1000) -> int | None:
    """The number of seeds with which the same test finds the mean of `difference` with probability `power`, at that
    standard deviation; None if it is more than `at_most`.
    """
    effect = abs(difference["mean"]) / max(_deviation(difference), 1e-12)
    return next((n for n in range(2, at_most + 1) if _power(effect * n**0.5, n) >= power), None)


def _deviation(difference: dict[str, Any]) -> float:
    """The standard deviation over seeds behind the 95 % interval of `difference`."""
    from scipy.stats import t

    n = len(difference["seeds"])
    half: float = (difference["high"] - difference["low"]) / 2
    return half / float(t.ppf(1 - SIGNIFICANT / 2, n - 1)) * n**0.5


def _power(effect: float, n: int) -> float:
    """Power at a true difference of `effect` standard errors; the chance of a significant result with the wrong sign is
    neglected.
    """
    from scipy.stats import nct, t

    return float(nct.sf(t.ppf(1 - SIGNIFICANT / 2, n - 1), n - 1, effect))


def figure(key: str, row: dict[str, Any], n: int) -> str:
    """Percent: mean ± standard deviation; for one seed Wilson's 95 % interval."""
    mean, std = percent(row[key]["mean"]), row[key]["std"]
    if std is not None:
        return with_spread(mean, std)
    from rb_smooth.core.statistics import wilson_interval

    low, high = map(percent, wilson_interval(round(row[key]["mean"] * n), n))
    return f"{mean} ({low} to {high})"


def with_spread(mean: str, std: float | None) -> str:
    """std: in [0, 1]; None for one seed."""
    return mean if std is None else f"{mean} ± {percent(std)}"


def tuning_table(record: dict[str, Any]) -> Iterator[str]:
    """Percent, mean ± standard deviation over n seeds; each row's difference from the first, paired by seed, and the
    detectable difference.
    """
    first, *others = record["rows"]
    differences = apply_holm([paired_t_test(_of(row, "best"), _of(first, "best")) for row in others])
    compared = ("best, minus the first row", "95 % interval", "p (Holm)", "detectable")
    yield from table_head("method", "n", "best epoch", "last epoch", *compared)
    for row, difference in zip(record["rows"], [None, *differences], strict=True):
        cells = [row["title"], str(len(row["by_seed"])), *(_mean_text(_of(row, key)) for key in ("best", "last"))]
        yield table_line(*cells, *_difference_text(difference))


def _of(row: dict[str, Any], key: str) -> dict[int, float]:
    return {int(seed): found[key] for seed, found in row["by_seed"].items()}


def _mean_text(by_seed: dict[int, float]) -> str:
    values = list(by_seed.values())
    return with_spread(percent(fmean(values)), stdev(values) if len(values) > 1 else None)


def _difference_text(difference: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if difference is None:
        return "", "", "", ""
    mean = signed(difference["mean"])
    if difference["p"] is None:
        return mean, "", "", ""
    interval = f"{signed(difference['low'])} to {signed(difference['high'])}"
    return mean, interval, f"{difference['p_holm']:.2g}", f"{100 * detectable(difference):.1f}"


def table_head(*headings: str) -> Iterator[str]:
    yield table_line(*headings)
    yield f"|{'---|' * len(headings)}"


def table_line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def signed(share: float) -> str:
    """Percentage points, with U+2212 as minus; zero is +0.00."""
    return f"{round(100 * share, 2) + 0.0:+.2f}".replace("-", "−")
