"""A measured figure and its goal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["×", "%", "s", "copies"]
_DIGITS = {"×": 3, "%": 2, "s": 2, "copies": 3}
"""copies: of the weights."""


@dataclass(frozen=True)
class Figure:
    """what: the row's name; median and quartiles of n values; at_most, at_least: the goal, if there is one."""

    what: str
    unit: Unit
    median: float
    quartiles: tuple[float, float]
    n: int
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the median reaches the goal; without a goal, always."""
        enough = self.at_least is None or self.median >= self.at_least
        return enough and (self.at_most is None or self.median <= self.at_most)

    @property
    def goal(self) -> str:
        """`≥ 2 s`, or nothing."""
        limits = (("≤", self.at_most), ("≥", self.at_least))
        return "".join(f"{sign} {value:g} {self.unit}" for sign, value in limits if value is not None)

    @property
    def cells(self) -> tuple[str, str]:
        """what, measured."""
        digits = _DIGITS[self.unit]
        measured = f"{self.median:.{digits}f} {self.unit}"
        if self.n > 1:
            low, high = self.quartiles
            measured += f" ({low:.{digits}f} to {high:.{digits}f}, n = {self.n})"
        return self.what, measured

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None} | {"reached": self.reached}


def figure(
    what: str, unit: Unit, values: Sequence[float], at_most: float | None = None, at_least: float | None = None
) -> Figure:
    """Median and quartiles of `values`, one per round; a single value is exact, or was measured once."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Figure(what, unit, statistics.median(values), (low, high), len(values), at_most, at_least)


def from_json(row: dict[str, Any]) -> Figure:
    low, high = row["quartiles"]
    return Figure(**{key: value for key, value in row.items() if key != "reached"} | {"quartiles": (low, high)})
