"""A model that was trained elsewhere enters the board through the same door as ours, by its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rb_smooth.components.checkpoints import export_state_dict, load_weights, read_checkpoint
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.registry import build_model, packages_of
from rb_smooth.config.schema import Evaluate, load_raw_dataset, parse_protocol
from rb_smooth.config.sections import Sections
from rb_smooth.core import files
from rb_smooth.core.console import log_info
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation.evaluator import evaluate_model, network_config
from rb_smooth.leaderboard.entries import Entry, published_entries
from rb_smooth.leaderboard.submission import Submission, entry_info, write_entry

_FIX_HINT = "correct --arch, its --set model.…, --key or the file"


@dataclass(frozen=True)
class ExternalModel:
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


def submit_checkpoint(
    external_model: ExternalModel,
    leaderboard: Path,
    *,
    data_dir: Path,
    device: torch.device,
    workers: int = 1,
    replace: bool = False,
) -> Entry:
    """Measure the model as ours are measured, and enter it. Findings are kept in <leaderboard>/.evaluations, so that
    the same call goes on where it was stopped. Raises UserError for a file that holds other or no weights, and for a
    model that cannot be measured.
    """
    path = external_model.checkpoint
    if not path.is_file():
        raise UserError(f"expected a checkpoint or a run's folder at {path}, got nothing there; correct the path")
    protocol = (
        external_model.asked if isinstance(external_model.asked, Evaluate) else parse_protocol(external_model.asked)
    )
    name = validate_name(external_model.name or f"{path.stem}_{external_model.architecture}")
    source = load_raw_dataset(external_model.data, data_dir)
    if name in {row["name"] for row in published_entries(source.board, external_model.threat.norm)["entries"]}:
        raise UserError(f"expected a name that no model of RobustBench's has, got {name}; choose another --name")
    points, classes = source.test[: protocol.n_examples].load(), len(source.classes)
    checkpoint = read_checkpoint(path, _FIX_HINT, external_model.key)
    if checkpoint.others:
        log_info(f"{path} also holds {', '.join(checkpoint.others)}; --key chooses")
    moments = source.normalisation if external_model.standardise else ()
    model = build_model(external_model.architecture, external_model.options, points.shape, classes, *moments)
    load_weights(model, checkpoint, path, _FIX_HINT)
    choose_threads(model, points.shape, protocol.batch_size)
    kept = (
        leaderboard
        / ".evaluations"
        / files.sha256(path)[:16]
        / ("standardised" if external_model.standardise else "plain")
    )
    weights = kept / "weights.pt"
    files.save_tensors(weights, export_state_dict(model))
    score = evaluate_model(
        model.to(device),
        points,
        external_model.threat,
        protocol,
        classes=classes,
        weights_sha256=files.sha256(weights),
        parent=kept,
        workers=workers,
    ) | {
        "board": source.board,
        "whole": len(points) == len(source.test),
        "official": source.official,
        "packages": packages_of([("model", external_model.architecture), ("data", external_model.data["name"])]),
    }
    metadata = {
        "name": name,
        "link": "",
        "authors": "not told",
        "venue": "local",
        "additional_data": False,
    } | external_model.told
    own = {
        "run": f"checkpoint {files.sha256(path)}",
        "method": metadata["name"],
        "recipe": {"data": dict(external_model.data), "evaluate": protocol.model_dump(exclude_none=True)},
        "origin": {
            "checkpoint": path.name,
            "sha256": files.sha256(path),
            "key": external_model.key,
            "standardise": external_model.standardise,
        },
    }
    net = network_config(external_model.architecture, external_model.options, points.shape, classes)
    entry = Entry(leaderboard, source.board, external_model.threat.norm, name, entry_info(score, net, metadata, own))
    findings = kept / score["findings"]
    submission = Submission(
        entry,
        lambda built: built.load_state_dict(files.load_tensors(weights)),
        points=findings / "points.csv",
        examples=findings / "examples.npz",
    )
    return write_entry(submission, replace)


Outsider = ExternalModel  # the name that users know
