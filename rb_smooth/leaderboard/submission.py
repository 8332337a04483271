"""How weights enter the board: in a file that RobustBench's own loader takes back, and an entry that tells of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from rb_smooth.config.sections import SECTIONS
from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, read_entry
from rb_smooth.leaderboard.metadata import architecture_name, paper_link, used_extra_data
from rb_smooth.leaderboard.zoo import build_entry_network
from rb_smooth.training.run_folder.run import Run, config_suffix

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Submission:
    """What asks to be entered. load: gives a built network its weights. What is told beside the entry, each in a file
    of its own: None, or a path where nothing is, if there is no such thing.
    """

    entry: Entry
    load: Callable[[nn.Module], object]
    points: Path | None = None
    examples: Path | None = None
    curves: Path | None = None


def submit(run: Run, leaderboard: Path, replace: bool = False) -> Entry:
    """Enter the run's best weights; see `write_entry`."""
    score = run.score
    if score is None:
        raise UserError(f"expected an evaluated run in {run.path}, got no score.json; run the recipe again, it goes on")
    findings = run.path / score["findings"] if "findings" in score else None
    return write_entry(
        Submission(
            _entry(run, score, leaderboard),
            lambda model: run.load_into(model, "best"),
            points=findings and findings / "points.csv",
            examples=findings and findings / "examples.npz",
            curves=run.path / "log.csv",
        ),
        replace,
    )


def write_entry(submission: Submission, replace: bool = False) -> Entry:
    """Export the weights, see them load back with equal logits, and write the entry with all that belongs to it.

    The run's own entry is replaced, unless that would put fewer points or another attack in the place of a finished
    evaluation; that, and another run's entry of the same name, needs `replace`. Whatever is replaced is kept, in
    <leaderboard>/replaced/. What fails leaves the board as it was.
    """
    entry = submission.entry
    board = entry.leaderboard
    board.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(board / ".lock"):
        if entry.path.exists() and not replace:
            there = read_entry(entry.path)
            if there.own["run"] != entry.own["run"]:
                raise UserError(f"expected {entry.path} to be this run's, got another run's entry; use --replace")
            if _is_current(there, entry):
                return there
            _check_not_weaker(there, entry)
        with tempfile.TemporaryDirectory(dir=board, prefix=".checking-") as folder:
            checked = _export_checked(submission, Path(folder))
            entry.own["weights_sha256"] = files.sha256(checked)
            _archive_entry(entry)
            entry.weights.parent.mkdir(parents=True, exist_ok=True)
            checked.replace(entry.weights)
        for source, target in (
            (submission.points, entry.points),
            (submission.examples, entry.examples),
            (submission.curves, entry.curves),
        ):
            target.unlink(missing_ok=True)
            if source is not None and source.exists():
                files.write_bytes(target, source.read_bytes())
        files.write_json(entry.path, entry.info)
    return entry


def is_entered(run: Run, leaderboard: Path) -> bool:
    """Whether the board holds what `submit` would put there. Costs no torch."""
    if (score := run.score) is None:
        return False
    entry = _entry(run, score, leaderboard)
    return entry.path.exists() and _is_current(read_entry(entry.path), entry)


def entry_info(
    score: dict[str, Any], model: dict[str, Any], metadata: dict[str, Any], own_block: dict[str, Any]
) -> dict[str, Any]:
    """An entry's JSON: RobustBench's curated fields, of which `metadata` holds those that no evaluation can know (name,
    authors, link, venue, additional_data), and our block: the score, the model and `own_block`.
    """
    doubts = [f"{check['name']}: {check['found']}" for check in score["checks"] if check["verdict"] == "unreliable"]
    shown = {key: value for key, value in score.items() if key not in ("model", "title", "board", "versions")}
    return {
        "link": metadata["link"],
        "name": metadata["name"],
        "authors": metadata["authors"],
        "additional_data": metadata["additional_data"],
        "number_forward_passes": 1,
        "dataset": score["board"],
        "venue": metadata["venue"],
        "architecture": architecture_name(model),
        "eps": eps_text(score["threat"]["eps"]),
        "clean_acc": percent(score["clean"]),
        "reported": percent(score["autoattack"]),
        "autoattack_acc": percent(score["autoattack"]),
        "unreliable": bool(doubts),
        **({"footnote": "; ".join(doubts)} if doubts else {}),
        "rb_smooth": {
            **own_block,
            "model": model,
            "score": shown,
            "versions": score["versions"],
            "commit": git_commit(),
        },
    }


