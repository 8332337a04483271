"""How a run enters the board: its best weights as a file that RobustBench's own loader takes back, and its entry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import filelock

from rb_smooth import bridge, files
from rb_smooth.entries import Entry, attack_title, check_name, eps_text, percent, read_entry
from rb_smooth.provenance import commit
from rb_smooth.refusal import Refused
from rb_smooth.run_folder import Run, variant
from rb_smooth.sections import SECTIONS, STAGED
from rb_smooth.zoo import build

_PAPERS = {
    "entropy_sgd": "https://arxiv.org/abs/2103.01400",
    "entropy_sgd2": "https://arxiv.org/abs/2103.01400",
    "awp": "https://arxiv.org/abs/2004.05884",
    "trades": "https://arxiv.org/abs/1901.08573",
    "mart": "https://openreview.net/forum?id=rklOg6EFwS",
    "at": "https://arxiv.org/abs/1706.06083",
}
"""Of an entry's methods the first of these that it used, in any stage, is its link."""


def submit(run: Run, leaderboard: Path, replace: bool = False) -> Entry:
    """Export the run's best weights, see them load back with equal logits, and write the entry.

    The run's own entry is replaced, unless that would put fewer points or another attack in the place of a finished
    evaluation; that, and another run's entry of the same name, needs `replace`. What fails leaves the board as it was.
    """
    score = run.score
    if score is None:
        raise Refused(f"expected an evaluated run in {run.path}, got no score.json; run the recipe again, it goes on")
    entry = _entry(run, score, leaderboard)
    leaderboard.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(leaderboard / ".lock"):
        if entry.path.exists() and not replace:
            there = read_entry(entry.path)
            if there.own["run"] != run.identity:
                raise Refused(f"expected {entry.path} to be this run's, got another run's entry; use --replace")
            if _is_current(there, entry):
                return there
            _refuse_less(there, entry)
        with tempfile.TemporaryDirectory(dir=leaderboard, prefix=".checking-") as folder:
            checked = _checked_export(entry, run, Path(folder))
            entry.own["weights_sha256"] = files.sha256(checked)
            entry.weights.parent.mkdir(parents=True, exist_ok=True)
            checked.replace(entry.weights)
        files.write_json(entry.path, entry.info)
    return entry


def is_entered(run: Run, leaderboard: Path) -> bool:
    """Whether the board holds what `submit` would put there. Costs no torch."""
    if (score := run.score) is None:
        return False
    entry = _entry(run, score, leaderboard)
    return entry.path.exists() and _is_current(read_entry(entry.path), entry)


def _entry(run: Run, score: dict[str, Any], leaderboard: Path) -> Entry:
    header = run.header
    dataset, _, method = header["name"].partition("/")
    sections = {key: header[key] for key in SECTIONS}
    model, seed = score["model"], sections["train"]["seed"]
    name = check_name(f"{method}_{model['name']}_s{seed}{variant(dataset, method, sections, '_')}")
    threat = score["threat"]
    staged = [sections[key] for key in STAGED]
    is_standard = score["version"] == "standard"
    used = {stage["name"] for stages in staged for stage in (stages if isinstance(stages, list) else [stages])}
    info = {
        "link": next((link for name, link in _PAPERS.items() if name in used), ""),
        "name": f"{score['title']} (rb_smooth{'' if is_standard else '; ' + attack_title(score)})",
        "authors": "local entry",
        "additional_data": sections["data"].get("extra") is not None or sections["train"].get("start") is not None,
        "number_forward_passes": 1,
        "dataset": score["board"],
        "venue": "local",
        "architecture": model["name"],
        "eps": eps_text(threat["eps"]),
        "clean_acc": percent(score["clean"]),
        "reported": percent(score["autoattack"]),
        "autoattack_acc": percent(score["autoattack"]),
        "unreliable": False,
        "rb_smooth": {
            "run": run.identity,
            "method": score["title"],
            "recipe": sections,
            "model": model,
            "score": {key: value for key, value in score.items() if key not in ("model", "title", "board", "versions")},
            "versions": score["versions"],
            "commit": commit(),
        },
    }
    return Entry(leaderboard, score["board"], threat["norm"], name, info)


def _is_current(there: Entry, entry: Entry) -> bool:
    """Whether the entry that is there says what `entry` would say, and its weights are in place."""
    same = all(there.own.get(key) == entry.own[key] for key in ("run", "recipe", "score"))
    return same and there.weights.exists() and files.sha256(there.weights) == there.own.get("weights_sha256")


def _refuse_less(there: Entry, entry: Entry) -> None:
    """A look at fewer points, or with another attack, must not cost the long evaluation that is on the board."""
    old, new = there.own["score"], entry.own["score"]
    if new["n"] < old["n"] or there.protocol()[:3] != entry.protocol()[:3]:
        raise Refused(
            f"expected {entry.path} to be replaced by an evaluation like its own, {old['n']} points at eps "
            f"{eps_text(old['threat']['eps'])}, got {new['n']} at {eps_text(new['threat']['eps'])}; use --replace"
        )


def _checked_export(entry: Entry, run: Run, folder: Path) -> Path:
    """The run's best weights as a file which RobustBench's own loader turns into the trained model's very logits.

    The file is loaded under a name that RobustBench's table holds for the time of this check alone.
    """
    import torch

    trained = build(entry)
    run.load_into(trained, "best")
    path = folder / "cifar10" / "Linf" / "checked.pt"
    files.save_tensors(path, trained.state_dict())
    table = bridge.zoo_table("cifar10", "Linf")
    table["checked"] = {"model": lambda: build(entry), "gdrive_id": "never downloaded: the file is there"}
    try:
        loaded = bridge.robustbench().utils.load_model("checked", model_dir=folder)
    finally:
        del table["checked"]
    x = torch.rand(8, *entry.own["model"]["shape"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if not torch.equal(trained.eval()(x), loaded(x)):
            raise Refused(f"expected {entry.name} to load back with equal logits, got different ones; please report it")
    return path
