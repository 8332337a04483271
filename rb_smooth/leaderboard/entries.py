"""The files of a leaderboard: our entries, RobustBench's JSON with one block of ours, and the published entries.

<leaderboard>/model_info/<dataset>/<threat>/<Name>.json      our entries
<leaderboard>/models/<dataset>/<threat>/<Name>.pt            their weights
<leaderboard>/points/<dataset>/<threat>/<Name>.csv           per-example results
<leaderboard>/curves/<dataset>/<threat>/<Name>.csv           training log of an entry trained here
<leaderboard>/examples/<dataset>/<threat>/<Name>.npz         some test images with adversarial examples
published/<dataset>-<threat>.json                            RobustBench's entries with their date, part of the package
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import filelock

from rb_smooth.core import files
from rb_smooth.core.environment import data_roots
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.evaluation.per_example import PerExampleResults, parse_points_csv
from rb_smooth.evaluation.score import protocol_of

_OLD_S = 3600.0
"""Seconds after which no writer is still at work on a file."""


@dataclass(frozen=True)
class Entry:
    """One model of the leaderboard in the folder `leaderboard`, on the board of `dataset` and `threat`, a norm.

    info: its JSON; percentages and eps are strings, as in RobustBench's. weights, path, points, curves, examples: its
    files; the last three are optional.
    """

    leaderboard: Path
    dataset: str
    threat: str
    name: str
    info: dict[str, Any]

    @property
    def own(self) -> dict[str, Any]:
        """Our block: recipe, run, model, score, versions. Accuracies in it are in [0, 1]."""
        return self.info["rb_smooth"]

    @property
    def is_external(self) -> bool:
        """Whether it was submitted as a checkpoint that was trained elsewhere."""
        return "origin" in self.own

    @property
    def packages(self) -> dict[str, str]:
        """Packages of its third-party methods: {"perturbation.sam": "rb-smooth-sam 0.1"}."""
        packages: dict[str, str] = self.own["score"].get("packages", {})
        return packages

    @property
    def weights(self) -> Path:
        """Path of the weights, a state dict of tensors."""
        return self._file("models", "pt")

    @property
    def path(self) -> Path:
        """Path of `info`."""
        return self._file("model_info", "json")

    @property
    def points(self) -> Path:
        """Path of the per-example results."""
        return self._file("points", "csv")

    @property
    def curves(self) -> Path:
        """Path of the training log."""
        return self._file("curves", "csv")

    @property
    def examples(self) -> Path:
        """Path of some test images with adversarial examples."""
        return self._file("examples", "npz")

    def _file(self, folder: str, suffix: str) -> Path:
        return self.leaderboard / folder / self.dataset / self.threat / f"{self.name}.{suffix}"

    @property
    def has_measured_weights(self) -> bool:
        """Whether the file of the weights exists and has the SHA-256 of the evaluated weights."""
        return self.weights.exists() and files.sha256(self.weights) == self.own.get("weights_sha256")

    def measured_weights(self) -> Path:
        """Return the path of the weights. Raises UserError if they are missing or not the evaluated ones."""
        if not self.weights.exists():
            raise UserError(
                f"expected the weights of {self.name} in {self.weights}, got nothing there; restore them, or train anew"
            )
        if not self.has_measured_weights:
            found, stated = files.sha256(self.weights), str(self.own.get("weights_sha256"))
            raise UserError(
                f"expected the weights of {self.name} in {self.weights} (SHA-256 {stated[:8]}…), got others "
                f"({found[:8]}…); restore them"
            )
        return self.weights

    def protocol(self) -> tuple[Any, ...]:
        """Threat, attack and test points; entries with equal protocols are ranked together."""
        return protocol_of(self.own["score"])


def model_dir(leaderboard: Path) -> Path:
    """Return the `model_dir` for RobustBench's load_model."""
    return leaderboard / "models"