def _entry(run: Run, score: dict[str, Any], leaderboard: Path) -> Entry:
    header = run.header
    dataset, _, method = header["name"].partition("/")
    sections = {key: header[key] for key in SECTIONS} | {"evaluate": score["asked"]}
    model, seed = score["model"], sections["train"]["seed"]
    name = validate_name(f"{method}_{model['name']}_s{seed}{config_suffix(dataset, method, sections, '_')}")
    is_standard = score["version"] == "standard"
    metadata = {
        "link": paper_link(sections),
        "name": f"{score['title']} (rb_smooth{'' if is_standard else '; ' + attack_title(score)})",
        "authors": "local entry",
        "venue": "local",
        "additional_data": used_extra_data(sections, score),
    }
    own = {"run": run.identity, "method": score["title"], "trained_as": header["name"], "recipe": sections}
    info = entry_info({"checks": []} | score, model, metadata, own)
    return Entry(leaderboard, score["board"], score["threat"]["norm"], name, info)


def _is_current(existing: Entry, entry: Entry) -> bool:
    """Whether the entry that is there says what `entry` would say, and its weights are in place."""
    same = all(existing.own.get(key) == entry.own[key] for key in ("run", "recipe", "score"))
    return same and existing.has_measured_weights


def _check_not_weaker(existing: Entry, entry: Entry) -> None:
    """A look at fewer points, or with another attack, must not cost the long evaluation that is on the board."""
    old, new = existing.own["score"], entry.own["score"]
    if new["n"] < old["n"] or existing.protocol()[:3] != entry.protocol()[:3]:
        raise UserError(
            f"expected {entry.path} to be replaced by an evaluation like its own, {old['n']} points at eps "
            f"{eps_text(old['threat']['eps'])}, got {new['n']} at {eps_text(new['threat']['eps'])}; use --replace"
        )


def _archive_entry(entry: Entry) -> None:
    """A copy of the entry that is there, and of all that belongs to it, under a name that tells it from others."""
    if not entry.path.exists():
        return
    place = (
        entry.leaderboard / "replaced" / entry.dataset / entry.threat / f"{entry.name}-{files.sha256(entry.path)[:8]}"
    )
    place.mkdir(parents=True, exist_ok=True)
    for path in (entry.path, entry.weights, entry.points, entry.examples, entry.curves):
        kept = place / path.name
        if path.exists() and not kept.exists():
            try:
                os.link(path, kept)  # costs no space; every file is replaced whole, none is written into
            except OSError:  # a disk without links
                shutil.copyfile(path, kept)


def _export_checked(submission: Submission, folder: Path) -> Path:
    """The weights as a file which RobustBench's own loader turns into the trained model's very logits.

    The file is loaded under a name that RobustBench's table holds for the time of this check alone.
    """
    import torch

    entry = submission.entry
    trained = build_entry_network(entry)
    submission.load(trained)
    path = folder / "cifar10" / "Linf" / "checked.pt"
    files.save_tensors(path, trained.state_dict())
    table = robustbench.zoo_table("cifar10", "Linf")
    table["checked"] = {"model": lambda: build_entry_network(entry), "gdrive_id": "never downloaded: the file is there"}
    try:
        loaded = robustbench.import_robustbench().utils.load_model("checked", model_dir=folder)
    finally:
        del table["checked"]
    x = torch.rand(8, *entry.own["model"]["shape"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if not torch.equal(trained.eval()(x), loaded(x)):
            raise UserError(
                f"expected {entry.name} to load back with equal logits, got different ones; please report it"
            )
    return path
