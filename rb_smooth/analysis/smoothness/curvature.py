"""Hessian eigenvalues by power iteration, trace by Hutchinson's estimator, and eps-sharpness."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss

Product = Callable[[Tensor], Tensor]
"""v (P,) -> H v (P,), H symmetric."""


class Eigenvalue(NamedTuple):
    """residual: ||Hv - value v|| for unit v; some eigenvalue is that close to `value`. products: number of Hv used."""

    value: float
    residual: float
    products: int


def dominant_eigenvalue(product: Product, start: Tensor, *, products: int = 100, tolerance: float = 1e-3) -> Eigenvalue:
    """The eigenvalue of H of largest magnitude, by power iteration from `start` (P,): |value| is ||H||_2.

    Stops when residual <= tolerance |value|, or after `products` products. The error of the value is of the order of
    residual^2 over the gap to the next eigenvalue: at the default tolerance 1e-4 of it for a gap of a hundredth.
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
    product: Product, start: Tensor, dominant: Eigenvalue, *, products: int = 100, tolerance: float = 1e-3
) -> Eigenvalue:
    """The largest (most positive) eigenvalue of H.

    If the eigenvalue of largest magnitude is negative, a second power iteration runs on H shifted by it. Arguments as
    of `dominant_eigenvalue`; dominant: its result.
    """
    if dominant.value >= 0:
        return dominant
    shift = -dominant.value
    shifted = dominant_eigenvalue(lambda v: product(v) + shift * v, start, products=products, tolerance=tolerance)
    return Eigenvalue(shifted.value - shift, shifted.residual, dominant.products + shifted.products)


class Trace(NamedTuple):
    """error: standard error of `value`."""

    value: float
    error: float


def estimate_trace(product: Product, like: Tensor, *, samples: int, generator: torch.Generator) -> Trace:
    """tr H as the mean of z.Hz over `samples` >= 2 random sign vectors z (Hutchinson 1990).

    like: (P,), gives dtype and device of z. generator: on the CPU.
    """
    values = []
    for _ in range(samples):
        z = (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
        values.append(z @ product(z))
    sampled = torch.stack(values).double()
    return Trace(sampled.mean().item(), (sampled.std() / samples**0.5).item())


class Sharpness(NamedTuple):
    """eps-sharpness of Kanai et al. in the ball B2(w, r), r = radius ||w||.

    measured: max (L(w') - L(w)) / (1 + L(w)) by gradient ascent, a lower bound of Eq. (73). estimate: ||H||_2 r^2 /
    (2 (1 + L)), Eq. (74), which omits the gradient. first_order: ||g|| r / (1 + L), the gradient's contribution.
    """

    radius: float
    measured: float
    estimate: float
    first_order: float


def find_sharpness(
    loss: AdversarialLoss, x_adv: Tensor, radius: float, hessian_norm: float, *, steps: int = 10
) -> Sharpness:
    """Projected gradient ascent on the weights, `steps` steps of r / 4, with attacks recomputed at each.

    x_adv: `loss.adversarial_examples()` at w. radius: r / ||w||. hessian_norm: ||H||_2 at w.
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
