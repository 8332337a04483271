"""How fast the adversarial gradient and the attacks change as the weights move: what smoothness is the absence of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss

AT_BOUNDARY = 0.999
"""An attack counts as at its ball's boundary from this share of eps on."""


class Probe(NamedTuple):
    """From w to w + radius ||w|| u, for one unit vector u.

    lipschitz: ||g(w1) - g(w2)|| / ||w1 - w2||, g the gradient with attacks made anew at each: a lower bound of the
               constant of Eq. (3) of Kanai et al. moved: mean over images of ||x'(w1) - x'(w2)||, in L2, as a share of
               the ball's diameter in L2 (2 eps, and 2 eps sqrt(d) of the Linf ball).
    """

    direction: str
    radius: float
    lipschitz: float
    moved: float


def probe(
    loss: AdversarialLoss, x_adv: Tensor, radii: Sequence[float], directions: int, generator: torch.Generator
) -> list[Probe]:
    """Probes at every radius, each as a share of ||w||: down the gradient, where training goes next, and along
    `directions` random directions, uniform on the sphere (`generator`, on the CPU). x_adv: `loss.attacks()` at w.
    """
    w = loss.weights
    g = loss.gradient(x_adv)
    ways = [("descent", -g / g.norm())]
    for _ in range(directions):
        u = torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w)
        ways.append(("random", u / u.norm()))
    found = []
    for name, u in ways:
        for radius in radii:
            step = radius * float(w.norm())
            with loss.at_weights(w + step * u):
                moved = loss.adversarial_examples()
                change = loss.gradient(moved) - g
            distance = (moved - x_adv).flatten(1).norm(dim=1).mean().item()
            share = distance / diameter(loss) if loss.threat else 0.0
            found.append(Probe(name, radius, float(change.norm()) / step, share))
    return found


def diameter(loss: AdversarialLoss) -> float:
    """The largest distance, in L2, of two points of the ball in which `loss` attacks."""
    assert loss.threat is not None
    dimensions = loss.x[0].numel() if loss.threat.norm == "Linf" else 1
    return 2 * loss.threat.eps * dimensions**0.5


class Boundary(NamedTuple):
    """Shares in [0, 1]. images: whose attack lies on the ball's boundary. pixels: of all pixels, those that lie on the
    cube's faces, or on an end of [0, 1] (None in L2, whose ball has no faces).
    """

    images: float
    pixels: float | None


def boundary_shares(x: Tensor, x_adv: Tensor, norm: str, eps: float) -> Boundary:
    """Where attacks x_adv on x, both (N, C, H, W) in [0, 1], lie in their balls. Lemma 4 of Kanai et al. is about those
    inside, Lemma 5 about those on the boundary of L2's ball.
    """
    shift = (x_adv - x).flatten(1)
    order = float("inf") if norm == "Linf" else 2
    images = (shift.norm(order, dim=1) >= AT_BOUNDARY * eps).double().mean().item()
    if norm != "Linf":
        return Boundary(images, None)
    at_face = (shift.abs() >= AT_BOUNDARY * eps) | (x_adv.flatten(1) <= 0) | (x_adv.flatten(1) >= 1)
    return Boundary(images, at_face.double().mean().item())
