"""A leaderboard as files: our entries, in RobustBench's curated JSON plus one block of our own, and the published ones.

<leaderboard>/model_info/<dataset>/<threat>/<Name>.json      our entries
<leaderboard>/models/<dataset>/<threat>/<Name>.pt            their weights
published/<dataset>-<threat>.json                            RobustBench's, dated; shipped with the package
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rb_smooth import files
from rb_smooth.notation import number_text
from rb_smooth.refusal import Refused


@dataclass(frozen=True)
class Entry:
    """One model of a local leaderboard. `info` is the JSON; percentages and eps are strings there, as RobustBench's."""

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
    def weights(self) -> Path:
        return model_dir(self.leaderboard) / self.dataset / self.threat / f"{self.name}.pt"

    @property
    def path(self) -> Path:
        return self.leaderboard / "model_info" / self.dataset / self.threat / f"{self.name}.json"

    def protocol(self) -> tuple[Any, ...]:
        """Two entries are comparable if and only if these are equal: ball, attack, and the very points."""
        score = self.own["score"]
        return (
            score["threat"]["norm"],
            round(score["threat"]["eps"], 9),
            score["version"],
            score["n"],
            score["fingerprint"],
        )


def model_dir(leaderboard: Path) -> Path:
    """The folder to give RobustBench's load_model as model_dir."""
    return leaderboard / "models"


def listed(leaderboard: Path, dataset: str = "*", threat: str = "*") -> tuple[list[Entry], list[str]]:
    """(entries, complaints): a file that is not an entry is named and passed over, never fatal."""
    entries, complaints = [], []
    for path in sorted((leaderboard / "model_info").glob(f"{dataset}/{threat}/*.json")):
        try:
            info = files.read_json(path)
            entry = Entry(leaderboard, path.parts[-3], path.parts[-2], path.stem, info)
            entry.protocol()
            entries.append(entry)
        except (Refused, KeyError, TypeError) as error:
            complaints.append(
                f"passed over {path}: expected an entry of rb_smooth, got {error or type(error).__name__}"
            )
    return entries, complaints


def published(dataset: str, threat: str) -> dict[str, Any]:
    """RobustBench's entries for one board, with source, commit and date; `entries` is empty where it has no board."""
    for folder in _published_folders():
        path = folder / f"{dataset}-{threat}.json"
        if path.exists():
            return files.read_json(path)
    return {"entries": []}


def eps_text(eps: float) -> str:
    """`8/255`, or `0.5`: eps as RobustBench's curated JSON writes it."""
    return number_text(eps)


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def check_name(name: str) -> str:
    """A file name that cannot leave its folder, and that RobustBench's loader does not treat specially."""
    if not re.fullmatch(r"[\w+().-]+", name) or name.startswith("."):
        raise Refused(f"expected an entry's name of letters, digits and . _ + -, got {name!r}; choose another")
    if "Kireev2021Effectiveness" in name or name == "Andriushchenko2020Understanding":
        raise Refused(f"expected a name that RobustBench's loader treats like any other, got {name!r}; choose another")
    return name


def _published_folders() -> Iterator[Path]:
    package = Path(__file__).parent
    yield package.parent / "leaderboard" / "published"
    yield package / "_data" / "published"
