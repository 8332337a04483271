"""AutoAttack standard by two worker processes beside pyautoattack called plainly: the same flags, sooner.

Once each, one after the other: either takes a minute. The workers are ready when the clock starts; an evaluation that
lasts for hours does not notice the seconds in which they start.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from figures import figure
from pyautoattack import AutoAttack
from subjects import on_digits
from torch import Tensor

from rb_smooth.data.images import batches
from rb_smooth.evaluation.autoattack import autoattack
from rb_smooth.training.trainer import Session

_EPOCHS = 5
_SEED = 0


def measure(toy: bool) -> dict[str, Any]:
    session = _trained("standard", 2) if toy else _trained("at", _EPOCHS)  # standard training: all are broken at once
    points = session.data.test[: 20 if toy else 360]
    batch_size = 10 if toy else 90
    threat, classes = session.recipe.threat, len(session.data.source.classes)
    ((x, y),) = batches(points, len(points), session.device)
    with session.deployed() as model:
        result = autoattack(model, points, threat, classes=classes, batch_size=batch_size, seed=_SEED, workers=2)
        theirs = AutoAttack(model, norm=threat.norm, eps=threat.eps, seed=_SEED, version="standard", device="cpu")
        theirs.verbose = False
        begun = time.monotonic()
        x_adv, _ = theirs.run_standard_evaluation(x, y, batch_size=batch_size)
        plain_s = time.monotonic() - begun
        flags = _right(model, x_adv, y, batch_size)
    what = f"pyautoattack called plainly over ours with 2 workers, AutoAttack standard on {len(points)} digits"
    return {
        "figures": [figure(what, "×", [plain_s / result.seconds], at_least=1.6)],
        "flags_identical": bool(torch.equal(result.robust, flags)),
        "robust": flags.double().mean().item(),
        "batch_size": batch_size,
        "seconds": {"plainly": plain_s, "2 workers": result.seconds},
        "network": f"digits at, {_EPOCHS} epochs",
    }


def _trained(method: str, epochs: int) -> Session:
    """At `at`, a network robust enough for every attack to have points to work on."""
    session = on_digits(method, f"train.epochs={epochs}", "schedule.drops=[]")
    for _ in range(epochs):
        order = session.order()
        while session.batch < session.batches:
            session.run_batch(order)
        session.next_epoch()
    return session


def _right(model: torch.nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)]) == y
