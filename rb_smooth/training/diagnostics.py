"""Signs that training has gone wrong: stopped where it cannot go on, reported where a reader should know."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from rb_smooth.core import distributed, files
from rb_smooth.training.run_folder.log import LogRow
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Trainer

_COLLAPSE_SHARE = 0.95
"""Share of predictions for one class above which a net has collapsed to a constant; of balanced images."""

_ABOVE_GUESSING = 1.2
"""Times the cross-entropy of equal probabilities: a loss that no net need have after a few epochs."""

_NEAR_ZERO, _STAYS = 0.1, 0.5
"""Catastrophic overfitting: PGD accuracy below this part of its best, FGSM accuracy above that part of its best."""


def check_finite(trainer: Trainer, run: Run) -> None:
    """Raises UserError if a loss or a weight was not finite since the last check; leaves the minibatch in diverged.pt.

    Called before anything is saved, so that what is saved is good. Until then nothing waits for the device. Of several
    processes the first one speaks, whichever had the image.
    """
    first = int(distributed.all_reduce_min(trainer.first_nonfinite_step))
    bad_loss = first < trainer.t
    weights = [*trainer.optimizer.deployed(), *trainer.model.parameters()]  # w, and where gradients are taken
    bad_weights = not torch.stack([w.isfinite().all() for w in weights]).all()
    if not any(distributed.all_reduce_any(bad_loss, bool(bad_weights))):
        return
    step = first if bad_loss else trainer.t - 1
    batch = step - (trainer.t - trainer.batch)
    x, y = map(distributed.unshard, trainer.batch_loader.draw(trainer.batch_order(), batch, step))
    if distributed.is_rank_zero():
        files.save_tensors(run.path / "diverged.pt", {"x": x, "y": y, "step": step})
    what = "loss" if bad_loss else "weights"
    kept = "the state before is kept and" if run.progress == "begun" else "no state was saved yet:"
    distributed.abort_all(
        f"expected finite {what}, got nan or inf at step {step} (epoch {trainer.epoch + 1}, minibatch {batch + 1}, "
        f"kept in {run.path / 'diverged.pt'}); {kept} the same command would come here again: change --set optimizer.lr"
    )


def check_input_hashes(trainer: Trainer) -> None:
    """Raises UserError if the processes read other images, or other weights to start from."""
    if others := distributed.ranks_that_differ(trainer.input_hashes):
        distributed.abort_all(
            "expected the same images, and weights to start from, in every process, got others in process "
            f"{', '.join(map(str, others))}; make the files on its machine the same"
        )


def check_replicas(trainer: Trainer) -> None:
    """Raises UserError if the processes' weights or optimizer states have drifted apart by as much as a bit."""
    if distributed.world_size() == 1:
        return
    if others := distributed.ranks_that_differ(_checksums(trainer)):
        distributed.abort_all(
            f"expected the same weights and optimizer state in every process after epoch {trainer.epoch + 1}, got "
            f"others in process {', '.join(map(str, others))}; the state saved before is kept, repeat the command: if "
            "it comes again, a device computes wrongly, or this is a defect to report"
        )


def _checksums(trainer: Trainer) -> list[int]:
    """A checksum of each tensor: the sum of its elements' bits, as integers; added up where the tensor is.

    What is deployed is among them: it is the parameters themselves, or part of the optimizer's state.
    """
    state = trainer.optimizer.state_dict()["state"]
    tensors = list[torch.Tensor](trainer.model.parameters())
    tensors += [each for of_one in state.values() for each in of_one.values() if isinstance(each, torch.Tensor)]
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [each.detach().view(integers[each.element_size()]).sum(dtype=torch.int64) for each in tensors]
    return torch.stack([each.to(trainer.device) for each in sums]).tolist()


def training_warnings(log: Sequence[LogRow], classes: int) -> list[str]:
    """What the last row of a log gives cause to say, in words with what to do; usually nothing.

    Needs loss, val_top_class (the share of validation images given the commonest class), train_fgsm and train_pgd20.
    """
    *before, now = log
    found = []
    young = len(before) < 2 and all(row["val_top_class"] > _COLLAPSE_SHARE for row in before)
    if now["val_top_class"] > _COLLAPSE_SHARE and not young:
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
