"""The local leaderboard: a run's best weights become an entry that loads through RobustBench, ranked among equals."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import filelock
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth import bridge, files
from rb_smooth.entries import Entry, attack_title, check_name, eps_text, listed, percent, published, read_entry
from rb_smooth.provenance import commit
from rb_smooth.refusal import Refused
from rb_smooth.run_folder import Run, variant
from rb_smooth.sections import SECTIONS, STAGED
from rb_smooth.zoo import build

_NEIGHBOURS = 4
"""Published entries shown above and below ours."""

_WIDE = 20
"""Characters of a heading that is folded rather than the model's name."""

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


def standings(mine: Entry) -> list[Table | str]:
    """What to print: the board with `mine` in its place, what cannot be ranked against it and why, and complaints."""
    entries, complaints = listed(mine.leaderboard, mine.dataset, mine.threat)
    ranked = [_own_row(entry, entry.name == mine.name) for entry in entries if entry.protocol() == mine.protocol()]
    others = [(entry, _why_apart(entry, mine)) for entry in entries if entry.protocol() != mine.protocol()]
    board = published(mine.dataset, mine.threat)
    note = _why_unranked(mine, board)
    if not note:
        ranked += [_published_row(entry) for entry in _of_equal_eps(mine, board)]
    ranked.sort(key=lambda row: (-row["robust"], row["cells"]))
    table = _table(mine)
    for rank, row in _around_ours(ranked):
        table.add_row(*([str(rank), *row["cells"]] if row else ["…"]), style="bold" if row and row["mine"] else None)
    lines: list[Table | str] = [table]
    if note:
        lines.append(note)
    elif board["entries"]:
        lines.append(f"published entries: {board['source']}, {board['date']}")
    lines += [f"not ranked: {entry.name}, {_figure(entry)} ({why})" for entry, why in others]
    return lines + list(complaints)


def _table(mine: Entry) -> Table:
    score = mine.own["score"]
    norm, eps = score["threat"]["norm"], eps_text(score["threat"]["eps"])
    table = Table(
        title=f"{mine.dataset} {norm} eps {eps}, {score['n']} test points", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    for column in ("clean", "PGD-20", attack_title(score), "95 % interval"):
        table.add_column(column, justify="right", no_wrap=len(column) < _WIDE)
    return table


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


def _own_row(entry: Entry, mine: bool) -> dict[str, Any]:
    score = entry.own["score"]
    low, high = score["interval"]
    return {
        "robust": score["autoattack"],
        "mine": mine,
        "ours": True,
        "cells": [
            entry.name + (" (selected on test)" if score.get("selected_on") == "test" else ""),
            f"{score['clean']:.2%}",
            f"{score['pgd20']:.2%}",
            f"{score['autoattack']:.2%}",
            f"{low:.1%} – {high:.1%}",
        ],
    }


def _figure(entry: Entry) -> str:
    return f"{attack_title(entry.own['score'])} {entry.info['autoattack_acc']} %"


def _published_row(entry: dict[str, Any]) -> dict[str, Any]:
    """Ranked, as RobustBench does, by the lowest accuracy that any attack is known to leave."""
    lower = entry["best_known"] < entry["autoattack"]
    remarks = [f"{entry['best_known']:.2%} by others"] if lower else []
    remarks += ["unreliable"] if entry["unreliable"] else []
    cells = [entry["name"], f"{entry['clean']:.2%}", "", f"{entry['autoattack']:.2%}", ", ".join(remarks)]
    return {"robust": entry["best_known"], "mine": False, "ours": False, "cells": cells}


def _around_ours(ranked: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any] | None]]:
    """Rank and row: the best, ours, and their neighbours; None stands for a gap. Equal models share a rank."""
    ours = [place for place, row in enumerate(ranked) if row["ours"]]
    shown = [
        place
        for place in range(len(ranked))
        if place < _NEIGHBOURS or any(abs(place - each) <= _NEIGHBOURS for each in ours)
    ]
    rows: list[tuple[int, dict[str, Any] | None]] = []
    for before, place in zip([-1, *shown], shown, strict=False):
        if place != before + 1:
            rows.append((0, None))
        better = sum(row["robust"] > ranked[place]["robust"] for row in ranked)
        rows.append((better + 1, ranked[place]))
    return [*rows, (0, None)] if shown and shown[-1] != len(ranked) - 1 else rows


def _why_unranked(mine: Entry, board: dict[str, Any]) -> str:
    """Why the published entries are not ranked with ours; empty if they are."""
    score = mine.own["score"]
    if not board["entries"]:
        return ""
    if score["version"] != "standard":
        return f"published entries not ranked: their figures are AutoAttack's, this one an {attack_title(score)}"
    if not score["official"]:
        return "published entries not ranked: these test points do not come from the official files"
    if not score["whole"]:
        return f"published entries not ranked: {score['n']} points here, the whole test set there"
    if not _of_equal_eps(mine, board):
        return f"published entries not ranked: none has eps {eps_text(score['threat']['eps'])}"
    return ""


def _of_equal_eps(mine: Entry, board: dict[str, Any]) -> list[dict[str, Any]]:
    """The published entries in whose ball ours was attacked: 8/255 is not 0.031."""
    eps = mine.own["score"]["threat"]["eps"]
    return [entry for entry in board["entries"] if abs(_number(entry["eps"]) - eps) < 1e-9]


def _why_apart(entry: Entry, mine: Entry) -> str:
    names = ("norm", "eps", "attack", "number of points", "test points")
    return ", ".join(
        f"other {name}" for name, a, b in zip(names, entry.protocol(), mine.protocol(), strict=True) if a != b
    )


def _number(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)
