"""Read a run's log.csv, one row per epoch, without torch.

Two columns are robust accuracy on training images, and only the second can be compared between optimizers:

    train_robust   of the epoch's minibatches, at the weights w' + v at which gradients were taken, while they moved
    train_pgd20    of a fixed sample, at the deployed weights w, after PGD-20, every fifth epoch; train_clean: likewise

w' is EntropySGD's chain, whose step size stays large after the learning rate drops; v is AWP's perturbation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rb_smooth.core.errors import UserError
from rb_smooth.core.input_files import read_text

LogRow = dict[str, Any]

_REQUIRED_COLUMNS = ("epoch", "lr", "loss", "train_robust", "val_clean", "val_robust", "seconds")
"""Columns that every log has, with a number in every row, in addition to `best`."""

_BOUNDS = {"epoch": 1e9, "lr": 1e9, "train_robust": 1.0, "val_clean": 1.0, "val_robust": 1.0, "seconds": 1e12}
"""The largest value of columns that are never negative; the loss of a run that diverged is not finite."""


def read_log(path: Path) -> list[LogRow]:
    """Rows of a log.csv: int, float, bool, and None for an empty cell; accuracies are in [0, 1].

    Raises UserError, with file and line, for an incomplete or damaged log.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(f"expected a run's log in {path}, got no file; train at least one epoch") from None
    except (UnicodeDecodeError, NotADirectoryError) as error:
        raise _damaged_error(path, 1, type(error).__name__) from None
    header, *lines = _split_cells(path, text) or [[]]
    if missing := [name for name in (*_REQUIRED_COLUMNS, "best") if name not in header]:
        raise _damaged_error(path, 1, f"no column {missing[0]}")
    rows = [_parse_row(path, header, cells, number) for number, cells in enumerate(lines, start=2)]
    for number, row in enumerate(rows, start=2):
        if row["epoch"] != number - 2:
            raise _damaged_error(path, number, f"epoch {row['epoch']} instead of {number - 2}")
    if not rows or not text.endswith("\n"):
        raise _damaged_error(path, len(lines) + 1, "an incomplete last line")
    if not any(row["best"] for row in rows):
        raise _damaged_error(path, len(lines) + 1, "no best epoch")
    return rows


def best_row(rows: Sequence[LogRow]) -> LogRow:
    """Row of the epoch whose weights are in best.pt."""
    return [row for row in rows if row["best"]][-1]


def _split_cells(path: Path, text: str) -> list[list[str]]:
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        return list(lines)
    except csv.Error as error:
        raise _damaged_error(path, lines.line_num, str(error)) from None


def _parse_row(path: Path, header: list[str], cells: list[str], number: int) -> LogRow:
    if len(cells) != len(header):
        raise _damaged_error(path, number, f"{len(cells)} cells under {len(header)} columns")
    row: LogRow = {}
    for name, cell in zip(header, cells, strict=True):
        try:
            row[name] = _parse_value(cell)
        except ValueError:
            raise _damaged_error(path, number, f"{name} {cell!r}") from None
        if (name == "best") != isinstance(row[name], bool) or (name in _REQUIRED_COLUMNS and row[name] is None):
            raise _damaged_error(path, number, f"{name} {cell!r}")
    for name, most in _BOUNDS.items():
        if not 0 <= row[name] <= most:  # NaN is not either
            raise _damaged_error(path, number, f"{name} {row[name]}")
    return row


def _parse_value(cell: str) -> int | float | bool | None:
    if cell in ("True", "False", ""):
        return {"True": True, "False": False}.get(cell)
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _damaged_error(path: Path, line: int, problem: str) -> UserError:
    return UserError(
        f"expected a run's log in {path}, got {problem} in line {line}; restore it (resumed training "
        "rewrites it; weights and scores do not need it)"
    )