def cache_folder(leaderboard: Path, sha256: str) -> Path:
    """Return the folder in which evaluations of a model with these weights cache their results."""
    return leaderboard / ".evaluations" / sha256[:16]


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link, which costs no space (files are replaced, never modified); copy where the disk has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sweep_leftovers(leaderboard: Path) -> None:
    """Delete the temporary files of writers that were killed; does nothing while another process writes an entry."""
    with suppress(OSError, filelock.Timeout):
        if (lock := leaderboard / ".lock").exists():
            with filelock.FileLock(lock, timeout=0):
                for folder in leaderboard.glob(".checking-*"):
                    shutil.rmtree(folder)
                for name in ("model_info", "points", "curves", "examples"):
                    for path in leaderboard.glob(f"{name}/*/*/{files.TEMPORARY}"):
                        path.unlink()
                for pattern in (files.TEMPORARY, f"radii/*/*/{files.TEMPORARY}"):  # written without the lock
                    for path in leaderboard.glob(pattern):
                        if path.is_file() and time.time() - path.stat().st_mtime > _OLD_S:
                            path.unlink()


def list_entries(
    leaderboard: Path, dataset: str | None = None, threat: str | None = None, wanted: Iterable[str] = ()
) -> tuple[list[Entry], list[str]]:
    """Return the entries, and a message for each file that is not an entry and was skipped; it is printed on stderr.

    wanted: names of entries for which a damaged file is not skipped but raises UserError.
    """
    entries, complaints = [], []
    for path in sorted((leaderboard / "model_info").glob(f"{dataset or '*'}/{threat or '*'}/*.json")):
        try:
            entries.append(read_entry(path))
        except (UserError, OSError) as error:
            if path.stem in wanted:
                raise
            complaints.append(f"skipped: {error}")
            print(complaints[-1], file=sys.stderr)
    return entries, complaints


def read_entry(path: Path) -> Entry:
    """Read an entry from its JSON file. Raises UserError as `check_entry` does."""
    entry = Entry(path.parents[3], path.parts[-3], path.parts[-2], path.stem, files.read_json(path))
    return check_entry(entry)


def check_entry(entry: Entry) -> Entry:
    """Return the entry. Raises UserError for missing values, other types, values out of bounds and another norm."""
    from rb_smooth.evaluation import stored

    stored.check_stored(entry.info, stored.ENTRY, "an entry of rb_smooth", entry.path)
    if (norm := entry.own["score"]["threat"]["norm"]) != entry.threat:
        raise UserError(f"expected norm {entry.threat} in {entry.path}, got {norm}; move it to the folder of its norm")
    return entry


def find_entry(
    name: str, leaderboard: Path, dataset: str | None = None, threat: str | None = None, also: Iterable[str] = ()
) -> Entry:
    """Return the entry of this name. Raises UserError, with the most similar name, or with the boards if several match.

    also: further valid names, for the error message.
    """
    entries, _ = list_entries(leaderboard, dataset, threat, [name])
    matching = [entry for entry in entries if entry.name == name]
    if not matching:
        known = [*(entry.name for entry in entries), *also]
        raise UserError(f"expected an entry of {leaderboard}, {did_you_mean(name, known)}")
    if len(matching) > 1:
        boards = ", ".join(f"{entry.dataset} {entry.threat}" for entry in matching)
        raise UserError(f"expected one entry called {name}, got one in each of {boards}; say --dataset and --threat")
    return matching[0]


def published_entries(dataset: str, threat: str) -> dict[str, Any]:
    """Read RobustBench's entries of one board, with source, commit and date; `entries` is empty if it has none."""
    name = Path(f"{dataset}-{threat}.json").name  # both may come from a file, and lead nowhere else
    for folder in ("leaderboard/published", "published"):
        path = next((p for root in data_roots() if (p := root / folder / name).exists()), None)
        if path is not None:
            return _read_published(path, path.stat().st_mtime_ns)
    return {"entries": []}


@lru_cache
def _read_published(path: Path, _modified: int) -> dict[str, Any]:
    """The content of a file of published entries; a damaged one counts as empty, and is named on stderr."""
    from rb_smooth.evaluation import stored

    try:
        table: dict[str, Any] = stored.check_stored(files.read_json(path), stored.PUBLISHED, "published entries", path)
    except UserError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return {"entries": []}
    return table


def read_per_example_results(entry: Entry) -> PerExampleResults | None:
    """Read the entry's points.csv; None if it has none. Raises UserError as `parse_points_csv` does."""
    return parse_points_csv(entry.points, entry.own["score"]) if entry.points.exists() else None
