"""Write an entry: its JSON, and weights in a file that RobustBench's own loader reads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.core.input_files import regular_file
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, check_entry, link_or_copy, read_entry, sweep_leftovers
from rb_smooth.leaderboard.metadata import architecture_name, paper_link, used_extra_data
from rb_smooth.leaderboard.zoo import build_entry_network
from rb_smooth.training.run_folder.run import Run

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Submission:
    """An entry to be written. load: loads the weights into a network. results: the folder of its evaluation, with
    points.csv and examples.npz. log: the training log. Any of the files may be missing.
    """

    entry: Entry
    load: Callable[[nn.Module], object]
    results: Path | None = None
    log: Path | None = None


def submit(run: Run, leaderboard: Path, replace: bool = False) -> Entry:
    """Write an entry with the run's best weights; see `write_entry`."""
    score = run.score
    if score is None:
        raise UserError(
            f"expected an evaluated run in {run.path}, got no score.json; run the recipe again, which resumes it"
        )
    results = run.path / score["findings"] if "findings" in score else None
    entry = _entry(run, score, leaderboard)
    return write_entry(
        Submission(entry, lambda model: run.load_into(model, "best"), results, run.path / "log.csv"), replace
    )


def write_entry(submission: Submission, replace: bool = False) -> Entry:
    """Export the weights, check that they load with equal logits, and write the entry with its files.

    An entry of the same run is replaced. `replace` is needed for an entry of another run with the same name, and if the
    new evaluation has fewer points or another attack. The replaced entry is moved to <leaderboard>/replaced/. If this
    fails, the board is unchanged.
    """
    entry = check_entry(submission.entry)
    board = entry.leaderboard
    sweep_leftovers(board)
    board.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(board / ".lock"):
        if entry.path.exists() and not replace:
            existing = read_entry(entry.path)
            if existing.own["run"] != entry.own["run"]:
                raise UserError(f"expected {entry.path} to be this run's, got another run's entry; use --replace")
            if _is_current(existing, entry):
                return existing
            _check_not_weaker(existing, entry)
        with tempfile.TemporaryDirectory(dir=board, prefix=".checking-") as folder:
            checked = _export_checked(submission, Path(folder))
            entry.own["weights_sha256"] = files.sha256(checked)
            _archive_entry(entry)
            entry.weights.parent.mkdir(parents=True, exist_ok=True)
            checked.replace(entry.weights)
        results = submission.results
        for source, target in (
            (results and results / "points.csv", entry.points),
            (results and results / "examples.npz", entry.examples),
            (submission.log, entry.curves),
        ):
            target.unlink(missing_ok=True)
            if source is not None and source.exists():
                files.write_bytes(target, regular_file(source).read_bytes())
        files.write_json(entry.path, entry.info)
    return entry


def is_entered(run: Run, leaderboard: Path) -> bool:
    """Return whether the board has the entry that `submit` would write. Does not import torch."""
    if (score := run.score) is None:
        return False
    entry = _entry(run, score, leaderboard)
    return entry.path.exists() and _is_current(read_entry(entry.path), entry)


def entry_info(
    score: dict[str, Any], model: dict[str, Any], metadata: dict[str, Any], own_block: dict[str, Any]
) -> dict[str, Any]:
    """Return an entry's JSON: RobustBench's fields, and our block of score, model and `own_block`.

    metadata: name, authors, link, venue, additional_data.
    """
    doubts = [f"{check['name']}: {check['found']}" for check in score["checks"] if check["verdict"] == "unreliable"]
    values = {key: value for key, value in score.items() if key not in ("model", "title", "board", "versions")}
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
            "score": values,
            "versions": score["versions"],
            "commit": git_commit(),
        },
    }


def _entry(run: Run, score: dict[str, Any], leaderboard: Path) -> Entry:
    recipe = run.recipe
    sections = recipe.sections | {"evaluate": score["asked"]}
    model, seed = score["model"], sections["train"]["seed"]
    name = validate_name(f"{recipe.method}_{model['name']}_s{seed}{recipe.suffix('_')}")
    is_standard = score["version"] == "standard"
    metadata = {
        "link": paper_link(sections),
        "name": f"{score['title']} (rb_smooth{'' if is_standard else '; ' + attack_title(score)})",
        "authors": "local entry",
        "venue": "local",
        "additional_data": used_extra_data(sections, score),
    }
    own = {
        "run": run.identity,
        "method": score["title"],
        "trained_as": f"{recipe.dataset}/{recipe.method}",
        "recipe": sections,
    }
    info = entry_info({"checks": []} | score, model, metadata, own)
    return Entry(leaderboard, score["board"], score["threat"]["norm"], name, info)


def _is_current(existing: Entry, entry: Entry) -> bool:
    """Return whether the existing entry equals `entry` and its weights are present."""
    same = all(existing.own.get(key) == entry.own[key] for key in ("run", "recipe", "score"))
    return same and existing.has_measured_weights


def _check_not_weaker(existing: Entry, entry: Entry) -> None:
    """Raise UserError if `entry` has fewer points than the existing one, or another threat or attack."""
    old, new = existing.own["score"], entry.own["score"]
    if new["n"] < old["n"] or existing.protocol()[:3] != entry.protocol()[:3]:
        raise UserError(
            f"expected {entry.path} to be replaced by an evaluation like its own, {old['n']} points at eps "
            f"{eps_text(old['threat']['eps'])}, got {new['n']} at {eps_text(new['threat']['eps'])}; use --replace"
        )


def _archive_entry(entry: Entry) -> None:
    """Copy the existing entry and its files to <leaderboard>/replaced/, under a unique name."""
    if not entry.path.exists():
        return
    unique_name = f"{entry.name}-{files.sha256(entry.path)[:8]}"
    folder = entry.leaderboard / "replaced" / entry.dataset / entry.threat / unique_name
    for path in (entry.path, entry.weights, entry.points, entry.examples, entry.curves):
        copy = folder / path.name
        if path.exists() and not copy.exists():
            link_or_copy(path, copy)


def _export_checked(submission: Submission, folder: Path) -> Path:
    """Export the weights, and check that RobustBench's loader returns a model with equal logits.

    The model is registered in RobustBench's table only during this check.
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
