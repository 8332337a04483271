"""Output of `recipe list`: the results in the papers' tables, and the files of recipes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from typing import Any

from rich.table import Table

from rb_smooth.config import registry, resolver
from rb_smooth.config.resolver import list_datasets, recipe_roots
from rb_smooth.config.sections import recipe_description
from rb_smooth.config.yaml import parse_yaml
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.input_files import read_text


@dataclass(frozen=True)
class PaperResult:
    """One result in a paper's table. recipe: "cifar10/at+awp"; settings: arguments of --set.

    needs: description of the user's file that FILE in `settings` stands for.
    reported: shares in [0, 1] by key of `comparison.METRICS`, and their source `by`;
    None if no available source reports them.
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


def read_paper_results(dataset: str) -> list[PaperResult]:
    """The results of one data set, in the papers' order; none for digits. Raises UserError for an unknown data set."""
    if dataset not in list_datasets():
        raise UserError(f"expected a dataset with recipes, {did_you_mean(dataset, list_datasets())}")
    return [paper_result for paper_result in all_paper_results() if paper_result.recipe.split("/")[0] == dataset]


@cache
def all_paper_results() -> list[PaperResult]:
    """All results, in the papers' order."""
    path = next(path for root in recipe_roots(shipped_only=True) if (path := root / "cells.yaml").exists())
    listed = parse_yaml(read_text(path), str(path))
    return [PaperResult(**entry | {"settings": tuple(entry.get("settings", ()))}) for entry in listed]


def print_recipes(datasets: list[str]) -> None:
    """Print the papers' results, the recipe files, the components of other packages, and what is skipped."""
    listed = [paper_result for dataset in datasets for paper_result in read_paper_results(dataset)]
    for (paper, row), group in groupby(listed, lambda paper_result: (paper_result.paper, paper_result.row)):
        console.print(_paper_table(f"{paper}: {row}", list(group)))
    for dataset in datasets:
        console.print(_parts_table(dataset))
    methods, complaints = registry.list_plugin_methods()
    if methods:
        console.print(_methods_table(methods))
    for complaint in [*complaints, *(line for dataset in datasets for line in resolver.skipped_files(dataset))]:
        console.print(complaint)
    console.print(
        "A method is a base and any of the parts, as at+awp+wa. `recipe show DATASET METHOD` prints its values, "
        "`recipe keys` explains each key."
    )


def print_overview() -> None:
    """Print the bases and parts of every data set, on one screen, and how to see more."""
    methods, complaints = registry.list_plugin_methods()
    table = Table("data set", "bases", "parts", box=None)
    for dataset in list_datasets():
        catalog = resolver.RecipeCatalog(resolver.recipe_files(dataset))
        table.add_row(dataset, " ".join(sorted(catalog.bases)), " ".join(catalog.parts))
        complaints += resolver.skipped_files(dataset)
    console.print(table)
    for kind, name, package in methods:
        console.print(f"{kind} {name} from {package}")
    for complaint in complaints:
        console.print(complaint)
    console.print(
        "A method is a base and any of the parts: at, at+awp, at+awp+ensgd. `recipe list DATASET` says what they are "
        "and lists the results in the papers' tables, `recipe show DATASET METHOD` prints a method's values."
    )


def recipes_as_dict(datasets: list[str]) -> dict[str, Any]:
    """The content of `print_recipes` as plain values, for --json."""
    recipes = {dataset: resolver.recipe_files(dataset) for dataset in datasets}
    return {
        "cells": [asdict(paper_result) for dataset in datasets for paper_result in read_paper_results(dataset)],
        "recipes": [
            {"dataset": dataset, "name": name, "what": recipe_description(path), "from": list(packages)}
            for dataset, files in recipes.items()
            for name, (path, packages) in sorted(files.items())
        ],
        "methods": [dict(zip(("kind", "name", "from"), row, strict=True)) for row in registry.list_plugin_methods()[0]],
    }


def _paper_table(title: str, group: list[PaperResult]) -> Table:
    table = Table("column", "table", "recipe", "hyperparameters", title=title, title_justify="left", box=None)
    table.columns[2].no_wrap = True
    for paper_result in group:
        remarks = [f"--set {shlex.quote(setting)}" for setting in paper_result.settings] + [paper_result.provenance]
        remarks += [] if paper_result.needs is None else [f"needs {paper_result.needs}"]
        table.add_row(
            paper_result.column, paper_result.table, paper_result.recipe.replace("/", " "), "; ".join(remarks)
        )
    return table


def _parts_table(dataset: str) -> Table:
    """Bases, combinations with values of their own, then parts; with the package, if not built in."""
    title = f"{dataset}: bases, combinations with values of their own, parts"
    table = Table("name", "what it is", title=title, title_justify="left", box=None)
    files = resolver.recipe_files(dataset)
    for name in sorted(files, key=lambda name: (name[0] in "+-", "+" in name or "-" in name, name)):
        path, packages = files[name]
        table.add_row(name, recipe_description(path) + (f" (from {' and '.join(packages)})" if packages else ""))
    return table


def _methods_table(methods: list[tuple[str, str, str]]) -> Table:
    table = Table("kind", "name", "from", title="methods of other packages", title_justify="left", box=None)
    for row in methods:
        table.add_row(*row)
    return table
