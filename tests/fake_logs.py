"""Logs of runs that never ran, and the folders that would hold them."""

from __future__ import annotations

import json

import fake_entries

from rb_smooth.config import yaml
from rb_smooth.training.run_folder.run import Run


def log_rows(epochs=3, best=1, **more):
    """`more`: further columns, each a function of the epoch."""
    return [
        {
            "epoch": epoch,
            "lr": 0.1,
            "loss": 2.0 - epoch / epochs,
            "train_robust": 0.3,
            "val_clean": 0.6 + 0.01 * epoch,
            "val_robust": 0.5 - 0.02 * abs(epoch - best),
            "best": epoch <= best,
            "seconds": 10.0,
            **{name: value(epoch) for name, value in more.items()},
        }
        for epoch in range(epochs)
    ]


def write_run(path, log=None, epochs=3, lr=0.1, score=None):
    """A run folder without weights: recipe.yaml, and log.csv and score.json where they are given."""
    path.mkdir(parents=True)
    sections = {"train": {"epochs": epochs, "seed": 0}, "optimizer": {"name": "sgd", "lr": lr}}
    (path / "recipe.yaml").write_text(yaml.dump_sections({"name": "digits/at", "run": path.name, **sections}))
    run = Run(path)
    if log is not None:
        run.write_log(log)
    if score is not None:
        (path / "last.pt").touch()
        (path / "score.json").write_text(json.dumps(score))
    return run


SCORE = fake_entries.SCORE | {
    **{"asked": {}, "title": "at", "board": "digits", "versions": {}, "interval": [0.4, 0.6], "n": 360},
    **{"clean": 0.9, "pgd20": 0.55, "autoattack": 0.5, "version": "standard", "last": {"clean": 0.9, "pgd20": 0.52}},
    "model": {"name": "small_preactresnet", "options": {}, "shape": [1, 8, 8], "classes": 10},
}
