"""Detect NaN, diverged replicas, collapse and overfitting during training, and too short stages before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import torch

from rb_smooth.config.schema import Recipe
from rb_smooth.core import distributed, files
from rb_smooth.core.errors import Diverged
from rb_smooth.training.run_folder.log import LogRow
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Trainer

_COLLAPSE_SHARE = 0.95
"""Share of predictions of one class, on balanced images, above which a network has collapsed."""

_ABOVE_GUESSING = 1.2
"""Loss above which training diverges after a few epochs, in units of the cross-entropy of uniform predictions."""

_NEAR_ZERO, _STAYS = 0.1, 0.5
"""Catastrophic overfitting: PGD accuracy below the first, FGSM accuracy above the second fraction of its best."""

_CURVATURE = 0.3
"""Curvature of the quadratic for which time constants are computed: with the recipes' settings EntropySGD converges
about fastest on it at lr up to 0.1."""


def check_finite(trainer: Trainer, run: Run) -> None:
    """Raises UserError for a NaN or infinite loss or weight since the last check; saves the minibatch as diverged.pt.

    Runs before every save, so that saved weights are finite; training steps need no synchronisation with the device.
    """
    first = int(distributed.all_reduce_min(trainer.first_nonfinite_step))
    bad_loss = first < trainer.t
    weights = [*trainer.optimizer.deployed(), *trainer.model.parameters()]  # w and w'
    bad_weights = not torch.stack([w.isfinite().all() for w in weights]).all()
    if not any(distributed.all_reduce_any(bad_loss, bool(bad_weights))):
        return
    step = first if bad_loss else trainer.t - 1
    batch = step - (trainer.t - trainer.batch)
    x, y = map(distributed.unshard, trainer.batch_loader.draw(trainer.batch_order(), batch, step))
    if distributed.is_rank_zero():
        files.save_tensors(run.path / "diverged.pt", {"x": x, "y": y, "step": step})
    what = "loss" if bad_loss else "weights"
    kept = "the last saved state is intact;" if run.progress == "begun" else "no state was saved yet;"
    distributed.abort_all(
        f"expected finite {what}, got nan or inf at step {step} (epoch {trainer.epoch + 1}, minibatch {batch + 1}, "
        f"saved in {run.path / 'diverged.pt'}); {kept} the same command would fail again: change --set optimizer.lr",
        Diverged,
    )


def check_input_hashes(trainer: Trainer) -> None:
    """Raises UserError if the processes read different images or initial weights."""
    if others := distributed.ranks_that_differ(trainer.input_hashes):
        distributed.abort_all(
            "expected the same images and initial weights in every process, got others in process "
            f"{', '.join(map(str, others))}; copy the same files to its machine"
        )


def check_replicas(trainer: Trainer) -> None:
    """Raises UserError if weights or optimizer states of the processes differ in any bit."""
    if distributed.world_size() == 1:
        return
    if others := distributed.ranks_that_differ(_checksums(trainer)):
        distributed.abort_all(
            f"expected the same weights and optimizer state in every process after epoch {trainer.epoch + 1}, got "
            f"others in process {', '.join(map(str, others))}; repeat the command, which resumes from the last saved "
            "state; if the error repeats, a device computes wrongly, or please report a bug"
        )


def _checksums(trainer: Trainer) -> list[int]:
    """Checksums of parameters and optimizer state: the sum of each tensor's bits as integers, on its device.

    The deployed weights are among them, as parameters or as part of the optimizer's state.
    """
    state = trainer.optimizer.state_dict()["state"]
    tensors = list[torch.Tensor](trainer.model.parameters())
    tensors += [each for values in state.values() for each in values.values() if isinstance(each, torch.Tensor)]
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [each.detach().view(integers[each.element_size()]).sum(dtype=torch.int64) for each in tensors]
    return torch.stack([each.to(trainer.device) for each in sums]).tolist()


def stage_warnings(recipe: Recipe, batches: int) -> list[str]:
    """A warning of the learning rates that a run has for too short, with the numbers; usually none.

    batches: minibatches per epoch. Considers optimizers with a `time_constant`, if lr is constant within epochs.
    """
    schedule, epochs = recipe.build("schedule"), recipe.train.epochs
    if any(schedule(epoch, epochs) != schedule(epoch + 0.5, epochs) for epoch in range(epochs)):
        return []
    short = []
    stages = groupby(range(epochs), lambda epoch: (recipe.stage("optimizer", epoch), schedule(epoch, epochs)))
    for (stage, factor), together in stages:
        span = list(together)
        optimizer = recipe.build("optimizer", [torch.zeros(1, requires_grad=True)], epoch=span[0])
        if hasattr(optimizer, "time_constant"):
            lr, minibatches = optimizer.param_groups[0]["lr"] * factor, len(span) * batches
            needed = optimizer.time_constant(lr, _CURVATURE)
            if minibatches < needed:
                where = f"{stage.name}, epochs {span[0] + 1} to {span[-1] + 1}, lr {lr:g}"
                short.append(f"{minibatches} of {needed:.0f} ({where})")
    if not short:
        return []
    return [
        f"too few minibatches at a learning rate: {', '.join(short)}, which the weights of EntropySGD need to come "
        f"e times closer to a minimum of curvature {_CURVATURE}; train longer, or end with sgd as -tuned recipes do"
    ]


def training_warnings(log: Sequence[LogRow], classes: int) -> list[str]:
    """Warnings about the last row of a log, with a fix each; usually none.

    Needs the columns loss, val_top_class (share of the most predicted class), val_robust, and val_fgsm, which rows of
    runs begun before 0.2 and of standard training lack.
    """
    *before, now = log
    warnings = []
    young = len(before) < 2 and all(row["val_top_class"] > _COLLAPSE_SHARE for row in before)
    if now["val_top_class"] > _COLLAPSE_SHARE and not young:
        warnings.append(
            f"collapsed: {now['val_top_class']:.0%} of validation images get one class; lower optimizer.lr, or "
            "perturbation.gamma if weights are perturbed"
        )
    best_pgd = max((r["val_robust"] for r in before), default=0.0)
    best_fgsm = max((r.get("val_fgsm") or 0.0 for r in before), default=0.0)
    fgsm = now.get("val_fgsm") or 0.0
    if now["val_robust"] < _NEAR_ZERO * best_pgd and fgsm > _STAYS * best_fgsm:
        warnings.append(
            f"catastrophic overfitting: validation accuracy under FGSM {fgsm:.0%}, under PGD-20 "
            f"{now['val_robust']:.0%} (best {best_pgd:.0%}); raise objective.steps or lower objective.step_size"
        )
    best_loss, guessing = min((r["loss"] for r in before), default=math.inf), math.log(classes)
    risen = now["loss"] > max(1.5 * best_loss, guessing)
    if risen or (len(before) >= 2 and now["loss"] > _ABOVE_GUESSING * guessing):
        warnings.append(
            f"diverging: loss {now['loss']:.3g} (best {best_loss:.3g}, guessing {guessing:.3g}); lower "
            "optimizer.lr, or perturbation.gamma if weights are perturbed"
        )
    return warnings
