"""Which values of a test's parameter are tried by `make test`; all of them are by `make test-all`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from typing import Any

import pytest


def mark_slow_except(chosen: Collection[Any], values: Iterable[Any], *, parameters: int = 1) -> list[Any]:
    """`values`, of which all but the chosen are slow. parameters: how many of the test's a value is for."""
    every = list(values)
    assert all(value in every for value in chosen), f"expected some of {every}, got {chosen}"
    slow = pytest.mark.slow
    return [
        value if value in chosen else pytest.param(*(value if parameters > 1 else [value]), marks=slow)
        for value in every
    ]


def pairwise(product: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Some of a product in which any two values that meet in it meet, found greedily."""

    def pairs(each: tuple[Any, ...]) -> set[Any]:
        return set(combinations(enumerate(each), 2))

    missing, chosen = set().union(*map(pairs, product)), []
    while missing:
        best = max(product, key=lambda each: len(pairs(each) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen
