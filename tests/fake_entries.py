"""Fake entries of a board: official CIFAR-10 by default."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from rich.console import Console

from rb_smooth.core import files, formatting
from rb_smooth.leaderboard.entries import Entry

SCORE = {
    "clean": 0.8,
    "pgd20": 0.6,
    "autoattack": 0.5,
    "interval": [0.49, 0.51],
    "attacks": {"apgd-ce": {"robust": 0.55, "seconds": 90.0}, "apgd-t": {"robust": 0.5, "seconds": 7200.0}},
    "warnings": [],
    "last": {"clean": 0.82, "pgd20": 0.55},
    "n": 10_000,
    "whole": True,
    "official": True,
    "fingerprint": "f" * 64,
    "threat": {"norm": "Linf", "eps": 8 / 255, "step_size": 2 / 255},
    "version": "standard",
    "seed": 0,
    "batch_size": 200,
    "processes": 1,
    "backend": "pyautoattack 0.2.0",
    "commit": "c" * 40,
    "selected_on": "validation",
    "training": {"device": "cuda", "seconds": 5400.0, "precision": "bf16"},
    "seconds": 7290.0,
    "checks": [{"name": "deterministic", "verdict": "passed", "found": "logits equal twice over"}],
}
RECIPE = {
    "data": {"name": "cifar10"},
    "model": {"name": "resnet18"},
    "objective": {"name": "at", "eps": 8 / 255},
    "perturbation": {"name": "none"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "averaging": {"name": "none"},
    "schedule": {"name": "constant"},
    "train": {"epochs": 200, "seed": 0},
    "evaluate": {"version": "standard"},
}


def make_entry(
    folder: Path, name: str, *, dataset="cifar10", model=None, recipe=None, metadata=None, own=None, **changed
) -> Entry:
    """An entry written to `folder`. changed: of its score; metadata: of RobustBench's fields; own: of our block."""
    score = deepcopy(SCORE) | changed
    block = {
        "run": "1234",
        "method": "at",
        "recipe": deepcopy(RECIPE) | (recipe or {}),
        "model": model or {"name": "resnet18", "options": {}, "shape": [3, 32, 32], "classes": 10},
        "versions": {"torch": "2.0", "robustbench": "1.1.1"},
        "commit": "c" * 40,
        "weights_sha256": "0" * 64,
        "score": score,
    } | (own or {})
    info = {
        "link": "https://arxiv.org/abs/1706.06083",
        "name": "at (rb_smooth)",
        "authors": "local entry",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": dataset,
        "venue": "local",
        "architecture": "ResNet-18",
        "eps": formatting.eps_text(score["threat"]["eps"]),
        "clean_acc": formatting.percent(score["clean"]),
        "reported": formatting.percent(score["autoattack"]),
        "autoattack_acc": formatting.percent(score["autoattack"]),
        "unreliable": False,
    } | (metadata or {})
    entry = Entry(folder, dataset, score["threat"]["norm"], name, info | {"rb_smooth": block})
    files.write_json(entry.path, entry.info)
    return entry


def add_weights(entry: Entry, weights: dict) -> Entry:
    """Weights with the SHA-256 of the entry."""
    files.save_tensors(entry.weights, weights)
    entry.own["weights_sha256"] = files.sha256(entry.weights)
    files.write_json(entry.path, entry.info)
    return entry


def add_points(entry: Entry, robust: list[bool], correct: list[bool] | None = None) -> Entry:
    """points.csv of these flags. correct: right unattacked, all by default."""
    rows = ["index,label,clean_prediction,broken_by,margin"]
    for index, (stands, clean) in enumerate(zip(robust, correct or [True] * len(robust))):
        broken_by = "" if stands else "apgd-ce" if clean else "clean"
        rows.append(f"{index},3,{3 if clean else 4},{broken_by},{0.25 if stands else ''}")
    files.write_text(entry.points, "\n".join(rows) + "\n")
    return entry


def rendered(lines: list) -> str:
    console = Console(width=120, record=True, markup=False, highlight=False, file=open("/dev/null", "w"))  # noqa: SIM115
    for each in lines:
        console.print(each, soft_wrap=isinstance(each, str))
    return console.export_text()
