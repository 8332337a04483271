"""Numbers as text: eps as RobustBench writes it, and percentages."""

from __future__ import annotations


def eps_text(eps: float) -> str:
    """`8/255`, or `0.5`: eps as RobustBench's curated JSON writes it."""
    return number_text(eps)


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def number_text(value: float) -> str:
    """`8/255` for 0.03137254901960784, else Python's shortest form: both read back as the same float."""
    k = round(value * 255)
    return f"{k}/255" if value == k / 255 and len(repr(value)) > 8 else repr(value)
