"""Nobody's word is taken: an entry is measured again from its stored weights, or trained again from its recipe."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rb_smooth.components.flops import choose_threads
from rb_smooth.config.registry import check_installed
from rb_smooth.config.schema import Evaluate, load_raw_dataset, parse_protocol
from rb_smooth.core import files
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.data.splits import fingerprint
from rb_smooth.evaluation.evaluator import evaluate_model
from rb_smooth.evaluation.per_example import parse_points_csv
from rb_smooth.evaluation.score import Score
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.zoo import load_entry
from rb_smooth.training.pipeline import RunOptions, run_recipe

_ACCURACIES = ("clean", "pgd20", "autoattack")


class VerificationResult(NamedTuple):
    """figures: name -> (share in the entry, share now). points: how many test points fared otherwise; None where the
    entry keeps no points.csv. conditions: what differs between then and now, as `torch: 2.14.1, now 2.15.0`.
    """

    figures: dict[str, tuple[float, float]]
    points: int | None
    conditions: list[str]

    @property
    def same(self) -> bool:
        return all(then == now for then, now in self.figures.values()) and not self.points


def verify(entry: Entry, *, data_dir: Path, device: torch.device, workers: int = 1) -> VerificationResult:
    """Measure the entry's weights again, by the protocol that it states, on its own test points.

    Nothing that an earlier evaluation found is looked at. Raises UserError where weights or points are missing, or are
    not those that the entry names by their SHA-256.
    """
    score = entry.own["score"]
    model = load_entry(entry).to(device)
    points = recorded_points(entry, data_dir)
    choose_threads(model, points.shape, score["batch_size"])
    protocol = Evaluate(
        version=score["version"], n_examples=score["n"], batch_size=score["batch_size"], seed=score["seed"]
    )
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        now = evaluate_model(
            model,
            points,
            Threat(**score["threat"]),
            protocol,
            classes=entry.own["model"]["classes"],
            weights_sha256=entry.own["weights_sha256"],
            parent=Path(folder),
            workers=workers,
        )
        anew = parse_points_csv(Path(folder) / now["findings"] / "points.csv", now)
    figures = {key: (score[key], now[key]) for key in _ACCURACIES}
    figures |= {
        name: (attack["robust"], now["attacks"][name]["robust"])
        for name, attack in score["attacks"].items()
        if name in now["attacks"]
    }
    before, differ = read_per_example_results(entry), None
    if before is not None:
        then, today = (zip(fate.clean_prediction, fate.broken_by, strict=True) for fate in (before, anew))
        differ = sum(one != other for one, other in zip(then, today, strict=True))
    return VerificationResult(figures, differ, _changed_environment(entry, now))


def recorded_points(entry: Entry, data_dir: Path) -> Images:
    """The very test points on which the entry was measured. Raises UserError if the data are not those any more."""
    score = entry.own["score"]
    points = load_raw_dataset(entry.own["recipe"]["data"], data_dir).test[: score["n"]].load()
    if (found := fingerprint(points)) != score["fingerprint"]:
        raise UserError(
            f"expected the test points of {entry.name} (SHA-256 {score['fingerprint'][:8]}…), got others "
            f"({found[:8]}…); restore the data, or say --data-dir"
        )
    return points


def _changed_environment(entry: Entry, now: dict[str, Any]) -> list[str]:
    then = {**entry.own["versions"], "commit of rb_smooth": entry.own["score"].get("commit")}
    today = {**now["versions"], "commit of rb_smooth": now["commit"]}
    return [f"{name}: {then.get(name)}, now {today[name]}" for name in today if then.get(name) != today[name]]


def reproduce(entry: Entry, options: RunOptions) -> bool:
    """Train and evaluate by the stored recipe and seed below `options.runs`, or go on there; say what came out.

    The board stays as it is. Returns whether the new figures agree: the very weights, or AutoAttack accuracy within the
    entry's 95 % interval (another device or version rounds otherwise, and training makes much of little).
    """
    own = entry.own
    if "train" not in own["recipe"]:
        raise UserError(
            f"expected an entry that was trained here, got {entry.name}, which came as a checkpoint; use `verify`"
        )
    check_installed(entry.packages)
    trained_as = own.get("trained_as") or f"{own['recipe']['data']['name']}/{own['method'].split()[0]}"
    dataset, _, method = trained_as.partition("/")
    recipe = own["recipe"]
    if recipe["train"].get("channels_last") is True:  # as a run that goes on takes it
        recipe = recipe | {"train": recipe["train"] | {"channels_last": "auto"}}
    run = run_recipe((dataset, method, recipe), replace(options, fresh=False, until="evaluation"))
    score, then = run.score or {}, own["score"]
    for figure in _ACCURACIES:
        console.print(f"{figure:<12} {then[figure]:.2%} then, {score[figure]:.2%} now")
    low, high = then["interval"]
    if entry.weights.exists() and _equal(run.load("best"), files.load_tensors(entry.weights)):
        console.print(f"{entry.name}: reproduced, bit for bit")
        return True
    inside = low <= score["autoattack"] <= high
    console.print(
        f"{entry.name}: other weights; AutoAttack accuracy {'within' if inside else 'outside'} the entry's 95 % "
        f"interval, {low:.1%} to {high:.1%}"
    )
    return inside


def _equal(one: Any, other: Any) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def reevaluate_entry(
    entry: Entry, changes: Mapping[str, Any], data_dir: Path, device: torch.device, workers: int
) -> Score:
    """The entry's score as it stands if it was measured so; else by the changed protocol, from its stored weights.

    What is found is kept in <leaderboard>/.evaluations, so that the same call goes on where it was stopped.
    """
    score = entry.own["score"]
    own = {key: score[key] for key in ("version", "seed", "batch_size")} | {"n_examples": score["n"]} | score["threat"]
    if all(own.get(key, changes[key]) == changes[key] for key in changes):
        return Score.of(score)
    if "eps" in changes:
        own["step_size"] = changes["eps"] / 4
    elif changes.get("norm", own["norm"]) != own["norm"]:
        raise UserError(f"expected eps with norm {changes['norm']}, got none: {entry.name}'s is of another; say both")
    protocol = parse_protocol({**own, **changes})
    points = load_raw_dataset(entry.own["recipe"]["data"], data_dir).test[: protocol.n_examples].load()
    model, sha256 = load_entry(entry), str(entry.own["weights_sha256"])
    choose_threads(model, points.shape, protocol.batch_size)
    measured = evaluate_model(
        model.to(device),
        points,
        Threat(protocol.norm, protocol.eps, protocol.step_size),  # type: ignore[arg-type]
        protocol,
        classes=entry.own["model"]["classes"],
        weights_sha256=sha256,
        parent=entry.leaderboard / ".evaluations" / sha256[:16],
        workers=workers,
    )
    return Score.of(measured)
