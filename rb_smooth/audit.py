"""Nobody's word is taken: an entry is measured again from its stored weights, or trained again from its recipe."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rb_smooth.assessment import assess
from rb_smooth.board.outcomes import parse_outcomes, read_outcomes
from rb_smooth.contracts import Threat
from rb_smooth.declaration import Evaluate, source_of
from rb_smooth.entries import Entry
from rb_smooth.images import Images
from rb_smooth.networks import choose_threads
from rb_smooth.refusal import Refused
from rb_smooth.splits import fingerprint
from rb_smooth.zoo import load_entry

_FIGURES = ("clean", "pgd20", "autoattack")


class Verdict(NamedTuple):
    """figures: name -> (share in the entry, share now). points: how many test points fared otherwise; None where the
    entry keeps no points.csv. conditions: what differs between then and now, as `torch: 2.14.1, now 2.15.0`.
    """

    figures: dict[str, tuple[float, float]]
    points: int | None
    conditions: list[str]

    @property
    def same(self) -> bool:
        return all(then == now for then, now in self.figures.values()) and not self.points


def verify(entry: Entry, *, data_dir: Path, device: torch.device, workers: int = 1) -> Verdict:
    """Measure the entry's weights again, by the protocol that it states, on its own test points.

    Nothing that an earlier evaluation found is looked at. Raises Refused where weights or points are missing, or are
    not those that the entry names by their SHA-256.
    """
    score = entry.own["score"]
    model = load_entry(entry).to(device)
    points = recorded_points(entry, data_dir)
    choose_threads(model, points.shape, score["batch_size"])
    asked = Evaluate(
        version=score["version"], n_examples=score["n"], batch_size=score["batch_size"], seed=score["seed"]
    )
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        now = assess(
            model,
            points,
            Threat(**score["threat"]),
            asked,
            classes=entry.own["model"]["classes"],
            weights_sha256=entry.own["weights_sha256"],
            parent=Path(folder),
            workers=workers,
        )
        anew = parse_outcomes(Path(folder) / now["findings"] / "points.csv", now)
    figures = {key: (score[key], now[key]) for key in _FIGURES}
    figures |= {
        name: (attack["robust"], now["attacks"][name]["robust"])
        for name, attack in score["attacks"].items()
        if name in now["attacks"]
    }
    before, differ = read_outcomes(entry), None
    if before is not None:
        then, today = (zip(fate.clean_prediction, fate.broken_by, strict=True) for fate in (before, anew))
        differ = sum(one != other for one, other in zip(then, today, strict=True))
    return Verdict(figures, differ, _conditions(entry, now))


def recorded_points(entry: Entry, data_dir: Path) -> Images:
    """The very test points on which the entry was measured. Raises Refused if the data are not those any more."""
    score = entry.own["score"]
    points = source_of(entry.own["recipe"]["data"], data_dir).test[: score["n"]].loaded()
    if (found := fingerprint(points)) != score["fingerprint"]:
        raise Refused(
            f"expected the test points of {entry.name} (SHA-256 {score['fingerprint'][:8]}…), got others "
            f"({found[:8]}…); restore the data, or say --data-dir"
        )
    return points


def _conditions(entry: Entry, now: dict[str, Any]) -> list[str]:
    then = {**entry.own["versions"], "commit of rb_smooth": entry.own["score"].get("commit")}
    today = {**now["versions"], "commit of rb_smooth": now["commit"]}
    return [f"{name}: {then.get(name)}, now {today[name]}" for name in today if then.get(name) != today[name]]
