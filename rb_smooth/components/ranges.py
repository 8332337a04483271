"""Range checks of options, and the message for one that is not keyword-only; both name the option."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isclass
from typing import Any


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


def at_most(bound: float, **settings: float) -> None:
    """Raises ValueError unless each setting is <= `bound`."""
    for name, value in settings.items():
        if not value <= bound:
            raise ValueError(f"expected {name} <= {bound}, got {value}")


def below_one(**settings: float) -> None:
    """Raises ValueError unless each setting is in [0, 1)."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise ValueError(f"expected 0 <= {name} < 1, got {value}")


def keyword_only_message(component: Callable[..., Any], option: str) -> str:
    """`'rho' must be keyword-only: put `*` before it in SAM.__init__`, for an option that can be given by position."""
    function = getattr(component, "func", component)
    where = f"{function.__name__}.__init__" if isclass(function) else function.__name__
    return f"{option!r} must be keyword-only: put `*` before it in {where}"
