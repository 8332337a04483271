"""The files of a leaderboard: our entries, RobustBench's JSON with one block of ours, and the published entries.

<leaderboard>/model_info/<dataset>/<threat>/<Name>.json      our entries
<leaderboard>/models/<dataset>/<threat>/<Name>.pt            their weights
<leaderboard>/points/<dataset>/<threat>/<Name>.csv           per-example results
<leaderboard>/curves/<dataset>/<threat>/<Name>.csv           training log of an entry trained here
<leaderboard>/examples/<dataset>/<threat>/<Name>.npz         some test images with adversarial examples
published/<dataset>-<threat>.json                            RobustBench's entries with their date, part of the package
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rb_smooth.core import files
from rb_smooth.core.environment import data_roots
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.evaluation.per_example import PerExampleResults, parse_points_csv
from rb_smooth.evaluation.score import protocol_of


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


def list_entries(leaderboard: Path, dataset: str = "*", threat: str = "*") -> tuple[list[Entry], list[str]]:
    """Return the entries, and a message for each file that is not an entry and was skipped."""
    entries, complaints = [], []
    for path in sorted((leaderboard / "model_info").glob(f"{dataset}/{threat}/*.json")):
        try:
            entries.append(read_entry(path))
        except (UserError, OSError) as error:
            complaints.append(f"skipped: {error}")
    return entries, complaints


def read_entry(path: Path) -> Entry:
    """Read an entry from its JSON file. Raises UserError for missing values, other types and impossible accuracies."""
    info = files.read_json(path)
    entry = Entry(path.parents[3], path.parts[-3], path.parts[-2], path.stem, info)
    try:
        problem = _problem(entry)
    except (KeyError, TypeError, AttributeError, ValueError):
        problem = "other JSON"
    if problem:
        raise UserError(f"expected an entry of rb_smooth in {path}, got {problem}; restore or delete it")
    return entry


def _problem(entry: Entry) -> str:
    """What is wrong with the JSON of an entry; empty if nothing is. Missing values raise KeyError or TypeError."""
    info, score, model = entry.info, entry.own["score"], entry.own["model"]
    low, high = score["interval"]
    shares = [score["clean"], score["pgd20"], score["autoattack"], low, high]
    texts = [info["autoattack_acc"], info["architecture"], entry.own["run"], score["fingerprint"], score["version"]]
    texts += [model["name"], *entry.packages.values()]
    numbers = [*shares, score["threat"]["eps"], score["n"], model["classes"]]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(x, (int, float)) for x in numbers):
        return "values of other types"
    if not all(0 <= share <= 1 for share in shares) or not math.isfinite(
        score["threat"]["eps"]
    ):  # NaN is not in [0, 1]
        return "accuracies outside [0, 1], or an eps that is not finite"
    if score["threat"]["norm"] != entry.threat:
        return f"the norm {score['threat']['norm']} in the folder of {entry.threat}"
    flags = [score["official"], score["whole"]]
    return "" if all(isinstance(flag, bool) for flag in flags) else "no `official` and `whole`"


def find_entry(
    name: str, leaderboard: Path, dataset: str | None = None, threat: str | None = None, also: Iterable[str] = ()
) -> Entry:
    """Return the entry of this name. Raises UserError, with the most similar name, or with the boards if several match.

    also: further valid names, for the error message.
    """
    entries, _ = list_entries(leaderboard, dataset or "*", threat or "*")
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
    for folder in ("leaderboard/published", "published"):
        path = next((p for root in data_roots() if (p := root / folder / f"{dataset}-{threat}.json").exists()), None)
        if path is not None:
            return files.read_json(path)
    return {"entries": []}


def read_per_example_results(entry: Entry) -> PerExampleResults | None:
    """Read the entry's points.csv; None if it has none. Raises UserError as `parse_points_csv` does."""
    return parse_points_csv(entry.points, entry.own["score"]) if entry.points.exists() else None
