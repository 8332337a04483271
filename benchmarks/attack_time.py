"""AutoAttack standard by two worker processes beside pyautoattack called plainly: the same flags, sooner.

Once each, one after the other: either takes a minute. The workers are ready when the clock starts; an evaluation that
lasts for hours does not notice the seconds in which they start.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from benchmark_figure import figure
from benchmark_runs import on_digits
from pyautoattack import AutoAttack
from torch import Tensor

from rb_smooth.data.images import iterate_batches
from rb_smooth.evaluation.autoattack import run_autoattack
from rb_smooth.training.trainer import Trainer

_EPOCHS = 5
_SEED = 0


def measure(toy: bool) -> dict[str, Any]:
    trainer = _train("standard", 2) if toy else _train("at", _EPOCHS)  # standard training: all are broken at once
    points = trainer.data.test[: 20 if toy else 360]
    batch_size = 10 if toy else 90
    threat, classes = trainer.recipe.threat, len(trainer.data.source.classes)
    ((x, y),) = iterate_batches(points, len(points), trainer.device)
    with trainer.evaluation_model() as model:
        result = run_autoattack(model, points, threat, classes=classes, batch_size=batch_size, seed=_SEED, workers=2)
        theirs = AutoAttack(model, norm=threat.norm, eps=threat.eps, seed=_SEED, version="standard", device="cpu")
        theirs.verbose = False
        begun = time.monotonic()
        x_adv, _ = theirs.run_standard_evaluation(x, y, batch_size=batch_size)
        plain_s = time.monotonic() - begun
        flags = _is_correct(model, x_adv, y, batch_size)
    what = f"pyautoattack called plainly over ours with 2 workers, AutoAttack standard on {len(points)} digits"
    return {
        "figures": [figure(what, "×", [plain_s / result.seconds], at_least=1.6)],
        "flags_identical": bool(torch.equal(result.robust, flags)),
        "robust": flags.double().mean().item(),
        "batch_size": batch_size,
        "seconds": {"plainly": plain_s, "2 workers": result.seconds},
        "network": f"digits at, {_EPOCHS} epochs",
    }


def _train(method: str, epochs: int) -> Trainer:
    """At `at`, a network robust enough for every attack to have points to work on."""
    trainer = on_digits(method, f"train.epochs={epochs}", "schedule.drops=[]")
    for _ in range(epochs):
        order = trainer.batch_order()
        while trainer.batch < trainer.batches:
            trainer.run_batch(order)
        trainer.next_epoch()
    return trainer


def _is_correct(model: torch.nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)]) == y
