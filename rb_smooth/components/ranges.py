"""Range checks of options; the error names the option."""

from __future__ import annotations


def above(bound: float, **settings: float) -> None:
    """Raises ValueError unless each setting is > `bound`."""
    for name, value in settings.items():
        if not value > bound:
            raise ValueError(f"expected {name} > {bound}, got {value}")


def at_least(bound: float, **settings: float) -> None:
    """Raises ValueError unless each setting is >= `bound`."""
    for name, value in settings.items():
        if not value >= bound:
            raise ValueError(f"expected {name} >= {bound}, got {value}")


def below_one(**settings: float) -> None:
    """Raises ValueError unless each setting is in [0, 1)."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise ValueError(f"expected 0 <= {name} < 1, got {value}")
