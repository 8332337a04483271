"""Methods compared as papers do, by mean ± standard deviation over seeds, and by tests paired over common seeds.

Runs of one seed are a pair: they start, shuffle and attack from the same streams of random numbers. What such a test
speaks of is another seed, on the same test points. Runs on other points or under another attack stand in another group.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rb_smooth.core.statistics import apply_holm, paired_t_test
from rb_smooth.evaluation.score import protocol_of

METRICS = ("clean", "pgd20", "autoattack", "last_pgd20", "gap")
"""Shares in [0, 1] of one run: of the best epoch, PGD-20 of the last one, and the robust overfitting gap, which is
PGD-20 of the best epoch minus that of the last."""

SIGNIFICANT = 0.05
"""What Holm's p must stay below for a difference to count."""


class RunResult(NamedTuple):
    """One evaluated run. score: what its score.json says."""

    method: str
    seed: int
    score: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Each of METRICS: accuracies in [0, 1], and the difference of best and last epoch under PGD-20."""
        clean, pgd20, autoattack = (self.score[key] for key in ("clean", "pgd20", "autoattack"))
        last = self.score["last"]["pgd20"]
        return dict(zip(METRICS, (clean, pgd20, autoattack, last, pgd20 - last), strict=True))


def compare_methods(results: Iterable[RunResult]) -> list[dict[str, Any]]:
    """The results, compared: one group for each protocol, as plain values for JSON, methods in the order given.

    Each holds `protocol`; `methods`, with `mean` and `std` (of a sample; None for one seed) of every figure, and its
    value for every seed; and `differences`, the paired tests of AutoAttack accuracy between all pairs of methods.
    """
    by_protocol: dict[tuple[Any, ...], list[RunResult]] = {}
    for result in results:
        key = (*protocol_of(result.score), result.score["selected_on"])
        by_protocol.setdefault(key, []).append(result)
    return [_group(members) for members in by_protocol.values()]


def best_method(group: dict[str, Any]) -> str | None:
    """The method of the highest mean AutoAttack accuracy, if the test against the second says that it is the best."""
    ranked = sorted(group["methods"], key=lambda method: -method["autoattack"]["mean"])
    if len(ranked) < 2:
        return None
    pair = {method["method"] for method in ranked[:2]}
    test = next(each for each in group["differences"] if {each["method"], each["minus"]} == pair)
    return ranked[0]["method"] if test["p_holm"] is not None and test["p_holm"] < SIGNIFICANT else None


def _group(results: list[RunResult]) -> dict[str, Any]:
    score = results[0].score
    methods = {result.method: [each for each in results if each.method == result.method] for result in results}
    return {
        "protocol": {
            **score["threat"],
            "n": score["n"],
            **{key: score[key] for key in ("version", "fingerprint", "selected_on")},
        },
        "methods": [_row(members) for members in methods.values()],
        "differences": apply_holm([_difference(*pair) for pair in combinations(methods.values(), 2)]),
    }


def _row(results: list[RunResult]) -> dict[str, Any]:
    """One method over its seeds."""
    row: dict[str, Any] = {
        "method": results[0].method,
        "title": results[0].score["title"],
        "seeds": [each.seed for each in results],
    }
    for figure in METRICS:
        values = [each.metrics[figure] for each in results]
        row[figure] = {
            "mean": fmean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "by_seed": {str(each.seed): each.metrics[figure] for each in results},
        }
    return row


def _difference(one: list[RunResult], other: list[RunResult]) -> dict[str, Any]:
    """The later method minus the earlier, of which it is mostly an extension, over their common seeds."""
    there, here = ({each.seed: each.metrics["autoattack"] for each in results} for results in (one, other))
    return {"method": other[0].method, "minus": one[0].method, **paired_t_test(here, there)}
