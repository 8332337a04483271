"""Accuracy against the radius of the ball, in one norm or several."""

from __future__ import annotations

from collections.abc import Sequence
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
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import eps_text
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation import radii
from rb_smooth.evaluation.checks import validate_points
from rb_smooth.evaluation.evaluator import measure
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, cache_folder
from rb_smooth.leaderboard.zoo import load_entry
from rb_smooth.training.model_setup import ZooModel


@dataclass(frozen=True)
class CurveModel:
    """An entry or a model of RobustBench's zoo. data: a recipe's section."""

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
    """Measure the accuracy at every radius in every norm; print it and write it to `curve_model.path`.

    eps: radii in the model's own norm; for another norm they are scaled by the ratio of RobustBench's two radii.
    Returns a row for each ball: norm, eps, version, n, clean, pgd20, robust, interval, seconds; `robust` is accuracy
    under the attacks of `protocol.version`. Results are cached in <leaderboard>/.evaluations; after an interruption the
    same call continues.
    """
    if unknown := set(norms) - {"Linf", "L2"}:
        raise UserError(f"expected norms Linf and L2, got {', '.join(sorted(unknown))}; correct --norms")
    source = load_raw_dataset(curve_model.data, data_dir)
    points, classes = source.test[: protocol.n_examples].load(), len(source.classes)
    choose_threads(curve_model.model, points.shape, protocol.batch_size)
    scaled = [(norm, radius * radii.norm_scale(norm, curve_model.threat)) for norm in norms for radius in eps]
    threats = [Threat(norm, radius, radius / 4) for norm, radius in scaled]  # type: ignore[arg-type]
    for threat in threats:
        validate_points(points, threat, classes)
    model, title, rows = curve_model.model.to(device), attack_title({"version": protocol.version}), []
    for threat in threats:
        measured = measure(
            model,
            points,
            threat,
            protocol,
            classes=classes,
            weights_sha256=curve_model.weights_sha256,
            parent=cache_folder(curve_model.leaderboard, curve_model.weights_sha256),
            workers=workers,
        )
        row = {
            "norm": threat.norm,
            "eps": threat.eps,
            "version": protocol.version,
            "n": len(points),
            "clean": measured.clean,
            "pgd20": measured.pgd20,
            "robust": measured.autoattack,
            "interval": list(measured.interval),
            "seconds": measured.seconds,
        }
        log_info(f"{threat.norm} eps {eps_text(threat.eps)}: {title} {measured.autoattack:.1%}")
        rows.append(row)
    rises = radii.accuracy_increases(rows)
    header = {"name": curve_model.name, "weights_sha256": curve_model.weights_sha256, "board": source.board}
    files.write_json(curve_model.path, {**header, "rows": rows, "rises": rises})
    console.print(_table(f"{curve_model.name} on {len(points)} points of {source.board}", title, rows))
    for rise in rises:
        console.print(f"warning: {rise}")
    console.print(f"written: {curve_model.path}")
    return rows


def _table(caption: str, attack: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=caption, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("norm", "eps", "clean", "PGD-20", attack, "95 % interval"):
        table.add_column(heading, justify="right")
    for row in rows:
        low, high = row["interval"]
        accuracies = (f"{row[key]:.2%}" for key in ("clean", "pgd20", "robust"))
        table.add_row(row["norm"], eps_text(row["eps"]), *accuracies, f"{low:.1%} – {high:.1%}")
    return table
