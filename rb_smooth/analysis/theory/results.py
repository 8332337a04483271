"""What is said of a statement: what it claims, its bound, what was measured, and where it breaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

_ROUNDING = 1e-9
"""What rounding may make of a difference, as a share of the bound."""


@dataclass(frozen=True)
class Counterexample:
    """A case just outside a statement's assumptions."""

    sentence: str
    """What is left out, and what was seen."""
    bound: float
    """What the statement would allow."""
    measured: tuple[float, ...]
    """Its left side, nearer and nearer to where it breaks."""

    @property
    def breaks(self) -> bool:
        """Whether the left side grows, beyond the bound."""
        return self.measured[-1] > self.bound and all(a < b for a, b in pairwise(self.measured))


@dataclass(frozen=True)
class BoundCheck:
    """One inequality, or one equality: then the bound is a tolerance and its largest error is measured."""

    part: str
    """Which part of a statement, in a word or two."""
    claim: str
    """One plain sentence."""
    formula: str
    bound: float
    """The right side, over what `measured` was divided by."""
    measured: float
    """The largest left side that was found."""
    constants: dict[str, float] = field(default_factory=dict)
    """Those of the bound, as computed for the problem."""
    falsifier: Counterexample | None = None

    @property
    def margin(self) -> float:
        """What is left between the two; 0 where that is no more than rounding."""
        difference = self.bound - self.measured
        return 0.0 if abs(difference) <= _ROUNDING * self.bound else difference

    @property
    def holds(self) -> bool:
        """False also where something is not a number."""
        return self.margin >= 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self) | {"margin": self.margin, "holds": self.holds}
        if self.falsifier is not None:
            found["falsifier"]["breaks"] = self.falsifier.breaks
        return found


def format_list(values: Iterable[float]) -> str:
    """`0.6, 60, 6e+03`, for a sentence."""
    return ", ".join(f"{value:.3g}" for value in values)
