"""Results of checking a statement: bound, measured value, counterexample; and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from rb_smooth.analysis.theory.numeric import NEAR

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_ROUNDING = 1e-9
"""Relative rounding error allowed between bound and measured value."""

_CAPTION = (
    "Bound and measured are divided by ‖θ₁ − θ₂‖ where the formula has it; for an equality, measured is the largest "
    "error and bound the tolerance. In italics: a counterexample that violates an assumption."
)


@dataclass(frozen=True)
class Counterexample:
    """A case that violates one of a statement's assumptions."""

    sentence: str
    """The violated assumption and the measured values."""
    bound: float
    """The statement's bound."""
    measured: tuple[float, ...]
    """The left side of the statement, closer and closer to the point where it breaks."""

    @property
    def breaks(self) -> bool:
        """Whether the left side increases beyond the bound."""
        return self.measured[-1] > self.bound and all(a < b for a, b in pairwise(self.measured))


@dataclass(frozen=True)
class BoundCheck:
    """One inequality, or one equality: then `bound` is a tolerance and `measured` the largest error."""

    part: str
    """Part of the statement, in a word or two."""
    claim: str
    """The claim in one sentence."""
    formula: str
    bound: float
    """The right side, divided by whatever `measured` is divided by."""
    measured: float
    """The largest left side."""
    constants: dict[str, float] = field(default_factory=dict)
    """Constants of the bound, computed for the problem."""
    counterexample: Counterexample | None = None

    @property
    def margin(self) -> float:
        """bound - measured; 0 if the difference is rounding error."""
        difference = self.bound - self.measured
        return 0.0 if abs(difference) <= _ROUNDING * self.bound else difference

    @property
    def holds(self) -> bool:
        """Whether measured <= bound up to rounding; False for NaN."""
        return self.margin >= 0

    def broken_by(
        self, sentence: str, measured: ArrayLike, near: ArrayLike = NEAR, bound: float | None = None
    ) -> BoundCheck:
        """This check with a counterexample to `bound`, by default its own.

        sentence: with a {} for `measured`, and after it one for `near`, the points of measurement.
        """
        values, points = np.asarray(measured, float).tolist(), np.asarray(near, float).tolist()
        text = sentence.format(*(", ".join(f"{each:.3g}" for each in listed) for listed in (values, points)))
        bound = self.bound if bound is None else bound
        return replace(self, counterexample=Counterexample(text, bound, tuple(values)))

    def constants_text(self, digits: int) -> str:
        """`C_θ = 2.68, ‖θ‖ ≤ 1`; empty without constants."""
        return ", ".join(
            f"{key} {'' if key.endswith('≤') else '= '}{value:.{digits}g}" for key, value in self.constants.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON, with `margin` and `holds`; the counterexample is `falsifier`."""
        fields = asdict(self) | {"margin": self.margin, "holds": self.holds}
        case = fields.pop("counterexample")
        return fields | {"falsifier": case and case | {"breaks": self.counterexample.breaks}}  # type: ignore[union-attr]


def results_table(results: Sequence[tuple[str, BoundCheck]]) -> Table:
    """A table of (statement, check) pairs: formula, claim and constants, the numbers, and the counterexample."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, padding=(0, 1, 0, 0), pad_edge=False, caption=_CAPTION, caption_justify="left", caption_style=""
    )
    table.add_column("statement", ratio=1)
    for heading in ("bound", "measured", "margin"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for name, row in results:
        lines = [
            (f"{name}, {row.part}", "bold"),
            (row.claim, ""),
            (row.formula, ""),
            (row.constants_text(digits=4), "dim"),
        ]
        statement = Text("\n").join(Text(text, style) for text, style in lines if text)
        numbers = (f"{value:.3g}" for value in (row.bound, row.measured, row.margin))
        table.add_row(statement, *numbers, _verdict(row.holds, "yes", "NO"))
        if (case := row.counterexample) is not None:
            verdict = _verdict(case.breaks, "breaks", "NO BREAK")
            numbers = (f"{value:.3g}" for value in (case.bound, case.measured[-1]))
            table.add_row(Text(case.sentence, style="italic"), *numbers, "", verdict)
        table.add_row()
    return table


def _verdict(as_expected: bool, good: str, bad: str) -> Text:
    from rich.text import Text

    return Text(good) if as_expected else Text(bad, style="bold red")
