"""A leaderboard as files: our entries, in RobustBench's curated JSON plus one block of our own, and the published ones.

<leaderboard>/model_info/<dataset>/<threat>/<Name>.json      our entries
<leaderboard>/models/<dataset>/<threat>/<Name>.pt            their weights
<leaderboard>/points/<dataset>/<threat>/<Name>.csv           what became of every test point under attack
<leaderboard>/curves/<dataset>/<threat>/<Name>.csv           the training log, of an entry that was trained here
<leaderboard>/examples/<dataset>/<threat>/<Name>.npz         some test images and their adversarial examples
published/<dataset>-<threat>.json                            RobustBench's, dated; shipped with the package
"""

from __future__ import annotations

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
    """One model of a local leaderboard, the folder `leaderboard`, on the board of `dataset` and `threat`, a norm.

    info: its JSON, in which percentages and eps are strings, as RobustBench's. weights, path, points, curves, examples:
    its files, of which the last three need not be there.
    """

    leaderboard: Path
    dataset: str
    threat: str
    name: str
    info: dict[str, Any]

    @property
    def own(self) -> dict[str, Any]:
        """Our block: recipe, run, model, score, versions. Accuracies in it are shares in [0, 1]."""
        return self.info["rb_smooth"]

    @property
    def packages(self) -> dict[str, str]:
        """Whose methods made it, of those that are not ours: {"perturbation.sam": "rb-smooth-sam 0.1"}."""
        found: dict[str, str] = self.own["score"].get("packages", {})
        return found

    @property
    def weights(self) -> Path:
        """Where the weights lie, a state dict of tensors alone."""
        return model_dir(self.leaderboard) / self.dataset / self.threat / f"{self.name}.pt"

    @property
    def path(self) -> Path:
        """Where `info` lies."""
        return self._companion_file("model_info", "json")

    @property
    def points(self) -> Path:
        """Where it is told what became of every test point."""
        return self._companion_file("points", "csv")

    @property
    def curves(self) -> Path:
        """Where the training log lies, of an entry that was trained here."""
        return self._companion_file("curves", "csv")

    @property
    def examples(self) -> Path:
        """Where some test images and their adversarial examples lie."""
        return self._companion_file("examples", "npz")

    def _companion_file(self, what: str, ending: str) -> Path:
        return self.leaderboard / what / self.dataset / self.threat / f"{self.name}.{ending}"

    @property
    def has_measured_weights(self) -> bool:
        """Whether the file of the weights is there, and is the one that was measured."""
        return self.weights.exists() and files.sha256(self.weights) == self.own.get("weights_sha256")

    def measured_weights(self) -> Path:
        """The file of the weights. Raises UserError where there is none, or one of other weights than were measured."""
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
        """Ball, attack and points: entries of equal ones are ranked together."""
        return protocol_of(self.own["score"])


def model_dir(leaderboard: Path) -> Path:
    """The folder to give RobustBench's load_model as model_dir."""
    return leaderboard / "models"


def list_entries(leaderboard: Path, dataset: str = "*", threat: str = "*") -> tuple[list[Entry], list[str]]:
    """(entries, complaints): a file that is not an entry is named and passed over, never fatal."""
    entries, complaints = [], []
    for path in sorted((leaderboard / "model_info").glob(f"{dataset}/{threat}/*.json")):
        try:
            entries.append(read_entry(path))
        except (UserError, OSError) as error:
            complaints.append(f"passed over: {error}")
    return entries, complaints


def read_entry(path: Path) -> Entry:
    """The entry in a JSON file of a board. Raises UserError if what a board needs is missing or of another type."""
    info = files.read_json(path)
    entry = Entry(path.parents[3], path.parts[-3], path.parts[-2], path.stem, info)
    try:
        score, model = entry.own["score"], entry.own["model"]
        shares = [score[key] for key in ("clean", "pgd20", "autoattack", "n")] + [*score["interval"], model["classes"]]
        texts = [info["autoattack_acc"], info["architecture"], entry.own["run"], score["fingerprint"], model["name"]]
        texts += entry.packages.values()
        entry.protocol()
        whole = all(isinstance(x, (int, float)) for x in shares) and all(isinstance(x, str) for x in texts)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"expected an entry of rb_smooth in {path}, got other JSON; restore or delete it")
    return entry


def find_entry(
    name: str, leaderboard: Path, dataset: str | None = None, threat: str | None = None, also: Iterable[str] = ()
) -> Entry:
    """The entry of this name. Raises UserError, with the nearest one, or the boards that have it if several do.

    also: further names that would have been good.
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
    """RobustBench's entries for one board, with source, commit and date; `entries` is empty where it has no board."""
    for folder in ("leaderboard/published", "published"):
        path = next((p for root in data_roots() if (p := root / folder / f"{dataset}-{threat}.json").exists()), None)
        if path is not None:
            return files.read_json(path)
    return {"entries": []}


def read_per_example_results(entry: Entry) -> PerExampleResults | None:
    """What the entry's points.csv says; None where it has none. Raises UserError as `parse_points_csv` does."""
    return parse_points_csv(entry.points, entry.own["score"]) if entry.points.exists() else None
