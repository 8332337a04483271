"""Runs that look trained, made without training: a recipe and weights drawn at random."""

from __future__ import annotations

from pathlib import Path

import torch

from rb_smooth.components.checkpoints import export_state_dict
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.training.run_folder.run import Run, run_path

TINY = ["model.width=2", "data.train_examples=128"]


def fake_run(runs: Path, method: str, *, settings: list[str] = TINY, checkpoints: tuple[int, ...] = ()) -> Run:
    """A run of digits with best.pt, last.pt and epoch-<n>.pt for each n in `checkpoints`, all different."""
    resolved = resolve_config("digits", method, [*settings, f"train.keep={list(checkpoints)}"])
    run = run_path(runs, resolved)
    run.begin(resolved)
    options = dict(resolved[-1]["model"])
    for name in ("best", *(f"epoch-{n}" for n in checkpoints), "last"):
        model = build_model(options["name"], {"width": options["width"]}, (1, 8, 8), 10, [0.3], [0.4])
        with torch.no_grad():
            model(torch.rand(16, 1, 8, 8))  # running statistics that are not their initial values
        run.save(name, export_state_dict(model))
    return run
