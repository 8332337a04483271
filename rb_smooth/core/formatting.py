"""Numbers as text: fractions of 255, percentages, counts, durations."""

from __future__ import annotations

_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


def number_text(value: float) -> str:
    """`8/255` for 0.03137254901960784, else Python's shortest form: both read back as the same float."""
    k = round(value * 255)
    return f"{k}/255" if value == k / 255 and len(repr(value)) > 8 else repr(value)


def eps_text(eps: float) -> str:
    """`8/255`, or `0.5`: eps as RobustBench's curated JSON writes it."""
    return number_text(eps)


def percent(share: float | None, digits: int = 2) -> str:
    """`52.10` for a share of 0.521; empty for None."""
    return "" if share is None else f"{100 * share:.{digits}f}"


def percentage_points(difference: float | None, digits: int = 2) -> str:
    """`+1.20` for a difference of 0.012 between two shares; empty for None."""
    return "" if difference is None else f"{100 * difference:+.{digits}f}"


def percent_with_std(mean: float, std: float | None, digits: int = 2) -> str:
    """`52.10 ± 0.31` for a mean share and its standard deviation; the mean alone if `std` is None."""
    return percent(mean, digits) if std is None else f"{percent(mean, digits)} ± {percent(std, digits)}"


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `40 epochs`: a number and its noun, which takes an s in the plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """`5.4 h`, `12 min`, `84 ms`: the largest unit that fits at least once, with two significant digits or all."""
    unit, length = next((unit for unit in _UNITS if seconds >= unit[1]), _UNITS[-1])
    value = max(seconds, 0.0) / length
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "ms" else f"{value:.0f} {unit}"
