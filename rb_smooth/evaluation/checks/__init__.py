"""Trust checks: is this model one whose robust accuracy AutoAttack can measure?

What each check looks for, and at what it has been shown to fire, stands in docs/trust.md. All run in eval mode and in
float32, on a few dozen points; the model leaves as it came, and so do the random states.
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
"""Points, drawn at random, that are looked at before the attack; after it, those of as many that stand."""

_INPUT_CHECKS: dict[str, Callable[[CheckContext], CheckOutcome]] = {
    "shape of logits": forward.check_logits_shape,
    "finite logits": forward.check_finite_logits,
}
"""Where one of these is refused, no other check would know what it sees."""

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
    """What can be seen of `model` without attacking it, on up to 64 of the points.

    model: images (B, C, H, W) in [0, 1] -> logits (B, classes). A verdict "refused" means that figures of it would mean
    nothing, "unreliable" that they may be too high. Raises UserError as `validate_points`.
    """
    validate_points(points, threat, classes)
    with _check_context(model, points, threat, classes, seed) as context:
        checks = [_run_check(name, check, context) for name, check in _INPUT_CHECKS.items()]
        closed = [check.name for check in checks if check.verdict == "refused"]
        if closed:
            return checks + [
                Check(name, "skipped", f"not made, since '{closed[0]}' is refused") for name in _PRE_ATTACK_CHECKS
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
    """What AutoAttack's result, and larger balls around the points that it left standing, say of its reliability.

    clean, pgd20: shares in [0, 1] of the same points, measured apart from `result`.
    """
    checks = [Check(name, *answer) for name, answer in attack.check_attack_result(result, clean, pgd20).items()]
    standing = points[result.robust.nonzero().flatten()]
    if not len(standing):
        return checks + [Check(name, "skipped", "no point stands") for name in attack.BY_RADIUS]
    with _check_context(model, standing, threat, 0, seed) as context:
        return checks + [Check(name, *answer) for name, answer in attack.check_larger_radii(context).items()]


def validate_points(points: Images, threat: Threat, classes: int) -> None:
    """Raises UserError for points, a ball or a number of classes on which no attack's figure would mean anything."""
    if not len(points):
        raise UserError("expected test points, got none; choose n_examples > 0")
    if points.x.dtype != torch.uint8 or points.x.ndim != 4 or len(points.x) != len(points.y):
        kind, shape = str(points.x.dtype).removeprefix("torch."), tuple(points.x.shape)
        raise UserError(
            f"expected uint8 images (N, C, H, W), each with a label, got {kind} {shape} with {len(points.y)} labels; "
            "bring pixels as whole numbers from 0 to 255"
        )
    if classes < robustbench.MIN_CLASSES:
        fewest = f"at least {robustbench.MIN_CLASSES} classes, which AutoAttack's targeted attacks need"
        raise UserError(f"expected {fewest}, got {classes}; choose other data")
    low, high = int(points.y.min()), int(points.y.max())
    if low < 0 or high >= classes:
        raise UserError(f"expected labels from 0 to {classes - 1}, got {low} to {high}; correct labels or classes")
    _validate_ball(threat, points.shape)


def _validate_ball(threat: Threat, shape: tuple[int, int, int]) -> None:
    if threat.norm not in ("Linf", "L2"):
        raise UserError(f"expected norm Linf or L2, got {threat.norm!r}; correct it")
    eps = threat.eps
    diameter = 1.0 if threat.norm == "Linf" else float(np.prod(shape)) ** 0.5
    if not 0 < eps < diameter:
        guess = f"; did you mean {eps:g}/255?" if 0 < eps < float("inf") else "; correct it"
        raise UserError(f"expected eps between 0 and {diameter:.4g}, as pixels are in [0, 1], got {eps:g}{guess}")


def _run_check(name: str, check: Callable[[CheckContext], CheckOutcome], context: CheckContext) -> Check:
    """A model is foreign code, and may raise anything; only that memory ran out is no fault of its own."""
    try:
        return Check(name, *check(context))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return Check(name, "refused", f"the model raised {type(error).__name__} ({first_line(error)})")


@contextmanager
def _check_context(model: nn.Module, points: Images, threat: Threat, classes: int, seed: int) -> Iterator[CheckContext]:
    """`model` in eval mode, with some of the points on its device. It leaves as it came, whatever it does to itself."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:_MAX_POINTS]
    ((x, y),) = iterate_batches(points[chosen], len(chosen), device)
    with (
        _preserve_all_rng(),
        preserve_modes(model),
        weights.preserve(tensors),
        weights.no_param_grad(model),
        full_float32(),
    ):
        registries = [each for module in model.modules() for each in (module._parameters, module._buffers)]
        found: list[Mapping[str, Tensor | None]] = [dict(each) for each in registries]
        model.eval()
        try:
            yield CheckContext(model, x, y, threat, classes, seed)
        finally:  # a model may have put other tensors in their places
            for registry, entries in zip(registries, found, strict=True):
                registry.clear()
                registry.update(entries)  # type: ignore[arg-type]


@contextmanager
def _preserve_all_rng() -> Iterator[None]:
    """Python's and numpy's too: a model may draw from any."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with preserve_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
