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
from rb_smooth.components.batchnorm import modes_kept
from rb_smooth.core import robustbench
from rb_smooth.core.determinism import full_float32, random_state_kept
from rb_smooth.core.errors import Refused
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images, batches
from rb_smooth.evaluation.checks import accuracy, attack, forward, gradients
from rb_smooth.evaluation.checks.verdicts import Answer, Check, Subject

if TYPE_CHECKING:
    from rb_smooth.evaluation.autoattack import AutoAttackResult


__all__ = ["Check", "after_attack", "before_attack", "check_points"]

_POINTS = 64
"""Points, drawn at random, that are looked at before the attack; after it, those of as many that stand."""

_DOORS: dict[str, Callable[[Subject], Answer]] = {
    "shape of logits": forward.judge_shape,
    "finite logits": forward.judge_finite,
}
"""Where one of these is refused, no other check would know what it sees."""

_BEFORE: dict[str, Callable[[Subject], Answer]] = {
    "eval mode": forward.judge_mode,
    "leaves no trace": forward.judge_traces,
    "one answer": forward.judge_repeats,
    "independent of the batch": forward.judge_batches,
    "logits, not probabilities": forward.judge_logits,
    "one pass": forward.judge_cost,
    "no jumps": forward.judge_continuity,
    "gradients": gradients.judge_gradients,
    "true derivatives": gradients.judge_derivatives,
    "normalisation inside": accuracy.judge_normalisation,
    "better than guessing": accuracy.judge_accuracy,
}


def before_attack(model: nn.Module, points: Images, threat: Threat, classes: int, *, seed: int = 0) -> list[Check]:
    """What can be seen of `model` without attacking it, on up to 64 of the points.

    model: images (B, C, H, W) in [0, 1] -> logits (B, classes). A verdict "refused" means that figures of it would mean
    nothing, "unreliable" that they may be too high. Raises Refused as `check_points`.
    """
    check_points(points, threat, classes)
    with _on_trial(model, points, threat, classes, seed) as subject:
        checks = [_check(name, judge, subject) for name, judge in _DOORS.items()]
        closed = [check.name for check in checks if check.verdict == "refused"]
        if closed:
            return checks + [Check(name, "skipped", f"not made, since '{closed[0]}' is refused") for name in _BEFORE]
        return checks + [_check(name, judge, subject) for name, judge in _BEFORE.items()]


def after_attack(
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
    checks = [Check(name, *answer) for name, answer in attack.judge_figures(result, clean, pgd20).items()]
    standing = points[result.robust.nonzero().flatten()]
    if not len(standing):
        return checks + [Check(name, "skipped", "no point stands") for name in attack.BY_RADIUS]
    with _on_trial(model, standing, threat, 0, seed) as subject:
        return checks + [Check(name, *answer) for name, answer in attack.judge_radii(subject).items()]


def check_points(points: Images, threat: Threat, classes: int) -> None:
    """Raises Refused for points, a ball or a number of classes on which no attack's figure would mean anything."""
    if not len(points):
        raise Refused("expected test points, got none; choose n_examples > 0")
    if points.x.dtype != torch.uint8 or points.x.ndim != 4 or len(points.x) != len(points.y):
        kind, shape = str(points.x.dtype).removeprefix("torch."), tuple(points.x.shape)
        raise Refused(
            f"expected uint8 images (N, C, H, W), each with a label, got {kind} {shape} with {len(points.y)} labels; "
            "bring pixels as whole numbers from 0 to 255"
        )
    if classes < robustbench.FEWEST_CLASSES:
        fewest = f"at least {robustbench.FEWEST_CLASSES} classes, which AutoAttack's targeted attacks need"
        raise Refused(f"expected {fewest}, got {classes}; choose other data")
    low, high = int(points.y.min()), int(points.y.max())
    if low < 0 or high >= classes:
        raise Refused(f"expected labels from 0 to {classes - 1}, got {low} to {high}; correct labels or classes")
    _check_ball(threat, points.shape)


def _check_ball(threat: Threat, shape: tuple[int, int, int]) -> None:
    if threat.norm not in ("Linf", "L2"):
        raise Refused(f"expected norm Linf or L2, got {threat.norm!r}; correct it")
    eps = threat.eps
    diameter = 1.0 if threat.norm == "Linf" else float(np.prod(shape)) ** 0.5
    if not 0 < eps < diameter:
        guess = f"; did you mean {eps:g}/255?" if 0 < eps < float("inf") else "; correct it"
        raise Refused(f"expected eps between 0 and {diameter:.4g}, as pixels are in [0, 1], got {eps:g}{guess}")


def _check(name: str, judge: Callable[[Subject], Answer], subject: Subject) -> Check:
    """A model is foreign code, and may raise anything; only that memory ran out is no fault of its own."""
    try:
        return Check(name, *judge(subject))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else "no message"
        return Check(name, "refused", f"the model raised {type(error).__name__} ({cause})")


@contextmanager
def _on_trial(model: nn.Module, points: Images, threat: Threat, classes: int, seed: int) -> Iterator[Subject]:
    """`model` in eval mode, with some of the points on its device. It leaves as it came, whatever it does to itself."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:_POINTS]
    ((x, y),) = batches(points[chosen], len(chosen), device)
    with _random_states_kept(), modes_kept(model), weights.restored(tensors), weights.frozen(model), full_float32():
        registries = [each for module in model.modules() for each in (module._parameters, module._buffers)]
        found: list[Mapping[str, Tensor | None]] = [dict(each) for each in registries]
        model.eval()
        try:
            yield Subject(model, x, y, threat, classes, seed)
        finally:  # a model may have put other tensors in their places
            for registry, entries in zip(registries, found, strict=True):
                registry.clear()
                registry.update(entries)  # type: ignore[arg-type]


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Python's and numpy's too: a model may draw from any."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with random_state_kept():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
