"""Trust checks: can AutoAttack measure the robust accuracy of this model?

docs/trust.md describes each check and the models that it detects. Checks run in eval mode, in float32, on at most 64
points; model and random states are restored.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rb_smooth.components import weights
from rb_smooth.components.batchnorm import preserve_modes
from rb_smooth.core import robustbench
from rb_smooth.core.determinism import full_float32, preserve_rng
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images, iterate_batches
from rb_smooth.evaluation.checks import accuracy, attack, forward, gradients
from rb_smooth.evaluation.checks.verdicts import Check, CheckContext, CheckOutcome

if TYPE_CHECKING:
    from rb_smooth.evaluation.autoattack import AutoAttackResult


__all__ = ["Check", "post_attack_checks", "pre_attack_checks", "validate_points"]

_MAX_POINTS = 64
"""Largest number of points, drawn at random: before the attack from all, after it from those still correct."""

_INPUT_CHECKS: dict[str, Callable[[CheckContext], CheckOutcome]] = {
    "shape of logits": forward.check_logits_shape,
    "finite logits": forward.check_finite_logits,
}
"""If one of these fails, the other checks are skipped."""

_PRE_ATTACK_CHECKS: dict[str, Callable[[CheckContext], CheckOutcome]] = {
    "eval mode": forward.check_eval_mode,
    "leaves no trace": forward.check_no_side_effects,
    "one answer": forward.check_deterministic,
    "independent of the batch": forward.check_batch_independence,
    "logits, not probabilities": forward.check_not_probabilities,
    "one pass": forward.check_single_pass,
    "no jumps": forward.check_continuity,
    "gradients": gradients.check_gradients,
    "true derivatives": gradients.check_derivatives,
    "normalisation inside": accuracy.check_normalisation,
    "better than guessing": accuracy.check_accuracy,
}


def pre_attack_checks(model: nn.Module, points: Images, threat: Threat, classes: int, *, seed: int = 0) -> list[Check]:
    """Run the checks that need no attack, on up to 64 of the points.

    model: images (B, C, H, W) in [0, 1] -> logits (B, classes). "failed": its accuracies are meaningless; "unreliable":
    its robust accuracy may be too high. Raises UserError as `validate_points`.
    """
    validate_points(points, threat, classes)
    with _check_context(model, points, threat, classes, seed) as context:
        checks = [_run_check(name, check, context) for name, check in _INPUT_CHECKS.items()]
        failed = [check.name for check in checks if check.verdict == "failed"]
        if failed:
            return checks + [
                Check(name, "skipped", f"not run, since '{failed[0]}' failed") for name in _PRE_ATTACK_CHECKS
            ]
        return checks + [_run_check(name, check, context) for name, check in _PRE_ATTACK_CHECKS.items()]


def post_attack_checks(
    model: nn.Module,
    points: Images,
    threat: Threat,
    result: AutoAttackResult,
    *,
    clean: float,
    pgd20: float,
    seed: int = 0,
) -> list[Check]:
    """Check AutoAttack's result, and attack the robust points again with PGD in larger balls.

    clean, pgd20: accuracies in [0, 1] on the same points, measured separately from `result`.
    """
    checks = [Check(name, *outcome) for name, outcome in attack.check_attack_result(result, clean, pgd20).items()]
    robust_points = points[result.robust.nonzero().flatten()]
    if not len(robust_points):
        return checks + [Check(name, "skipped", "no point is robust") for name in attack.BY_RADIUS]
    with _check_context(model, robust_points, threat, 0, seed) as context:
        return checks + [Check(name, *outcome) for name, outcome in attack.check_larger_radii(context).items()]


def validate_points(points: Images, threat: Threat, classes: int) -> None:
    """Raise UserError for points, a threat or a number of classes for which attacks are meaningless."""
    if not len(points):
        raise UserError("expected test points, got none; choose n_examples > 0")
    if points.x.dtype != torch.uint8 or points.x.ndim != 4 or len(points.x) != len(points.y):
        kind, shape = str(points.x.dtype).removeprefix("torch."), tuple(points.x.shape)
        raise UserError(
            f"expected uint8 images (N, C, H, W), each with a label, got {kind} {shape} with {len(points.y)} labels; "
            "bring pixels as whole numbers from 0 to 255"
        )
    if classes < robustbench.MIN_CLASSES:
        minimum = f"at least {robustbench.MIN_CLASSES} classes, which AutoAttack's targeted attacks need"
        raise UserError(f"expected {minimum}, got {classes}; choose other data")
    low, high = int(points.y.min()), int(points.y.max())
    if low < 0 or high >= classes:
        raise UserError(f"expected labels from 0 to {classes - 1}, got {low} to {high}; correct labels or classes")
    validate_ball(threat, points.shape)


def validate_ball(threat: Threat, shape: tuple[int, int, int]) -> None:
    """Raise UserError for a ball that holds no other image, or every image of this shape, and for such a step."""
    if threat.norm not in ("Linf", "L2"):
        raise UserError(f"expected norm Linf or L2, got {threat.norm!r}; correct it")
    eps = threat.eps
    diameter = 1.0 if threat.norm == "Linf" else float(np.prod(shape)) ** 0.5
    if not 0 < eps < diameter:
        hint = f"; did you mean {eps:g}/255?" if 0 < eps < float("inf") else "; correct it"
        raise UserError(f"expected eps between 0 and {diameter:.4g}, as pixels are in [0, 1], got {eps:g}{hint}")
    if not 0 < threat.step_size <= diameter:
        raise UserError(f"expected step_size above 0, at most {diameter:.4g}, got {threat.step_size:g}; correct it")


def _run_check(name: str, check: Callable[[CheckContext], CheckOutcome], context: CheckContext) -> Check:
    """Run one check. An exception of the model is a failure, except running out of memory, which is raised."""
    try:
        return Check(name, *check(context))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return Check(name, "failed", f"the model raised {type(error).__name__} ({first_line(error)})")


@contextmanager
def _check_context(model: nn.Module, points: Images, threat: Threat, classes: int, seed: int) -> Iterator[CheckContext]:
    """Yield `model` in eval mode with up to 64 points on its device; restore all its state on exit."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    selected = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:_MAX_POINTS]
    ((x, y),) = iterate_batches(points[selected], len(selected), device)
    with (
        _preserve_all_rng(),
        preserve_modes(model),
        weights.preserve(tensors),
        weights.no_param_grad(model),
        full_float32(),
    ):
        registries = [each for module in model.modules() for each in (module._parameters, module._buffers)]
        originals: list[Mapping[str, Tensor | None]] = [dict(each) for each in registries]
        model.eval()
        try:
            yield CheckContext(model, x, y, threat, classes, seed)
        finally:  # the model may have replaced tensors
            for registry, entries in zip(registries, originals, strict=True):
                registry.clear()
                registry.update(entries)  # type: ignore[arg-type]


@contextmanager
def _preserve_all_rng() -> Iterator[None]:
    """Restore the random states of torch, Python and numpy."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with preserve_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
