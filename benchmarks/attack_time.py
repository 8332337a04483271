"""Time of AutoAttack standard: ours with two worker processes relative to pyautoattack, which finds the same flags.

Each runs once: either takes a minute. The time in which workers start is not counted.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from benchmark_figure import figure
from benchmark_runs import on_digits, train_epochs
from torch import Tensor, nn

from rb_smooth.core.robustbench_shims import isolate_autoattack
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images, iterate_batches
from rb_smooth.evaluation.autoattack import run_autoattack

_EPOCHS = 5
"""Enough for points that withstand every attack."""

_SEED = 0


def measure(toy: bool) -> dict[str, Any]:
    method, epochs = ("standard", 2) if toy else ("at", _EPOCHS)  # after standard training all points break at once
    trainer = on_digits(method, f"train.epochs={epochs}", "schedule.drops=[]")
    train_epochs(trainer)
    points, batch_size = (20, 10) if toy else (360, 90)
    with trainer.evaluation_model() as model:
        found = compare_with_pyautoattack(
            model, trainer.data.test[:points], trainer.recipe.threat, len(trainer.data.source.classes), batch_size, 2
        )
    what = f"AutoAttack standard on {points} digits: time of pyautoattack / ours with 2 workers"
    seconds = found["seconds"]
    return {
        "figures": [figure(what, "×", [seconds["pyautoattack"] / seconds["ours"]], at_least=1.6)],
        "flags_identical": found["flags_that_differ"] == 0,
        "robust": found["robust"],
        "batch_size": batch_size,
        "seconds": seconds,
        "network": f"digits {method}, {epochs} epochs",
    }


def compare_with_pyautoattack(
    model: nn.Module, points: Images, threat: Threat, classes: int, batch_size: int, workers: int = 1
) -> dict[str, Any]:
    """Seconds of both, the share of robust points, and how many points have another flag. `model` is in eval mode."""
    device = next(model.parameters()).device
    result = run_autoattack(model, points, threat, classes=classes, batch_size=batch_size, seed=_SEED, workers=workers)
    ((x, y),) = iterate_batches(points, len(points), device)
    begun = time.perf_counter()
    flags = _pyautoattack_flags(model, x, y, threat, batch_size)
    seconds = {"pyautoattack": time.perf_counter() - begun, "ours": result.seconds}
    return {
        "robust": flags.double().mean().item(),
        "seconds": seconds,
        "flags_that_differ": int((result.robust != flags).sum()),
    }


def _pyautoattack_flags(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, batch_size: int) -> Tensor:
    from pyautoattack import AutoAttack

    with isolate_autoattack():
        adversary = AutoAttack(
            model, norm=threat.norm, eps=threat.eps, seed=_SEED, version="standard", device=str(x.device)
        )
        adversary.verbose = False
        x_adv, _ = adversary.run_standard_evaluation(x, y, batch_size=batch_size)
        with torch.no_grad():
            return torch.cat([model(part).argmax(1) for part in x_adv.split(batch_size)]).cpu() == y.cpu()
