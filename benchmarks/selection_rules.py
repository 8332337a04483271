"""Which rule should choose the best epoch: the test accuracy each loses where few validation images decide.

    python benchmarks/selection_rules.py --authors awp_authors_curves.csv --write benchmarks/selection_rules.json
    python benchmarks/selection_rules.py --document

A curve's accuracies are taken for the true ones, binomial noise of so many validation images is added, each rule
chooses an epoch, and the true accuracy of that epoch is compared with the plain maximum's, in the same draws, and with
the best of the curve. Curves: those of the AWP authors' published logs (github.com/csdongxian/AWP, PGD accuracy on
10,000 test images, 200 epochs; the file has a row per epoch and the columns setting, run, epoch, lr, test_robust_acc)
and benchmarks/curves/digits.csv (200 validation images, 40 epochs, means of five seeds and single seeds).
--document writes the table of docs/selecting-the-epoch.md from the stored figures.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from epoch_rules import PLAIN, RULES
from learning_curves import STORED_CURVES, read_curves
from result_tables import signed, table_head, table_line

from rb_smooth.core import files
from rb_smooth.core.cli import run_cli

HERE = Path(__file__).parent
STORED, DOCUMENT = HERE / "selection_rules.json", HERE.parent / "docs" / "selecting-the-epoch.md"
IMAGES = (200, 1000)
"""Validation images: of digits' recipes, and of the other data sets'."""
WORSE, APART = 0.2, 0.3
"""Points: adopted is a rule that loses at most WORSE to the plain maximum on every curve, and not more than APART more
to the best epoch of AT's curves than of AWP's, or less."""


@dataclass(frozen=True)
class Curve:
    """accuracy: by epoch, in [0, 1], taken for the true one. group: `AT` or `AWP`; family: averaged over together."""

    name: str
    family: str
    group: str
    accuracy: np.ndarray
    starts: tuple[int, ...]


def main() -> int:
    options = _parse()
    if options.write:
        curves = [*authors_curves(options.authors), *digits_curves(STORED_CURVES / "digits.csv")]
        files.write_text(options.write, as_text(measured(curves, options.draws, options.seed)))
    record = files.read_json(options.write or STORED)
    if options.document:
        scatter = scatter_sentence(list(digits_curves(STORED_CURVES / "digits.csv")))
        tables = {"rules": list(rule_table(record)), "curves": list(curve_table(record))}
        files.write_between(DOCUMENT, tables | {"scatter": [scatter]})
    print("\n".join([*rule_table(record), "", *curve_table(record)]))
    return 0


def authors_curves(path: Path) -> Iterator[Curve]:
    runs: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        runs.setdefault((row["setting"], row["run"]), []).append(row)
    for (setting, run), rows in runs.items():
        network, _, method = run.partition("_")
        group = "AWP" if method == "awp" else "AT"
        accuracy = np.array([float(row["test_robust_acc"]) for row in rows])
        name = f"{setting.replace('_', ' ')} {network}, {group}"
        yield Curve(name, "authors", group, accuracy, _starts([row["lr"] for row in rows]))


def digits_curves(path: Path) -> Iterator[Curve]:
    for method, seeds in read_curves(path).items():
        for seed, rows in seeds.items():
            accuracy = np.array([row["val_robust"] for row in rows])
            group = "AWP" if "awp" in method else "AT"
            yield Curve(f"digits {method}, seed {seed}", "digits", group, accuracy, _starts([r["lr"] for r in rows]))


def _starts(rates: Sequence[Any]) -> tuple[int, ...]:
    return tuple(epoch for epoch, rate in enumerate(rates) if epoch == 0 or rate != rates[epoch - 1])


def measured(curves: Sequence[Curve], draws: int, seed: int) -> dict[str, Any]:
    """Points lost by each rule on each curve with so many images, with standard errors over draws."""
    rows = [
        _lost(curve, images, np.random.default_rng([seed, n, c]), draws)
        for n, images in enumerate(IMAGES)
        for c, curve in enumerate(curves)
    ]
    return {"draws": draws, "seed": seed, "rows": rows}


def _lost(curve: Curve, images: int, random: np.random.Generator, draws: int) -> dict[str, Any]:
    counts = random.binomial(images, curve.accuracy, (draws, len(curve.accuracy)))
    lost = {
        name: 100 * (curve.accuracy.max() - curve.accuracy[rule.choose(counts, curve.starts, images)])
        for name, rule in RULES.items()
    }
    return {
        "curve": curve.name,
        "family": curve.family,
        "group": curve.group,
        "images": images,
        "best": round(100 * float(curve.accuracy.max()), 2),
        "to_best": {name: _mean(each) for name, each in lost.items()},
        "to_maximum": {name: _mean(each - lost[PLAIN]) for name, each in lost.items()},
    }


def as_text(record: dict[str, Any]) -> str:
    """JSON with a line per row."""
    rows = ",\n".join(json.dumps(row) for row in record["rows"])
    return f'{{"draws": {record["draws"]}, "seed": {record["seed"]}, "rows": [\n{rows}\n]}}\n'


def _mean(values: np.ndarray) -> list[float]:
    """Mean and its standard error."""
    return [round(float(values.mean()), 4), round(float(values.std(ddof=1) / np.sqrt(len(values))), 4)]


def scatter_sentence(curves: Sequence[Curve], images: int = 200) -> str:
    """How much measured accuracy differs from epoch to epoch after the last drop, beside independent noise."""
    late = [curve.accuracy[curve.starts[-1] :] for curve in curves]
    scatter = np.std(np.concatenate([np.diff(each) for each in late])) / np.sqrt(2)
    accuracy = np.concatenate(late)
    binomial = np.sqrt(np.mean(accuracy * (1 - accuracy)) / images)
    return (
        f"On digits, after the last drop, accuracy scatters by {100 * scatter:.2f} points between epochs; independent "
        f"noise of {images} images would be {100 * binomial:.2f}."
    )


def verdicts(record: dict[str, Any], rule: str, images: int, family: str) -> dict[str, Any]:
    """Points: mean loss on AT's and on AWP's curves, and the curve where most is lost to the plain maximum."""
    rows = [row for row in record["rows"] if (row["images"], row["family"]) == (images, family)]
    lost = {
        group: float(np.mean([row["to_best"][rule][0] for row in rows if row["group"] == group]))
        for group in ("AT", "AWP")
    }
    worst = max(rows, key=lambda row: row["to_maximum"][rule][0])
    worse, apart = worst["to_maximum"][rule][0], lost["AT"] - lost["AWP"]
    passes = worse <= WORSE and abs(apart) <= APART
    return {**lost, "worse": worse, "curve": worst["curve"], "apart": apart, "passes": passes}


def rule_table(record: dict[str, Any]) -> Iterator[str]:
    """A line for each rule, number of images and set of curves."""
    for family, title in (("authors", "The AWP authors' 14 curves"), ("digits", "20 curves on digits")):
        for images in IMAGES:
            yield f"{title}, {images:,} validation images (points):"
            yield ""
            yield from table_head(
                "rule", "kept", "AT loses", "AWP loses", "AT − AWP", "worst against maximum", "passes"
            )
            for name, rule in RULES.items():
                found = verdicts(record, name, images, family)
                worst = f"{signed(found['worse'] / 100)} ({found['curve']})" if name != PLAIN else "0"
                figures = (f"{found['AT']:.2f}", f"{found['AWP']:.2f}", signed(found["apart"] / 100), worst)
                yield table_line(f"`{name}`: {rule.title}", rule.kept, *figures, "yes" if found["passes"] else "no")
            yield ""


def curve_table(
    record: dict[str, Any], rules: Sequence[str] = ("maximum-later", "mean3", "mean121", "latest")
) -> Iterator[str]:
    """Points lost against the plain maximum on each of the authors' curves, with twice the standard error."""
    yield from table_head("curve", "images", "best", "`maximum` loses", *(f"`{rule}`" for rule in rules))
    for row in record["rows"]:
        if row["family"] == "authors":
            lost = [row["to_maximum"][rule] for rule in rules]
            figures = [f"{signed(mean / 100)} ± {2 * error:.2f}" for mean, error in lost]
            plain = f"{row['to_best'][PLAIN][0]:.2f}"
            yield table_line(row["curve"], f"{row['images']:,}", f"{row['best']:.2f}", plain, *figures)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--authors", type=Path, help="the AWP authors' curves, as a CSV file")
    parser.add_argument("--write", type=Path, help="measure, and write the figures to this JSON file")
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--document", action="store_true", help="write the tables of docs/selecting-the-epoch.md")
    options = parser.parse_args()
    if options.write and options.authors is None:
        parser.error("expected --authors with --write, got none; name the file")
    return options


if __name__ == "__main__":
    sys.exit(run_cli(main)())
