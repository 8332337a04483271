"""A model that was trained elsewhere enters the board through the same door as ours, by its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rb_smooth.components.checkpoints import exported, fill, read_checkpoint
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.registry import build_model, packages_of
from rb_smooth.config.schema import Evaluate, protocol, source_of
from rb_smooth.config.sections import Sections
from rb_smooth.core import files
from rb_smooth.core.console import remark
from rb_smooth.core.errors import Refused
from rb_smooth.core.files import check_name
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation.evaluator import assess, network
from rb_smooth.leaderboard.entries import Entry, published
from rb_smooth.leaderboard.submission import Candidate, described, enter

_CURE = "correct --arch, its --set model.…, --key or the file"


@dataclass(frozen=True)
class Outsider:
    """What a checkpoint does not say of itself.

    architecture, options: one of models.py and its keyword arguments. data: a recipe's section. threat: the ball in
    which it is measured. asked: the protocol, also as keys of a recipe's `evaluate:`. standardise: the network wants
    inputs normalised by the data's own moments (those that came with the weights win). key: which of several state
    dicts in the file. told: title, authors, link, venue and additional_data, as RobustBench's JSON has them.
    """

    checkpoint: Path
    architecture: str
    options: dict[str, Any]
    data: Sections
    threat: Threat
    asked: Evaluate | Mapping[str, Any] = field(default_factory=Evaluate)
    standardise: bool = False
    key: str | None = None
    name: str | None = None
    told: dict[str, Any] = field(default_factory=dict)


def admit(
    outsider: Outsider,
    leaderboard: Path,
    *,
    data_dir: Path,
    device: torch.device,
    workers: int = 1,
    replace: bool = False,
) -> Entry:
    """Measure the model as ours are measured, and enter it. Findings are kept in <leaderboard>/.evaluations, so that
    the same call goes on where it was stopped. Raises Refused for a file that holds other or no weights, and for a
    model that cannot be measured.
    """
    path = outsider.checkpoint
    if not path.is_file():
        raise Refused(f"expected a checkpoint or a run's folder at {path}, got nothing there; correct the path")
    asked = outsider.asked if isinstance(outsider.asked, Evaluate) else protocol(outsider.asked)
    name = check_name(outsider.name or f"{path.stem}_{outsider.architecture}")
    source = source_of(outsider.data, data_dir)
    if name in {row["name"] for row in published(source.board, outsider.threat.norm)["entries"]}:
        raise Refused(f"expected a name that no model of RobustBench's has, got {name}; choose another --name")
    points, classes = source.test[: asked.n_examples].loaded(), len(source.classes)
    checkpoint = read_checkpoint(path, _CURE, outsider.key)
    if checkpoint.others:
        remark(f"{path} also holds {', '.join(checkpoint.others)}; --key chooses")
    moments = (source.mean, source.std) if outsider.standardise else ()
    model = build_model(outsider.architecture, outsider.options, points.shape, classes, *moments)
    fill(model, checkpoint, path, _CURE)
    choose_threads(model, points.shape, asked.batch_size)
    kept = (
        leaderboard / ".evaluations" / files.sha256(path)[:16] / ("standardised" if outsider.standardise else "plain")
    )
    weights = kept / "weights.pt"
    files.save_tensors(weights, exported(model))
    score = assess(
        model.to(device),
        points,
        outsider.threat,
        asked,
        classes=classes,
        weights_sha256=files.sha256(weights),
        parent=kept,
        workers=workers,
    ) | {
        "board": source.board,
        "whole": len(points) == len(source.test),
        "official": source.official,
        "packages": packages_of([("model", outsider.architecture), ("data", outsider.data["name"])]),
    }
    told = {"name": name, "link": "", "authors": "not told", "venue": "local", "additional_data": False} | outsider.told
    own = {
        "run": f"checkpoint {files.sha256(path)}",
        "method": told["name"],
        "recipe": {"data": dict(outsider.data), "evaluate": asked.model_dump(exclude_none=True)},
        "origin": {
            "checkpoint": path.name,
            "sha256": files.sha256(path),
            "key": outsider.key,
            "standardise": outsider.standardise,
        },
    }
    net = network(outsider.architecture, outsider.options, points.shape, classes)
    entry = Entry(leaderboard, source.board, outsider.threat.norm, name, described(score, net, told, own))
    findings = kept / score["findings"]
    candidate = Candidate(
        entry,
        lambda built: built.load_state_dict(files.load_tensors(weights)),
        points=findings / "points.csv",
        examples=findings / "examples.npz",
    )
    return enter(candidate, replace)
