"""Tables and sentences of smoothness measurements, with intervals over seeds. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.analysis.smoothness.records import (
    Record,
    attack_displacement,
    common_radii,
    group_by_method,
    lipschitz,
    pair_by_seed,
)
from rb_smooth.core.statistics import Estimate, geometric_ratio, mean_interval

TRAINING_LOSS = {"standard": "standard", "at-l2": "L2", "at": "Linf"}
"""Training loss of the methods that differ only in their adversary."""


def report_lines(records: Sequence[Record]) -> Iterator[str | Table]:
    """Yield the printed report of `records`."""
    yield "Lipschitz constants of the gradient: ‖g(w1) − g(w2)‖ / ‖w1 − w2‖, attacks recomputed at both points."
    yield gradient_table(records)
    yield "Curvature of the loss at attacks computed at w and fixed; sharpness with attacks recomputed."
    yield curvature_table(records)
    yield from comparison_sentences(records)
    yield "± is half a 95 % interval over seeds (Student's t)."


def gradient_table(records: Sequence[Record]) -> Table:
    """Lipschitz constants of the gradient; one row per method and loss."""
    radii = common_radii(records)
    middle = radii[len(radii) // 2]
    columns: dict[str, Callable[[Record], float]] = {"loss": lambda r: r["found"]["loss"]}
    for radius in radii:
        columns[f"random\n{radius:.2g}"] = partial(lipschitz, direction="random", radius=radius)
    columns[f"descent\n{middle:.2g}"] = lambda r: lipschitz(r, "descent", middle)
    columns[f"relative\n{middle:.2g}"] = lambda r: lipschitz(r, "random", middle, relative=True)
    columns[f"moved\n{middle:.2g}"] = lambda r: attack_displacement(r, "random", middle)
    return _table(records, columns)


def curvature_table(records: Sequence[Record]) -> Table:
    """Hessian at fixed attacks, sharpness, and share of attacks on the boundary; one row per method and loss."""
    columns: dict[str, Callable[[Record], float | None]] = {
        "‖w‖": lambda r: r["found"]["weights"],
        "‖g‖": lambda r: r["found"]["gradient"],
        "top\neigenvalue": lambda r: r["found"]["top_eigenvalue"]["value"],
        "\ntrace": lambda r: r["found"]["trace"]["value"],
        "sharpness\nEq. (73)": lambda r: r["found"]["sharpness"]["measured"],
        "\nEq. (74)": lambda r: r["found"]["sharpness"]["estimate"],
        "\nslope": lambda r: r["found"]["sharpness"]["first_order"],
        "at the\nboundary": lambda r: r["found"]["boundary"] and r["found"]["boundary"]["images"],
    }
    return _table(records, columns)


def comparison_sentences(records: Sequence[Record]) -> Iterator[str]:
    """Ratios of relative Lipschitz constants of two losses, where `records` has both.

    Linf over L2 on the same networks; at, at-l2 and standard each under its own training loss; at+… over at under Linf.
    """
    groups = group_by_method(records)
    for method in dict.fromkeys(method for method, _ in groups):
        balls = {ball: members for (owner, ball), members in groups.items() if owner == method}
        for upper, lower in product(balls, balls):
            if upper.startswith("Linf") and lower.startswith("L2"):
                yield from _ratio_sentence(f"{method}, {upper} over {lower}", balls[upper], balls[lower])
    for one, other in (("at", "at-l2"), ("at-l2", "standard"), ("at", "standard")):
        what = f"{one} over {other}, each under its own loss"
        yield from _ratio_sentence(what, _under_training_loss(records, one), _under_training_loss(records, other))
    for (method, ball), members in groups.items():
        if method.startswith("at+") and ball.startswith("Linf"):
            yield from _ratio_sentence(f"{method} over at, {ball}", members, groups.get(("at", ball), []))


def _under_training_loss(records: Sequence[Record], method: str) -> list[Record]:
    """Records of a method's best weights under its training loss."""
    return [r for r in records if (r["method"], r["which"], r["under"]) == (method, "best", TRAINING_LOSS[method])]


def format_estimate(estimate: Estimate, digits: int = 3) -> str:
    """`1.23 (1.1 to 1.36)`; for one seed only the mean."""
    mean = f"{estimate.mean:.{digits}g}"
    return mean if estimate.low is None else f"{mean} ({estimate.low:.{digits}g} to {estimate.high:.{digits}g})"


def _ratio_sentence(what: str, upper: Sequence[Record], lower: Sequence[Record]) -> Iterator[str]:
    """One sentence: the ratio of relative Lipschitz constants at every radius, and its significance."""
    pairs = pair_by_seed(upper, lower)
    if not pairs:
        return
    parts = []
    for radius in common_radii([record for pair in pairs for record in pair]):
        above, below = (
            [lipschitz(r, "random", radius, relative=True) for r in side] for side in zip(*pairs, strict=True)
        )
        ratio = geometric_ratio(above, below)
        parts.append(f"{format_estimate(ratio)} at {radius:g}{_conclusion(ratio)}")
    clean = max(abs(one["found"]["clean"] - other["found"]["clean"]) for one, other in pairs)
    seeds = f"{len(pairs)} seeds" if len(pairs) > 1 else "one seed, no interval"
    apart = f"; clean accuracies at most {100 * clean:.1f} points apart" if clean else ""
    yield f"{what}: relative Lipschitz constant times {', '.join(parts)} ({seeds}{apart})"


def _conclusion(interval: Estimate) -> str:
    """`less smooth` or `smoother` if the interval of a ratio excludes 1."""
    if interval.low is None or interval.high is None:
        return ""
    return " (less smooth)" if interval.low > 1 else " (smoother)" if interval.high < 1 else " (undecided)"


def _table(records: Sequence[Record], columns: Mapping[str, Callable[[Record], float | None]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("\nmethod", "n", "clean", "under", *columns):
        table.add_column(heading, justify="left" if heading in ("\nmethod", "under") else "right")
    above = None
    for (method, ball), members in group_by_method(records).items():
        clean = mean_interval([record["found"]["clean"] for record in members]).mean
        first = (method, str(len(members)), f"{clean:.1%}") if method != above else ("", "", "")
        cells = [_two_line_cell([value(record) for record in members]) for value in columns.values()]
        table.add_row(*first, ball, *cells)
        above = method
    return table


def _two_line_cell(values: Sequence[float | None]) -> str:
    """The mean, and below it half the width of its interval; empty without values."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    estimate = mean_interval(known)
    half = "" if estimate.high is None else f"\n±{estimate.high - estimate.mean:.2g}"
    return f"{estimate.mean:.3g}{half}"
