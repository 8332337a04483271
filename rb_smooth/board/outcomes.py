"""What became of every test point of an entry: its points.csv, read back and held against the entry. Costs no torch."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from rb_smooth.entries import Entry
from rb_smooth.refusal import Refused

HEADER = ["index", "label", "clean_prediction", "broken_by", "margin"]
CLEAN, PGD = "clean", "pgd-20"
"""What `broken_by` says beside AutoAttack's own names: misclassified unattacked, broken by the PGD of the selection."""

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")


class Outcomes(NamedTuple):
    """One item for each point, in the order of the file. broken_by: "" where the point stood."""

    label: list[int]
    clean_prediction: list[int]
    broken_by: list[str]

    @property
    def right(self) -> list[bool]:
        """Who is classified rightly unattacked."""
        return [label == given for label, given in zip(self.label, self.clean_prediction, strict=True)]

    @property
    def stood(self) -> list[bool]:
        """Who withstood everything."""
        return [not attack for attack in self.broken_by]


def read_outcomes(entry: Entry) -> Outcomes | None:
    """What the entry's points.csv says; None where it has none. Raises Refused as `parse_outcomes` does."""
    return parse_outcomes(entry.points, entry.own["score"]) if entry.points.exists() else None


def parse_outcomes(path: Path, score: dict[str, Any]) -> Outcomes:
    """What a points.csv says.

    Raises Refused, naming file and line, for a damaged file, and for one of another evaluation than the score's.
    """
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except (UnicodeDecodeError, IsADirectoryError, csv.Error) as error:
        raise _damaged(path, str(error)) from None
    if header != HEADER:
        raise _damaged(path, f"the header {','.join(header)!r}")
    parsed = [_row(path, number, cells) for number, cells in enumerate(rows, start=2)]
    found = Outcomes(*map(list, zip(*parsed, strict=True))) if parsed else Outcomes([], [], [])
    if len(parsed) != score["n"]:
        raise _damaged(path, f"{len(parsed)} points, of an entry of {score['n']}")
    if abs(sum(found.stood) - score["autoattack"] * score["n"]) > 0.5:
        raise _damaged(path, f"{sum(found.stood)} points that stood, of an entry with {score['autoattack']:.2%}")
    return found


def tally(found: Outcomes) -> dict[str, int]:
    """How many points each attack broke; `clean`: how many were misclassified before any. Those that occur."""
    counted = Counter(attack for attack in found.broken_by if attack)
    return {attack: counted[attack] for attack in (CLEAN, PGD, *ATTACKS) if attack in counted}


def _row(path: Path, number: int, cells: list[str]) -> tuple[int, int, str]:
    if len(cells) != len(HEADER):
        raise _damaged(path, f"{len(cells)} cells in line {number}")
    try:
        index, label, given = map(int, cells[:3])
        numbers = index >= 0 and label >= 0 and given >= 0 and (not cells[4] or not math.isnan(float(cells[4])))
    except ValueError:
        numbers = False
    if not numbers or cells[3] not in ("", CLEAN, PGD, *ATTACKS):
        raise _damaged(path, f"{','.join(cells)!r} in line {number}")
    return label, given, cells[3]


def _damaged(path: Path, found: str) -> Refused:
    return Refused(f"expected the entry's test points in {path}, got {found}; restore it, or evaluate the entry again")
