"""The papers' tables, cell by cell: which recipe makes it, and how sure its hyperparameters are. Costs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rb_smooth.cookbook import datasets, roots
from rb_smooth.notation import parse
from rb_smooth.refusal import Refused, nearest


@dataclass(frozen=True)
class Cell:
    """recipe: "cifar10/at+awp"; settings: as behind --set; needs: a file of the user's, which FILE stands for.

    reported: shares in [0, 1] under `comparison.FIGURES`, and `by` whom; None where no source at hand tells them.
    """

    paper: str
    table: str
    row: str
    column: str
    recipe: str
    provenance: str
    settings: tuple[str, ...] = ()
    needs: str | None = None
    reported: Mapping[str, Any] | None = None


def read_cells(dataset: str) -> list[Cell]:
    """Those shipped of one data set, in the papers' order; none for digits."""
    if dataset not in datasets():
        raise Refused(f"expected a dataset with recipes, {nearest(dataset, datasets())}")
    return [cell for cell in shipped_cells() if cell.recipe.split("/")[0] == dataset]


@cache
def shipped_cells() -> list[Cell]:
    """All of them, in the papers' order."""
    path = next(path for root in roots(shipped_only=True) if (path := root / "cells.yaml").exists())
    listed = parse(path.read_text(encoding="utf-8"), str(path))
    return [Cell(**entry | {"settings": tuple(entry.get("settings", ()))}) for entry in listed]
