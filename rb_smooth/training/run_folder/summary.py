"""Summaries of run folders, read without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.training.run_folder.log import best_row, read_log
from rb_smooth.training.run_folder.run import Run

_RUN_FILES = ("recipe.yaml", "log.csv", "score.json", "best.pt", "last.pt", "resume.pt")
"""Files that identify a run's folder; each suffices."""

_HASH = re.compile(r"-[0-9a-f]{6}$")
"""The end of the name of a run whose recipe differs from the shipped one."""


@dataclass(frozen=True)
class Summary:
    """Progress and metrics of a run. Accuracies are in [0, 1], of the best epoch's weights; None if not measured.

    test_bound: upper bound of test_autoattack, if that was not measured.
    state: new, training (now), stopped, crashed, trained, evaluating (now), evaluated or damaged.
    crash: signal of the last process, if it crashed. gap: PGD-20 accuracy of the best epoch minus that of the last
    (robust overfitting), on the images `gap_on`. changed: seconds since 1970. damage: the error, with its fix.
    """

    name: str
    state: str
    changed: float
    epochs_done: int = 0
    epochs: int | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    val_clean: float | None = None
    val_robust: float | None = None
    test_clean: float | None = None
    test_pgd20: float | None = None
    test_autoattack: float | None = None
    test_bound: float | None = None
    test_points: int | None = None
    gap: float | None = None
    gap_on: str | None = None
    damage: str | None = None
    crash: str | None = None


def find_runs(folder: Path) -> Iterator[tuple[str, Run]]:
    """Runs in `folder` and its subfolders, as (name below `folder`, run)."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if is_run(path):
            yield path.relative_to(folder).as_posix(), Run(path)


def find_run(name: str, folder: Path) -> Run:
    """The run at path `name`, or called `name` below `folder`; its hash may be omitted if one run is meant.

    Raises UserError, with the nearest name.
    """
    if is_run(Path(name)):
        return Run(Path(name))
    runs = dict(find_runs(folder))
    matching = match_runs(name, runs)
    if name in matching or len(matching) == 1:
        return runs[name if name in matching else matching[0]]
    if matching:
        raise UserError(
            f"expected one run, got {name!r}, which is {' and '.join(matching)} in {folder}; use one of them"
        )
    raise UserError(f"expected a run's folder, or a run in {folder}, {did_you_mean(name, runs)}")


def match_runs(name: str, runs: Iterable[str]) -> list[str]:
    """Those of `runs` called `name`, with or without data set; otherwise those with a hash after it: at-s0-4a126a."""
    names = {each: (each, each.rpartition("/")[2]) for each in runs}
    same = [each for each, known in names.items() if name in known]
    return same or [each for each, known in names.items() if name in {_HASH.sub("", alias) for alias in known}]


def is_run(path: Path) -> bool:
    """Whether `path` holds a run; True without read permission, so that the list reports the folder as damaged."""
    try:
        return any((path / name).exists() for name in _RUN_FILES) or Run(path).crash is not None
    except PermissionError:
        return True


def summarise(name: str, run: Run) -> Summary:
    """Summarise one run; a damaged run has state `damaged` and raises nothing."""
    changed = _last_modified(run.path)
    try:
        score = run.score
        state = _state(run, score is not None)
        crash = run.crash if state == "crashed" else None
        figures = _training_figures(run, score is not None) | _test_figures(run, score)
        return Summary(name, state, changed, crash=crash, **figures)
    except (UserError, OSError) as error:
        return Summary(name, "damaged", changed, damage=str(error))


def _state(run: Run, is_evaluated: bool) -> str:
    if run.is_in_use:
        return "evaluating" if run.is_trained else "training"
    if run.crash is not None:
        return "crashed"
    if run.is_trained:
        return "evaluated" if is_evaluated else "trained"
    return "stopped" if run.progress == "begun" or (run.path / "log.csv").exists() else "new"


def _training_figures(run: Run, is_evaluated: bool) -> dict[str, Any]:
    """Fields from recipe.yaml and log.csv; the gap only before the evaluation."""
    if run.crash is not None and not (run.path / "recipe.yaml").exists():
        return {}  # crashed before recipe.yaml was written
    fields: dict[str, Any] = {"epochs": run.header.get("train", {}).get("epochs")}
    if not (run.path / "log.csv").exists():
        return fields
    rows = read_log(run.path / "log.csv")
    best = best_row(rows)
    fields |= {
        "epochs_done": len(rows),
        "best_epoch": best["epoch"] + 1,
        "seconds": sum(row["seconds"] for row in rows),
        "val_clean": best["val_clean"],
        "val_robust": best["val_robust"],
    }
    if not is_evaluated:
        fields |= {"gap": best["val_robust"] - rows[-1]["val_robust"], "gap_on": "validation"}
    return fields


def _test_figures(run: Run, score: dict[str, Any] | None) -> dict[str, Any]:
    """Fields from score.json, if there is one."""
    if score is None:
        return {}
    return {
        "test_clean": float(score["clean"]),
        "test_pgd20": float(score["pgd20"]),
        "test_autoattack" if score["version"] == "standard" else "test_bound": float(score["autoattack"]),
        "test_points": score["n"],
        "gap": score["pgd20"] - score["last"]["pgd20"],
        "gap_on": "test",
    }


def _last_modified(folder: Path) -> float:
    """Time of the last change to a file other than the lock, which reading touches; 0 if unreadable."""
    newest = 0.0
    with suppress(OSError):
        for path in os.scandir(folder):
            with suppress(OSError):  # a file of a run in progress may disappear
                newest = max(newest, 0.0 if path.name.startswith(".") else path.stat().st_mtime)
    return newest
