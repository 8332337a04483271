"""Synthetic boards and runs of any size, cloned from the smallest real entries of leaderboard/."""

from __future__ import annotations

import csv
import io
import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core import files
from rb_smooth.core.formatting import percent
from rb_smooth.core.statistics import wilson_interval

BOARD = "folder-cifar10-jpeg", "Linf"
_SOURCE = Path(__file__).parents[1] / "leaderboard"
_SEEDS = 4
"""Entries of one method."""

_PAIRS = 8


def entry_name(number: int) -> str:
    """Of the entry `number` of a synthetic board."""
    method = number // _SEEDS
    return f"{_sources()[method % 4]['method']}_s{number % _SEEDS}_{method:06x}"


def make_board(folder: Path, first: int, last: int) -> None:
    """Write the entries `first` to `last` - 1 to `folder`, each with points, a training log and pairs of images."""
    for number in range(first, last):
        source = _sources()[number // _SEEDS % 4]
        robust = source["robust"] - number * 7 % source["robust"]
        _write(folder, "points", number, "csv", _points_text(source["points"], robust))
        _write(folder, "curves", number, "csv", source["curves"])
        _write(folder, "examples", number, "npz", _pairs(number % 4))
        _write(folder, "model_info", number, "json", _info(source["info"], number, robust))


def make_runs(folder: Path, first: int, last: int) -> None:
    """Write the folders of trained and evaluated runs `first` to `last` - 1, without weights."""
    for number in range(first, last):
        source = _sources()[number // _SEEDS % 4]
        own = source["info"]["rb_smooth"]
        path = folder / "cifar10" / entry_name(number)
        path.mkdir(parents=True)
        header = {"name": own["trained_as"], "run": f"{number:032x}", **own["recipe"]}
        (path / "recipe.yaml").write_text(dump_sections(header))
        (path / "log.csv").write_bytes(source["curves"])
        score = own["score"] | {"asked": own["recipe"]["evaluate"], "model": own["model"], "title": own["method"]}
        (path / "score.json").write_text(json.dumps(score, indent=2))
        for name in ("best.pt", "last.pt"):
            (path / name).touch()


@cache
def _sources() -> list[dict[str, Any]]:
    """The four trained entries: name without seed, JSON, training log, rows of points.csv, number of robust points."""
    found = []
    for path in sorted((_SOURCE / "model_info").joinpath(*BOARD).glob("at*.json")):
        points, curves = ((_SOURCE / what).joinpath(*BOARD, f"{path.stem}.csv") for what in ("points", "curves"))
        rows = list(csv.reader(io.StringIO(points.read_text())))
        robust = sum(not row[3] for row in rows)
        method = path.stem.partition("_s0_")[0]
        texts = {"info": files.read_json(path), "curves": curves.read_bytes(), "points": rows}
        found.append({"method": method, "robust": robust, **texts})
    return found


def _write(folder: Path, what: str, number: int, suffix: str, content: bytes) -> None:
    path = folder.joinpath(what, *BOARD, f"{entry_name(number)}.{suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _points_text(rows: list[list[str]], robust: int) -> bytes:
    """The points with all but the first `robust` robust ones broken."""
    seen, lines = 0, []
    for row in rows:
        seen += not row[3]
        lines.append(",".join([*row[:3], "apgd-ce", ""] if not row[3] and seen > robust else row))
    return ("\n".join(lines) + "\n").encode()


def _info(source: dict[str, Any], number: int, robust: int) -> bytes:
    info = deepcopy(source)
    own, n = info["rb_smooth"], info["rb_smooth"]["score"]["n"]
    own["run"] = f"{number:032x}"
    own["recipe"]["train"]["seed"] = number % _SEEDS
    clean = own["score"]["clean"] + (number * 13 % 40 - 20) / n
    own["score"] |= {"clean": clean, "autoattack": robust / n, "interval": wilson_interval(robust, n)}
    info |= {"clean_acc": percent(clean)} | dict.fromkeys(("autoattack_acc", "reported"), percent(robust / n))
    return (json.dumps(info, indent=2) + "\n").encode()


@cache
def _pairs(seed: int) -> bytes:
    """An examples.npz of smooth random images."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (_PAIRS, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    x = np.clip(coarse + rng.integers(-12, 13, (_PAIRS, 3, 32, 32)), 0, 255).astype(np.uint8)
    x_adv = np.clip(x / 255 + rng.choice([-8 / 255, 8 / 255], x.shape), 0, 1).astype(np.float32)
    names = ("index", "label", "clean_prediction", "adversarial_prediction")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=x, x_adv=x_adv, **{name: np.arange(_PAIRS) for name in names})
    return buffer.getvalue()
