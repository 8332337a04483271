"""How much worse the loss gets nearby: the eps-sharpness of Kanai et al., Eq. (73), and its estimate by the Hessian."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rb_smooth.study.losses import AdversarialLoss


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
        with loss.at(w + v):
            x_adv = loss.attacks()
            highest = max(highest, loss.value(x_adv))
            g = loss.gradient(x_adv)
    scale = 1 + here
    return Sharpness(radius, (highest - here) / scale, hessian_norm * r**2 / (2 * scale), slope * r / scale)
