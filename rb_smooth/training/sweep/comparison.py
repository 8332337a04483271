"""Compare methods by mean and standard deviation over seeds, and by paired t-tests over common seeds.

Runs of one seed are paired: initialisation, shuffling and attacks use the same random streams. Uncertainty is over
training seeds; the test set is fixed. Runs with different test points or attacks are compared in separate groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rb_smooth.core.statistics import apply_holm, paired_t_test
from rb_smooth.evaluation.score import protocol_of, selection_title

METRICS = ("clean", "pgd20", "autoattack", "last_pgd20", "gap")
"""Accuracies of one run in [0, 1]: of the best epoch; PGD-20 of the last; and the robust overfitting gap, PGD-20 of
the best epoch minus that of the last."""

SIGNIFICANT = 0.05
"""Significance level of p values with Holm's correction."""

_MANY_METHODS = 50
"""Methods above which `all_pairs=False` tests only the best two: pairs grow with the square of the methods."""


class RunResult(NamedTuple):
    """One evaluated run. score: content of its score.json."""

    method: str
    seed: int
    score: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Each of METRICS: accuracies in [0, 1], and the difference of best and last epoch under PGD-20."""
        clean, pgd20, autoattack = (self.score[key] for key in ("clean", "pgd20", "autoattack"))
        last = self.score["last"]["pgd20"]
        return dict(zip(METRICS, (clean, pgd20, autoattack, last, pgd20 - last), strict=True))


def compare_methods(results: Iterable[RunResult], *, all_pairs: bool = True) -> list[dict[str, Any]]:
    """Compare results in one group per protocol, as values for JSON; methods keep their order.

    Each group holds `protocol`; `methods`, with sample `mean`, `std` (None for one seed) and `by_seed` of every metric;
    and `differences`, paired tests of AutoAttack accuracy between all pairs of methods. all_pairs: if False, of more
    than 50 methods only the two with the highest means are tested, for `best_method`; their `p_holm` is then
    Bonferroni's over all pairs, which is never smaller than Holm's.
    """
    by_protocol: dict[tuple[Any, ...], list[RunResult]] = {}
    for result in results:
        key = (*protocol_of(result.score), selection_title(result.score))
        by_protocol.setdefault(key, []).append(result)
    return [_group(members, all_pairs) for members in by_protocol.values()]


def best_method(group: dict[str, Any]) -> str | None:
    """The method of the highest mean AutoAttack accuracy, if it differs significantly from the second; else None."""
    ranked = _by_accuracy(group["methods"])
    if len(ranked) < 2:
        return None
    pair = {method["method"] for method in ranked[:2]}
    test = next(each for each in group["differences"] if {each["method"], each["minus"]} == pair)
    return ranked[0]["method"] if test["p_holm"] is not None and test["p_holm"] < SIGNIFICANT else None


def _by_accuracy(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Best first, by the mean under AutoAttack."""
    return sorted(rows, key=lambda row: -row["autoattack"]["mean"])


def _group(results: list[RunResult], all_pairs: bool) -> dict[str, Any]:
    score = results[0].score
    methods: dict[str, list[RunResult]] = {}
    for result in results:
        methods.setdefault(result.method, []).append(result)
    rows = [_row(members) for members in methods.values()]
    if all_pairs or len(rows) <= _MANY_METHODS:
        differences = apply_holm([_difference(*pair) for pair in combinations(methods.values(), 2)])
    else:
        best = {row["method"] for row in _by_accuracy(rows)[:2]}
        test = _difference(*(members for method, members in methods.items() if method in best))
        if test["p"] is not None:
            test["p_holm"] = min(1.0, math.comb(len(rows), 2) * test["p"])
        differences = [test]
    return {
        "protocol": {
            **score["threat"],
            "n": score["n"],
            **{key: score[key] for key in ("version", "fingerprint", "selected_on")},
            **{key: score[key] for key in ("select_rule",) if key in score},
        },
        "methods": rows,
        "differences": differences,
    }


def _row(results: list[RunResult]) -> dict[str, Any]:
    """Statistics of one method over its seeds."""
    row: dict[str, Any] = {
        "method": results[0].method,
        "title": results[0].score["title"],
        "seeds": [each.seed for each in results],
    }
    for metric in METRICS:
        values = [each.metrics[metric] for each in results]
        row[metric] = {
            "mean": fmean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "by_seed": dict(zip(map(str, row["seeds"]), values, strict=True)),
        }
    return row


def _difference(one: list[RunResult], other: list[RunResult]) -> dict[str, Any]:
    """Paired test of the later method minus the earlier, which it usually extends."""
    there, here = ({each.seed: each.metrics["autoattack"] for each in results} for results in (one, other))
    return {"method": other[0].method, "minus": one[0].method, **paired_t_test(here, there)}
