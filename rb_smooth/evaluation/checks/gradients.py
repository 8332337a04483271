"""Trust checks of the gradients that every attack but Square goes by: that there are some, and that they are true.

Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", arXiv 1802.00420. Looked at are the
test points and, since attacks start there, random points in their balls.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rb_smooth.core.threat import Norm
from rb_smooth.evaluation.checks.verdicts import CheckContext, CheckOutcome

_DEAD = {"Linf": torch.finfo(torch.float32).tiny, "L2": 1e-12}
"""Largest element below which a gradient leads nowhere. In Linf attacks take its signs, which need only be there; in L2
APGD divides it by its length plus 1e-12."""

_NOTABLE, _MOST = 0.05, 0.5
"""Shares of the points without gradient from which on a model is unreliable, and refused."""

_NEAR = (512, 128, 32)
"""Parts of the ball's radius by which a derivative is checked, from the truest to the one that float32 blurs least."""

_BLUR = 1e-4
"""Part of the largest logit that a margin must move by for float32 to show it to a few per cent."""

_TRUE = (0.5, 2.0)
"""Measured over predicted change, in the median; kinks of ReLU bend it, but no more."""

_STRIDE = 4
"""Part of the radius that an attack's first steps have."""

_USEFUL = 0.1
"""Of the predicted change, what such a step must bring, in the median, for the gradient to be of use to an attack."""


def check_gradients(context: CheckContext) -> CheckOutcome:
    """Whether the gradients of cross-entropy and of the margin exist and are not zero.

    Both vanish behind quantisation and clipped logits. That of cross-entropy alone vanishes where softmax saturates:
    logits times a temperature, as defensive distillation leaves them. The margin's, by which APGD-T and FAB-T go, may
    then still lead somewhere, but APGD-CE and PGD-20 do not. Only points classified rightly count, where there are any:
    an attack has nothing to do at others.
    """
    spots = _test_points(context)
    margin, entropy = _gradient(spots, "margin"), _gradient(spots, "entropy")
    if margin is None or entropy is None:
        return "refused", "no gradient leads from the logits to the image"
    counted = spots.is_correct(spots.x)
    counted = counted if counted.any() else torch.ones_like(counted)
    no_margin, no_entropy = (_is_vanishing(each, context.threat.norm)[counted] for each in (margin, entropy))
    both, some = float((no_margin & no_entropy).double().mean()), float((no_margin | no_entropy).double().mean())
    if both >= _MOST:
        return "refused", f"neither cross-entropy nor the margin has a gradient at {both:.0%} of the points"
    if some >= _NOTABLE:
        return "unreliable", f"cross-entropy or the margin has no gradient at {some:.0%} of the points"
    return "passed", f"cross-entropy and margin have gradients at {1 - some:.0%} of the points"


def check_derivatives(context: CheckContext) -> CheckOutcome:
    """Whether the margin changes as its gradient predicts: next to a point, and over an attack's first step.

    The first catches a backward pass that is not the forward pass's own, the second a landscape so rugged that its
    slopes say nothing of where it leads. Moves go along the steepest direction of the norm and stay in [0, 1].
    """
    spots = _test_points(context)
    gradient = _gradient(spots, "margin")
    alive = None if gradient is None else ~_is_vanishing(gradient, context.threat.norm)
    if gradient is None or alive is None or not alive.any():
        return "skipped", "there is no gradient to compare with"
    direction, eps = _steepest_direction(gradient, context.threat.norm), context.threat.eps
    measured = (_derivative_ratio(spots, gradient, direction, eps / part, eps / part) for part in _NEAR)
    near = [ratio for ratio in measured if ratio is not None]
    if not near:
        return "unreliable", "gradients predict changes that are too small for float32 to show"
    truest = min(near, key=lambda ratio: abs(ratio - 1))
    found = f"next to a point the margin changes by {truest:.2f} times what its gradient predicts"
    if not _TRUE[0] <= truest <= _TRUE[1]:
        return "unreliable", found
    stride = _derivative_ratio(spots, gradient, direction, 0.0, eps / _STRIDE)
    if stride is None:
        return "passed", found
    found += f", over a step of eps/{_STRIDE} by {stride:.2f} times"
    return ("passed" if stride >= _USEFUL else "unreliable"), found


def _test_points(context: CheckContext) -> CheckContext:
    """The points, and as many random ones in their balls, as a Subject of twice the size."""
    generator = torch.Generator().manual_seed(context.seed)
    noise = (torch.rand(context.x.shape, generator=generator) * 2 - 1).to(context.x)
    if context.threat.norm == "L2":
        noise = noise / _l2_norms(noise)
    within = (context.x + context.threat.eps * noise).clamp(0, 1)
    return context._replace(x=torch.cat([context.x, within]), y=context.y.repeat(2))


def _gradient(context: CheckContext, loss: str) -> Tensor | None:
    """Of the margin or of cross-entropy, for each image; None where the logits do not depend on it as torch sees it."""
    with torch.enable_grad():
        x = context.x.clone().requires_grad_()
        logits = context.model(x)
        losses = context.margins(logits) if loss == "margin" else F.cross_entropy(logits, context.y, reduction="none")
        if not losses.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(losses.sum(), x, allow_unused=True)
    return gradient


def _is_vanishing(gradient: Tensor, norm: Norm) -> Tensor:
    """(B,) bool: whose gradient is zero, next to it, or not finite."""
    largest = gradient.flatten(1).abs().amax(1)
    return ~((largest >= _DEAD[norm]) & largest.isfinite())


def _steepest_direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of length 1 in `norm` in which the gradient predicts most."""
    return gradient.sign() if norm == "Linf" else gradient / _l2_norms(gradient).clamp_min(_DEAD[norm])


def _derivative_ratio(
    context: CheckContext, gradient: Tensor, direction: Tensor, forward_step: float, backward_step: float
) -> float | None:
    """Measured over predicted change of the margin from x - back * direction to x + ahead * direction, in the median.

    Over the points at which float32 can show what is predicted; None where these are fewer than half of all.
    """
    upper, lower = (
        (context.x + forward_step * direction).clamp(0, 1),
        (context.x - backward_step * direction).clamp(0, 1),
    )
    logits = context.logits(upper)
    predicted = (gradient.double() * (upper.double() - lower.double())).flatten(1).sum(1)
    measured = context.margins(logits).double() - context.margins(context.logits(lower)).double()
    shown = predicted > _BLUR * logits.abs().amax(1)
    if 2 * int(shown.sum()) < len(shown):
        return None
    return float((measured[shown] / predicted[shown]).median())


def _l2_norms(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
