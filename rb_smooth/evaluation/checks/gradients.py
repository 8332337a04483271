"""Trust checks of gradients, which every attack but Square uses: are they non-zero and correct?

Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", arXiv 1802.00420. Checked at the
test points and, since attacks start there, at random points in their balls.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rb_smooth.core.threat import Norm
from rb_smooth.evaluation.checks.verdicts import CheckContext, CheckOutcome

_VANISHING = {"Linf": torch.finfo(torch.float32).tiny, "L2": 1e-12}
"""A gradient whose largest element is below this vanishes. Linf attacks use only signs; in L2, APGD divides by
its length plus 1e-12."""

_UNRELIABLE, _FAILED = 0.05, 0.5
"""Fractions of points without gradient from which the verdict is "unreliable" and "failed"."""

_NEAR = (512, 128, 32)
"""Divisors of eps that give the steps of finite differences: from the most accurate to the least rounded."""

_ROUNDING = 1e-4
"""Smallest change of a margin, relative to the largest logit, that float32 resolves to a few per cent."""

_DERIVATIVE_RATIO = (0.5, 2.0)
"""Accepted median of measured over predicted change; kinks of ReLU stay within it."""

_STRIDE = 4
"""Divisor of eps that gives an attack's first steps."""

_STRIDE_RATIO = 0.1
"""Smallest median of measured over predicted change for such a step, for gradients to be useful to an attack."""


def check_gradients(context: CheckContext) -> CheckOutcome:
    """Check that the gradients of cross-entropy and of the margin exist and are non-zero.

    Both vanish behind quantisation and clipped logits. That of cross-entropy alone vanishes where softmax saturates:
    logits times a temperature, as after defensive distillation. The margin's, which APGD-T and FAB-T use, may then be
    sound while APGD-CE and PGD-20 fail. Only correctly classified points count, if there are any, as only these are
    attacked.
    """
    samples = _test_points(context)
    margin, entropy = _gradient(samples, "margin"), _gradient(samples, "entropy")
    if margin is None or entropy is None:
        return "failed", "the logits have no gradient with respect to the image"
    counted = samples.is_correct(samples.x)
    counted = counted if counted.any() else torch.ones_like(counted)
    no_margin, no_entropy = (_is_vanishing(each, context.threat.norm)[counted] for each in (margin, entropy))
    both, either = float((no_margin & no_entropy).double().mean()), float((no_margin | no_entropy).double().mean())
    if both >= _FAILED:
        return "failed", f"neither cross-entropy nor the margin has a gradient at {both:.0%} of the points"
    if either >= _UNRELIABLE:
        return "unreliable", f"cross-entropy or the margin has no gradient at {either:.0%} of the points"
    return "passed", f"cross-entropy and margin have gradients at {1 - either:.0%} of the points"


def check_derivatives(context: CheckContext) -> CheckOutcome:
    """Check that the margin changes as its gradient predicts, by finite differences and over an attack's first step.

    The first detects a backward pass that does not match the forward pass; the second detects a landscape so rugged
    that gradients are useless. Steps follow the steepest direction of the norm and stay in [0, 1].
    """
    samples = _test_points(context)
    gradient = _gradient(samples, "margin")
    if gradient is None or _is_vanishing(gradient, context.threat.norm).all():
        return "skipped", "there is no gradient"
    direction, eps = _steepest_direction(gradient, context.threat.norm), context.threat.eps
    measured = (_derivative_ratio(samples, gradient, direction, eps / part, eps / part) for part in _NEAR)
    near = [ratio for ratio in measured if ratio is not None]
    if not near:
        return "unreliable", "predicted changes are too small for float32"
    best = min(near, key=lambda ratio: abs(ratio - 1))
    found = f"near a point the margin changes by {best:.2f} times what its gradient predicts"
    if not _DERIVATIVE_RATIO[0] <= best <= _DERIVATIVE_RATIO[1]:
        return "unreliable", found
    stride = _derivative_ratio(samples, gradient, direction, 0.0, eps / _STRIDE)
    if stride is None:
        return "passed", found
    found += f", over a step of eps/{_STRIDE} by {stride:.2f} times"
    return ("passed" if stride >= _STRIDE_RATIO else "unreliable"), found


def _test_points(context: CheckContext) -> CheckContext:
    """Return a context of twice the size: the points and a random point in each one's ball."""
    generator = torch.Generator().manual_seed(context.seed)
    noise = (torch.rand(context.x.shape, generator=generator) * 2 - 1).to(context.x)
    if context.threat.norm == "L2":
        noise = noise / _l2_norms(noise)
    within = (context.x + context.threat.eps * noise).clamp(0, 1)
    return context._replace(x=torch.cat([context.x, within]), y=context.y.repeat(2))


def _gradient(context: CheckContext, loss: str) -> Tensor | None:
    """Return the gradient of the margin or of cross-entropy per image; None if autograd finds no dependence."""
    with torch.enable_grad():
        x = context.x.clone().requires_grad_()
        logits = context.model(x)
        losses = context.margins(logits) if loss == "margin" else F.cross_entropy(logits, context.y, reduction="none")
        if not losses.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(losses.sum(), x, allow_unused=True)
    return gradient


def _is_vanishing(gradient: Tensor, norm: Norm) -> Tensor:
    """Return (B,) bool: whether the gradient is zero, nearly zero or not finite."""
    largest = gradient.flatten(1).abs().amax(1)
    return ~((largest >= _VANISHING[norm]) & largest.isfinite())


def _steepest_direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of length 1 in `norm` with the largest predicted increase."""
    return gradient.sign() if norm == "Linf" else gradient / _l2_norms(gradient).clamp_min(_VANISHING[norm])


def _derivative_ratio(
    context: CheckContext, gradient: Tensor, direction: Tensor, forward_step: float, backward_step: float
) -> float | None:
    """Return the median of measured over predicted change of the margin, from x - backward_step * direction to
    x + forward_step * direction, over the points where float32 resolves it; None if these are fewer than half.
    """
    upper = (context.x + forward_step * direction).clamp(0, 1)
    lower = (context.x - backward_step * direction).clamp(0, 1)
    logits = context.logits(upper)
    predicted = (gradient.double() * (upper.double() - lower.double())).flatten(1).sum(1)
    measured = context.margins(logits).double() - context.margins(context.logits(lower)).double()
    resolved = predicted > _ROUNDING * logits.abs().amax(1)
    if 2 * int(resolved.sum()) < len(resolved):
        return None
    return float((measured[resolved] / predicted[resolved]).median())


def _l2_norms(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
