"""A measured figure beside what it must reach, as a row of the table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["×", "%", "s", "copies"]
_DIGITS = {"×": 3, "%": 2, "s": 2, "copies": 3}


@dataclass(frozen=True)
class Figure:
    """what: as the table names it; median and quartiles of n values; at_most or at_least: the goal, if there is one."""

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
    def cells(self) -> tuple[str, str, str, str]:
        """what, measured, must reach, verdict."""
        digits = _DIGITS[self.unit]
        measured = f"{self.median:.{digits}f} {self.unit}"
        if self.n > 1:
            low, high = self.quartiles
            measured += f" ({low:.{digits}f} to {high:.{digits}f}, n = {self.n})"
        goals = [
            f"{sign} {value:g} {self.unit}" for sign, value in (("≤", self.at_most), ("≥", self.at_least)) if value
        ]
        return self.what, measured, "".join(goals), ("reached" if self.reached else "falls short") if goals else ""

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None} | {"reached": self.reached}


def figure(
    what: str, unit: Unit, values: Sequence[float], at_most: float | None = None, at_least: float | None = None
) -> Figure:
    """The median and quartiles of `values`, one for each round; a single value is exact, or cannot be repeated."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Figure(what, unit, statistics.median(values), (low, high), len(values), at_most, at_least)


def from_json(row: dict[str, Any]) -> Figure:
    low, high = row["quartiles"]
    return Figure(**{key: value for key, value in row.items() if key != "reached"} | {"quartiles": (low, high)})
