"""Signs that training has gone wrong: stopped where it cannot go on, reported where a reader should know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from rb_smooth import files
from rb_smooth.refusal import Refused
from rb_smooth.run_folder import Run
from rb_smooth.session import Session

Row = dict[str, Any]

_ONE_CLASS = 0.95
"""Share of predictions for one class above which a net has collapsed to a constant; of balanced images."""

_ABOVE_GUESSING = 1.2
"""Times the cross-entropy of equal probabilities: a loss that no net need have after a few epochs."""

_NEAR_ZERO, _STAYS = 0.1, 0.5
"""Catastrophic overfitting: PGD accuracy below this part of its best, FGSM accuracy above that part of its best."""


def check_finite(session: Session, run: Run) -> None:
    """Raises Refused if a loss or a weight was not finite since the last check; leaves the minibatch in diverged.pt.

    Called before anything is saved, so that what is saved is good. Until then nothing waits for the device.
    """
    first = int(session.first_bad)
    weights = session.optimizer.deployed()
    if first < 0 and bool(torch.stack([w.isfinite().all() for w in weights]).all()):
        return
    step = first if first >= 0 else session.t - 1
    batch = step - (session.t - session.batch)
    x, y = session.minibatches.draw(session.order(), batch, step)
    files.save_tensors(run.path / "diverged.pt", {"x": x, "y": y, "step": step})
    what = "loss" if first >= 0 else "weights"
    kept = "the state before is kept and" if run.progress == "begun" else "no state was saved yet:"
    raise Refused(
        f"expected finite {what}, got nan or inf at step {step} (epoch {session.epoch + 1}, minibatch {batch + 1}, "
        f"kept in {run.path / 'diverged.pt'}); {kept} the same command would come here again: change --set optimizer.lr"
    )


def concerns(log: Sequence[Row], classes: int) -> list[str]:
    """What the last row of a log gives cause to say, in words with what to do; usually nothing.

    Needs loss, val_top_class (the share of validation images given the commonest class), train_fgsm and train_pgd20.
    """
    *before, now = log
    found = []
    young = len(before) < 2 and all(row["val_top_class"] > _ONE_CLASS for row in before)
    if now["val_top_class"] > _ONE_CLASS and not young:
        found.append(
            f"collapsed: {now['val_top_class']:.0%} of validation images get one class; lower optimizer.lr, or "
            "perturbation.gamma if weights are perturbed"
        )
    best_pgd = max((r["train_pgd20"] for r in before), default=0.0)
    best_fgsm = max((r["train_fgsm"] for r in before), default=0.0)
    if now["train_pgd20"] < _NEAR_ZERO * best_pgd and now["train_fgsm"] > _STAYS * best_fgsm:
        found.append(
            f"catastrophic overfitting: under FGSM {now['train_fgsm']:.0%} of training images stand, under PGD-20 "
            f"{now['train_pgd20']:.0%}, after {best_pgd:.0%}; raise objective.steps or lower objective.step_size"
        )
    best_loss, guessing = min((r["loss"] for r in before), default=math.inf), math.log(classes)
    risen = now["loss"] > max(1.5 * best_loss, guessing)
    if risen or (len(before) >= 2 and now["loss"] > _ABOVE_GUESSING * guessing):
        found.append(
            f"diverging: loss {now['loss']:.3g}, after {best_loss:.3g} at best (guessing: {guessing:.3g}); lower "
            "optimizer.lr, or perturbation.gamma if weights are perturbed"
        )
    return found
