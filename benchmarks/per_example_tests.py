"""Per-example tests of the papers' claims for methods with one seed, as `python -m rb_smooth.leaderboard compare` makes
them, and the detectable differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from result_tables import CLAIMS, POWER, signed, significant_of, table_head, table_line

from rb_smooth.core.statistics import PairedCounts, holm_correction, mcnemar_test
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, list_entries
from rb_smooth.leaderboard.reports.comparison import differences
from rb_smooth.leaderboard.reports.rows import own_row
from rb_smooth.training.sweep.comparison import SIGNIFICANT


def entries_of(record: dict[str, Any], leaderboard: Path) -> dict[str, Entry]:
    """method -> entry, for methods with one run in the record and an entry in the leaderboard."""
    by_run = {entry.own["run"]: entry for entry in list_entries(leaderboard)[0]}
    runs = [run for run in record["runs"] if run["identity"] in by_run]
    methods = [run["method"] for run in runs]
    return {run["method"]: by_run[run["identity"]] for run in runs if methods.count(run["method"]) == 1}


def point_lines(entries: dict[str, Entry]) -> Iterator[str]:
    """Paired tests on equal test points; nothing if no claim has both entries."""
    pairs = [pair for pair in CLAIMS if set(pair) <= entries.keys()]
    rows = {method: own_row(entry) for method, entry in entries.items()}
    found = [differences(rows[method], rows[minus])["figures"]["autoattack"] for method, minus in pairs]
    tested = [(pair, each) for pair, each in zip(pairs, found, strict=True) if each and each["pairs"]]
    if not tested:
        return
    corrected = holm_correction([each["p"] for _, each in tested])
    score = next(iter(entries.values())).own["score"]
    yield (
        f"{attack_title(score)} accuracy, the papers' claims, point by point. McNemar's exact test; p is corrected for "
        f"this table (Holm). {significant_of(corrected).capitalize()}. Tango's intervals, over test points, for these "
        f"weights. Detectable: smallest difference found with {100 * POWER:.0f} % power if the same share of points is "
        "right for only one of the two:"
    )
    yield ""
    yield from table_head(
        "difference",
        "right for the first only",
        "right for the second only",
        "points",
        "95 % interval",
        "p (Holm)",
        "detectable",
    )
    for ((method, minus), each), p in zip(tested, corrected, strict=True):
        counts = PairedCounts(**each["pairs"])
        least = detectable(counts.only_one + counts.only_other)
        yield table_line(
            f"`{method}` − `{minus}`",
            str(counts.only_one),
            str(counts.only_other),
            signed(each["difference"]),
            f"{signed(each['low'])} to {signed(each['high'])}",
            f"{p:.2g}",
            "none" if least is None else f"{100 * least / counts.n:.1f}",
        )
    yield ""


def detectable(decided: int, power: float = POWER) -> float | None:
    """The true difference in points that McNemar's exact test at 5 % finds with probability `power`, if `decided`
    points are right for one of the two models only; None if so few never give a significant result.
    """
    from scipy.optimize import brentq
    from scipy.stats import binom

    telling = [
        k
        for k in range(decided // 2 + 1, decided + 1)
        if mcnemar_test(PairedCounts(0, k, decided - k, 0)) < SIGNIFICANT
    ]
    if not telling:
        return None

    def missed(share: float) -> float:
        """Power minus the wanted one, if the better model is right at `share` of these points."""
        return float(binom.sf(telling[0] - 1, decided, share)) - power

    return decided * (2 * float(brentq(missed, 0.5, 1)) - 1)
