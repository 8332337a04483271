"""Ranges of methods' settings: the one that is out of range is named."""

from __future__ import annotations


def above(bound: float, **settings: float) -> None:
    """Raises ValueError unless each is greater than `bound`."""
    for name, value in settings.items():
        if not value > bound:
            raise ValueError(f"expected {name} > {bound}, got {value}")


def at_least(bound: float, **settings: float) -> None:
    """Raises ValueError unless each is `bound` or more."""
    for name, value in settings.items():
        if not value >= bound:
            raise ValueError(f"expected {name} >= {bound}, got {value}")


def below_one(**settings: float) -> None:
    """Raises ValueError unless each is in [0, 1): a weight of the past, or a share that leaves something."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise ValueError(f"expected 0 <= {name} < 1, got {value}")
