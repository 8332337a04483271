"""Signs that training has gone wrong: stopped where it cannot go on, reported where a reader should know."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from rb_smooth.core import distributed, files
from rb_smooth.training.run_folder.log import Row
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Session

_ONE_CLASS = 0.95
"""Share of predictions for one class above which a net has collapsed to a constant; of balanced images."""

_ABOVE_GUESSING = 1.2
"""Times the cross-entropy of equal probabilities: a loss that no net need have after a few epochs."""

_NEAR_ZERO, _STAYS = 0.1, 0.5
"""Catastrophic overfitting: PGD accuracy below this part of its best, FGSM accuracy above that part of its best."""


def check_finite(session: Session, run: Run) -> None:
    """Raises Refused if a loss or a weight was not finite since the last check; leaves the minibatch in diverged.pt.

    Called before anything is saved, so that what is saved is good. Until then nothing waits for the device. Of several
    processes the first one speaks, whichever had the image.
    """
    first = int(distributed.keep_least(session.first_bad))
    bad_loss = first < session.t
    weights = [*session.optimizer.deployed(), *session.model.parameters()]  # w, and where gradients are taken
    bad_weights = not torch.stack([w.isfinite().all() for w in weights]).all()
    if not any(distributed.any_of(bad_loss, bool(bad_weights))):
        return
    step = first if bad_loss else session.t - 1
    batch = step - (session.t - session.batch)
    x, y = map(distributed.whole, session.minibatches.draw(session.order(), batch, step))
    if distributed.is_first():
        files.save_tensors(run.path / "diverged.pt", {"x": x, "y": y, "step": step})
    what = "loss" if bad_loss else "weights"
    kept = "the state before is kept and" if run.progress == "begun" else "no state was saved yet:"
    distributed.refuse_together(
        f"expected finite {what}, got nan or inf at step {step} (epoch {session.epoch + 1}, minibatch {batch + 1}, "
        f"kept in {run.path / 'diverged.pt'}); {kept} the same command would come here again: change --set optimizer.lr"
    )


def check_origins(session: Session) -> None:
    """Raises Refused if the processes read other images, or other weights to start from."""
    if others := distributed.ranks_that_differ(session.origins):
        distributed.refuse_together(
            "expected the same images, and weights to start from, in every process, got others in process "
            f"{', '.join(map(str, others))}; make the files on its machine the same"
        )


def check_replicas(session: Session) -> None:
    """Raises Refused if the processes' weights or optimizer states have drifted apart by as much as a bit."""
    if distributed.size() == 1:
        return
    if others := distributed.ranks_that_differ(_bits(session)):
        distributed.refuse_together(
            f"expected the same weights and optimizer state in every process after epoch {session.epoch + 1}, got "
            f"others in process {', '.join(map(str, others))}; the state saved before is kept, repeat the command: if "
            "it comes again, a device computes wrongly, or this is a defect to report"
        )


def _bits(session: Session) -> list[int]:
    """A checksum of each tensor: the sum of its elements' bits, as integers; added up where the tensor is.

    What is deployed is among them: it is the parameters themselves, or part of the optimizer's state.
    """
    state = session.optimizer.state_dict()["state"]
    tensors = list[torch.Tensor](session.model.parameters())
    tensors += [each for of_one in state.values() for each in of_one.values() if isinstance(each, torch.Tensor)]
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [each.detach().view(integers[each.element_size()]).sum(dtype=torch.int64) for each in tensors]
    return torch.stack([each.to(session.device) for each in sums]).tolist()


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
