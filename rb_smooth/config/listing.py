"""What there is to train, as `recipe list` prints it: the papers' tables, cell by cell, and the parts of recipes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from typing import Any

from rich.table import Table

from rb_smooth.config import registry, resolver
from rb_smooth.config.resolver import datasets, roots
from rb_smooth.config.sections import summary
from rb_smooth.config.yaml import parse
from rb_smooth.core.console import console
from rb_smooth.core.errors import Refused, nearest


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


def print_recipes(datasets: list[str]) -> None:
    listed = [cell for dataset in datasets for cell in read_cells(dataset)]
    for (paper, row), group in groupby(listed, lambda cell: (cell.paper, cell.row)):
        console.print(_cells_table(f"{paper}: {row}", list(group)))
    for dataset in datasets:
        console.print(_parts_table(dataset))
    methods, complaints = registry.offered()
    if methods:
        console.print(_methods_table(methods))
    for complaint in [*complaints, *(line for dataset in datasets for line in resolver.passed_over(dataset))]:
        console.print(complaint)
    console.print(
        "A method is a base and any of the parts, as at+awp+wa. `recipe show DATASET METHOD` says what it means, "
        "`recipe keys` what each key does."
    )


def as_plain(datasets: list[str]) -> dict[str, Any]:
    """The same for programs."""
    recipes = {dataset: resolver.recipe_files(dataset) for dataset in datasets}
    return {
        "cells": [asdict(cell) for dataset in datasets for cell in read_cells(dataset)],
        "recipes": [
            {"dataset": dataset, "name": name, "what": summary(path), "from": list(packages)}
            for dataset, files in recipes.items()
            for name, (path, packages) in sorted(files.items())
        ],
        "methods": [dict(zip(("kind", "name", "from"), row, strict=True)) for row in registry.offered()[0]],
    }


def _cells_table(title: str, group: list[Cell]) -> Table:
    table = Table("column", "table", "recipe", "hyperparameters", title=title, title_justify="left", box=None)
    table.columns[2].no_wrap = True
    for cell in group:
        remarks = [f"--set {shlex.quote(setting)}" for setting in cell.settings] + [cell.provenance]
        remarks += [] if cell.needs is None else [f"needs {cell.needs}"]
        table.add_row(cell.column, cell.table, cell.recipe.replace("/", " "), "; ".join(remarks))
    return table


def _parts_table(dataset: str) -> Table:
    """Bases, then cells with values of their own, then parts; with whose they are, if another package's."""
    title = f"{dataset}: bases, cells of their own, parts"
    table = Table("name", "what it is", title=title, title_justify="left", box=None)
    files = resolver.recipe_files(dataset)
    for name in sorted(files, key=lambda name: (name[0] in "+-", "+" in name or "-" in name, name)):
        path, packages = files[name]
        table.add_row(name, summary(path) + (f" (from {' and '.join(packages)})" if packages else ""))
    return table


def _methods_table(methods: list[tuple[str, str, str]]) -> Table:
    table = Table("kind", "name", "from", title="methods of other packages", title_justify="left", box=None)
    for row in methods:
        table.add_row(*row)
    return table
