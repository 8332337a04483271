"""Curvature from Hessian-vector products alone: eigenvalues by power iteration, the trace by Hutchinson's signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss

Product = Callable[[Tensor], Tensor]
"""v (P,) -> H v (P,), H symmetric."""


class Eigenvalue(NamedTuple):
    """residual: ||Hv - value v||, v of length 1: an eigenvalue lies within it of `value`. products: of H, it took."""

    value: float
    residual: float
    products: int


def dominant_eigenvalue(product: Product, start: Tensor, *, products: int = 100, tolerance: float = 1e-3) -> Eigenvalue:
    """The eigenvalue of H that is largest in magnitude, by power iteration from `start` (P,): |value| is ||H||_2.

    Ends when residual <= tolerance |value|, or after that many products. The value's own error is of the order of
    residual^2 over the gap to the next eigenvalue: at the default 1e-4 of it where that gap is a hundredth.
    """
    v = start / start.norm()
    used = 0
    while True:
        image, used = product(v), used + 1
        value = float(v @ image)
        residual = float((image - value * v).norm())
        if residual <= tolerance * abs(value) or used == products:
            return Eigenvalue(value, residual, used)
        v = image / image.norm()


def top_eigenvalue(
    product: Product,
    start: Tensor,
    *,
    dominant: Eigenvalue | None = None,
    products: int = 100,
    tolerance: float = 1e-3,
) -> Eigenvalue:
    """The largest eigenvalue of H, by its sign too. Where the one of largest magnitude is negative, a second iteration
    finds it on H shifted by that much. Arguments as `dominant_eigenvalue`'s; `products` are of each iteration.
    dominant: what that found, where it is known already.
    """
    dominant = dominant or dominant_eigenvalue(product, start, products=products, tolerance=tolerance)
    if dominant.value >= 0:
        return dominant
    shift = -dominant.value
    shifted = dominant_eigenvalue(lambda v: product(v) + shift * v, start, products=products, tolerance=tolerance)
    return Eigenvalue(shifted.value - shift, shifted.residual, dominant.products + shifted.products)


class Trace(NamedTuple):
    """error: the standard error of `value`, over the samples."""

    value: float
    error: float


def estimate_trace(product: Product, like: Tensor, *, samples: int, generator: torch.Generator) -> Trace:
    """tr H as the mean of z.Hz over `samples` >= 2 random z of signs (Hutchinson 1990).

    like: (P,), of the type and on the device of H's vectors. generator: on the CPU, where signs are drawn.
    """
    values = []
    for _ in range(samples):
        z = (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
        values.append(z @ product(z))
    found = torch.stack(values).double()
    return Trace(found.mean().item(), (found.std() / samples**0.5).item())


class Sharpness(NamedTuple):
    """In B2(w, radius ||w||). measured: max (L(w') - L(w)) / (1 + L(w)) as found by ascent, a lower bound of Eq. (73).

    estimate: ||H||_2 r^2 / (2 (1 + L)), Eq. (74), which leaves the gradient out; first_order: ||g|| r / (1 + L), what
    the gradient adds where it is not zero. r is radius ||w||.
    """

    radius: float
    measured: float
    estimate: float
    first_order: float


def find_sharpness(
    loss: AdversarialLoss, x_adv: Tensor, radius: float, hessian_norm: float, *, steps: int = 10
) -> Sharpness:
    """Projected gradient ascent on the weights, `steps` of a quarter of the ball's radius, attacks made anew at each.

    x_adv: `loss.attacks()` at w. radius: of the ball, as a share of ||w||. hessian_norm: the largest |eigenvalue| of
    the loss's Hessian at w.
    """
    w = loss.weights
    r = radius * float(w.norm())
    here, g = loss.value(x_adv), loss.gradient(x_adv)
    slope, highest, v = float(g.norm()), here, 0 * w
    for _ in range(steps):
        v = v + (r / 4) * g / g.norm()
        v = v * min(1.0, r / float(v.norm()))
        with loss.at_weights(w + v):
            x_adv = loss.adversarial_examples()
            highest = max(highest, loss.value(x_adv))
            g = loss.gradient(x_adv)
    scale = 1 + here
    return Sharpness(radius, (highest - here) / scale, hessian_norm * r**2 / (2 * scale), slope * r / scale)
