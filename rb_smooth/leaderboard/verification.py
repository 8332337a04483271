"""Re-evaluate an entry from its stored weights, or retrain it from its recipe."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rb_smooth.components.flops import choose_threads
from rb_smooth.config.registry import check_installed
from rb_smooth.config.schema import load_raw_dataset, parse_protocol
from rb_smooth.core import files
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.data.splits import fingerprint
from rb_smooth.evaluation.evaluator import evaluate_model
from rb_smooth.evaluation.per_example import parse_points_csv
from rb_smooth.evaluation.score import Score
from rb_smooth.leaderboard.entries import Entry, cache_folder, read_per_example_results
from rb_smooth.leaderboard.zoo import load_entry
from rb_smooth.training.pipeline import RunOptions, run_recipe

_ACCURACIES = ("clean", "pgd20", "autoattack")


class VerificationResult(NamedTuple):
    """Differences between an entry and its re-evaluation.

    figures: name -> (stored accuracy, accuracy now), in [0, 1]. points: number of test points with a different outcome;
    None if the entry has no points.csv. conditions: changes of the environment, as `torch: 2.14.1, now 2.15.0`.
    """

    figures: dict[str, tuple[float, float]]
    points: int | None
    conditions: list[str]

    @property
    def same(self) -> bool:
        return all(then == now for then, now in self.figures.values()) and not self.points


def verify(entry: Entry, *, data_dir: Path, device: torch.device, workers: int = 1) -> VerificationResult:
    """Evaluate the stored weights again, by the stored protocol, on the stored test points, without cached results.

    Raises UserError if weights or test points are missing or differ from the stored SHA-256.
    """
    score = entry.own["score"]
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        now = _evaluate_entry(entry, _stored_protocol(score), data_dir, device, workers, Path(folder))
        results = parse_points_csv(Path(folder) / now["findings"] / "points.csv", now)
    figures = {key: (score[key], now[key]) for key in _ACCURACIES}
    figures |= {
        name: (attack["robust"], now["attacks"][name]["robust"])
        for name, attack in score["attacks"].items()
        if name in now["attacks"]
    }
    stored, different = read_per_example_results(entry), None
    if stored is not None:
        then, today = (zip(each.clean_prediction, each.broken_by, strict=True) for each in (stored, results))
        different = sum(one != other for one, other in zip(then, today, strict=True))
    return VerificationResult(figures, different, _changed_environment(entry, now))


def _stored_protocol(score: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of an `evaluate:` section that give the score again."""
    settings = {key: score[key] for key in ("version", "seed", "batch_size") if key in score}
    return settings | {"n_examples": score["n"]} | score["threat"]


def _evaluate_entry(
    entry: Entry, keys: Mapping[str, Any], data_dir: Path, device: torch.device, workers: int, parent: Path
) -> dict[str, Any]:
    """Evaluate the stored weights by the protocol of `keys`, an `evaluate:` section with norm, eps and step_size.

    Raises UserError if weights or data are missing, or if as many test points as before are not the same ones.
    """
    protocol, score = parse_protocol(keys), entry.own["score"]
    model = load_entry(entry)
    points = load_raw_dataset(entry.own["recipe"]["data"], data_dir).test[: protocol.n_examples].load()
    if protocol.n_examples == score["n"] and (found := fingerprint(points)) != score["fingerprint"]:
        raise UserError(
            f"expected the test points of {entry.name} (SHA-256 {score['fingerprint'][:8]}…), got others "
            f"({found[:8]}…); restore the data, or say --data-dir"
        )
    choose_threads(model, points.shape, protocol.batch_size)
    return evaluate_model(
        model.to(device),
        points,
        Threat(protocol.norm, protocol.eps, protocol.step_size),  # type: ignore[arg-type]
        protocol,
        classes=entry.own["model"]["classes"],
        weights_sha256=entry.own["weights_sha256"],
        parent=parent,
        workers=workers,
    )


def _changed_environment(entry: Entry, now: dict[str, Any]) -> list[str]:
    then = {**entry.own["versions"], "commit of rb_smooth": entry.own["score"].get("commit")}
    today = {**now["versions"], "commit of rb_smooth": now["commit"]}
    return [f"{name}: {then.get(name)}, now {today[name]}" for name in today if then.get(name) != today[name]]


def reproduce(entry: Entry, options: RunOptions) -> bool:
    """Train and evaluate by the stored recipe and seed in `options.runs`, resuming there, and print the result.

    The board is not changed. Returns whether the results agree: equal weights, or AutoAttack accuracy within the
    entry's 95 % interval (devices and versions round differently, which training amplifies).
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
    if recipe["train"].get("channels_last") is True:  # as in a resumed run
        recipe = recipe | {"train": recipe["train"] | {"channels_last": "auto"}}
    run = run_recipe((dataset, method, recipe), replace(options, fresh=False, until="evaluation"))
    score, then = run.score or {}, own["score"]
    for figure in _ACCURACIES:
        console.print(f"{figure:<12} {then[figure]:.2%} then, {score[figure]:.2%} now")
    low, high = then["interval"]
    best, stored = run.load("best"), files.load_tensors(entry.weights) if entry.weights.exists() else {}
    if best.keys() == stored.keys() and all(torch.equal(best[key], stored[key]) for key in best):
        console.print(f"{entry.name}: reproduced, bit for bit")
        return True
    inside = low <= score["autoattack"] <= high
    console.print(
        f"{entry.name}: other weights; AutoAttack accuracy {'within' if inside else 'outside'} the entry's 95 % "
        f"interval, {low:.1%} to {high:.1%}"
    )
    return inside


def reevaluate_entry(
    entry: Entry, changes: Mapping[str, Any], data_dir: Path, device: torch.device, workers: int
) -> Score:
    """Return the stored score if its protocol has these values; else evaluate the stored weights with `changes`.

    Results are cached in <leaderboard>/.evaluations; after an interruption the same call continues.
    """
    score = entry.own["score"]
    own = _stored_protocol(score)
    if all(own.get(key, changes[key]) == changes[key] for key in changes):
        return Score.of(score)
    if "eps" in changes:
        own["step_size"] = changes["eps"] / 4
    elif changes.get("norm", own["norm"]) != own["norm"]:
        raise UserError(
            f"expected eps with norm {changes['norm']}, got none; say both, as {entry.name} has another norm"
        )
    folder = cache_folder(entry.leaderboard, entry.own["weights_sha256"])
    return Score.of(_evaluate_entry(entry, own | dict(changes), data_dir, device, workers, folder))
