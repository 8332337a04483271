"""Accuracy against the radius of the ball, in the norm that a model was trained for and in another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import nn

from rb_smooth.components.flops import choose_threads
from rb_smooth.config.schema import Evaluate, load_raw_dataset
from rb_smooth.config.sections import Sections
from rb_smooth.core import files
from rb_smooth.core.console import console, log_info
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text
from rb_smooth.core.statistics import share_interval
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation import radii
from rb_smooth.evaluation.accuracy import fraction, is_correct, measure_accuracy
from rb_smooth.evaluation.attack_cache import AttackCache
from rb_smooth.evaluation.checks import validate_points
from rb_smooth.evaluation.evaluator import cache_key, run_attacks
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry
from rb_smooth.leaderboard.zoo import load_entry
from rb_smooth.training.model_setup import ZooModel


@dataclass(frozen=True)
class CurveModel:
    """A model whose profile is drawn: one of ours, or one of RobustBench's zoo. data: a recipe's section."""

    name: str
    model: nn.Module
    dataset: str
    threat: str
    data: Sections
    weights_sha256: str
    leaderboard: Path

    @classmethod
    def from_entry(cls, entry: Entry) -> CurveModel:
        own = entry.own
        where = entry.dataset, entry.threat, own["recipe"]["data"], own["weights_sha256"], entry.leaderboard
        return cls(entry.name, load_entry(entry), *where)

    @classmethod
    def from_zoo(cls, name: str, dataset: str, threat: str, zoo: Path, leaderboard: Path) -> CurveModel:
        published = ZooModel(name, dataset, threat, zoo)
        model, digest = published.load(), files.sha256(published.path)
        return cls(name, model, dataset, threat, {"name": dataset}, digest, leaderboard)

    @property
    def path(self) -> Path:
        return self.leaderboard / "radii" / self.dataset / self.threat / f"{self.name}.json"


def draw_robustness_curve(
    curve_model: CurveModel,
    eps: Sequence[float],
    norms: Sequence[str],
    protocol: Evaluate,
    *,
    data_dir: Path,
    device: torch.device,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Measure, print and write down the accuracy at every radius in every norm.

    eps are radii in the subject's own norm; in another they are scaled as RobustBench's two balls are. Returns the rows
    (see `measure_curve`). What was found is kept below <leaderboard>/.evaluations: the same call goes on where it
    stopped.
    """
    if unknown := set(norms) - {"Linf", "L2"}:
        raise UserError(f"expected norms Linf and L2, got {', '.join(sorted(unknown))}; correct --norms")
    source = load_raw_dataset(curve_model.data, data_dir)
    points, classes = source.test[: protocol.n_examples].load(), len(source.classes)
    choose_threads(curve_model.model, points.shape, protocol.batch_size)
    scaled = [(norm, radius * radii.norm_scale(norm, curve_model.threat)) for norm in norms for radius in eps]
    threats = [Threat(norm, radius, radius / 4) for norm, radius in scaled]  # type: ignore[arg-type]
    title, rows = attack_title({"version": protocol.version}), []
    kept = curve_model.leaderboard / ".evaluations" / curve_model.weights_sha256[:16]
    for row in measure_curve(
        curve_model.model.to(device),
        points,
        threats,
        protocol,
        classes=classes,
        weights_sha256=curve_model.weights_sha256,
        parent=kept,
        workers=workers,
    ):
        log_info(f"{row['norm']} eps {eps_text(row['eps'])}: PGD-20 {row['pgd20']:.1%}, {title} {row['robust']:.1%}")
        rows.append(row)
    rises = radii.accuracy_increases(rows)
    what = {"name": curve_model.name, "weights_sha256": curve_model.weights_sha256, "board": source.board}
    files.write_json(curve_model.path, {**what, "rows": rows, "rises": rises})
    console.print(_table(f"{curve_model.name} on {len(points)} points of {source.board}", title, rows))
    for rise in rises:
        console.print(f"watch out: {rise}")
    console.print(f"written: {curve_model.path}")
    return rows


def measure_curve(
    model: nn.Module,
    points: Images,
    threats: Sequence[Threat],
    protocol: Evaluate,
    *,
    classes: int,
    weights_sha256: str,
    parent: Path,
    workers: int = 1,
) -> Iterator[dict[str, Any]]:
    """One row for each ball, as soon as it is measured: norm, eps, version, n, clean, pgd20, robust, interval, seconds.

    `robust` is what `asked.version` leaves: AutoAttack's accuracy, or under `quick` an upper bound of it. Findings are
    kept below `parent`, bound to the weights, so that the same call goes on where it was stopped.
    """
    for threat in threats:
        validate_points(points, threat, classes)
    with full_float32():
        clean = measure_accuracy(model, points)
    for threat in threats:
        with full_float32():
            withstood = is_correct(model, points, threat)
        store = AttackCache(parent, cache_key(model, points, threat, protocol, weights_sha256))
        result = run_attacks(model, points, threat, protocol, withstood, classes=classes, store=store, workers=workers)
        robust = fraction(result.robust)
        yield {
            "norm": threat.norm,
            "eps": threat.eps,
            "version": protocol.version,
            "n": len(points),
            "clean": clean,
            "pgd20": fraction(withstood),
            "robust": robust,
            "interval": list(share_interval(robust, len(points))),
            "seconds": sum(attack.seconds for attack in result.attacks.values()),
        }


def _table(what: str, title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=what, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("norm", "eps", "clean", "PGD-20", title, "95 % interval"):
        table.add_column(heading, justify="right")
    for row in rows:
        low, high = row["interval"]
        shares = (f"{row[key]:.2%}" for key in ("clean", "pgd20", "robust"))
        table.add_row(row["norm"], eps_text(row["eps"]), *shares, f"{low:.1%} – {high:.1%}")
    return table
