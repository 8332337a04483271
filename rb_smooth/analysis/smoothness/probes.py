"""Local Lipschitz constants of the adversarial gradient, and displacement of the attacks, as the weights move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss

AT_BOUNDARY = 0.999
"""Perturbations of at least this share of eps count as on the ball's boundary."""


class Probe(NamedTuple):
    """A step from w1 = w to w2 = w + radius ||w|| u, for one unit vector u.

    direction: `descent` or `random`.
    lipschitz: ||g(w1) - g(w2)|| / ||w1 - w2||, g the gradient with attacks recomputed at each point: a lower bound of
               the constant of Eq. (3) of Kanai et al.
    moved:     mean over images of ||x'(w1) - x'(w2)||_2 / diameter of the ball in L2 (`diameter`).
    """

    direction: str
    radius: float
    lipschitz: float
    moved: float


def probe(
    loss: AdversarialLoss, x_adv: Tensor, radii: Sequence[float], directions: int, generator: torch.Generator
) -> list[Probe]:
    """Probes at each of `radii` (shares of ||w||), down the gradient and along random directions.

    directions: number of random directions, uniform on the sphere, from `generator` on the CPU. x_adv:
    `loss.adversarial_examples()` at w.
    """
    w = loss.weights
    g = loss.gradient(x_adv)
    unit_vectors = [("descent", -g / g.norm())]
    for _ in range(directions):
        u = torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w)
        unit_vectors.append(("random", u / u.norm()))
    probes = []
    for name, u in unit_vectors:
        for radius in radii:
            step = radius * float(w.norm())
            with loss.at_weights(w + step * u):
                moved = loss.adversarial_examples()
                change = loss.gradient(moved) - g
            distance = (moved - x_adv).flatten(1).norm(dim=1).mean().item()
            share = distance / diameter(loss) if loss.threat else 0.0
            probes.append(Probe(name, radius, float(change.norm()) / step, share))
    return probes


def diameter(loss: AdversarialLoss) -> float:
    """L2 diameter of the loss's ball: 2 eps in L2, 2 eps sqrt(d) in Linf."""
    assert loss.threat is not None
    dimensions = loss.x[0].numel() if loss.threat.norm == "Linf" else 1
    return 2 * loss.threat.eps * dimensions**0.5


class Boundary(NamedTuple):
    """Shares in [0, 1] on the boundary. images: perturbations of norm eps. pixels: perturbations of +-eps, or values at
    an end of [0, 1]; None in L2.
    """

    images: float
    pixels: float | None


def boundary_shares(x: Tensor, x_adv: Tensor, norm: str, eps: float) -> Boundary:
    """Shares of adversarial examples x_adv of x, both (N, C, H, W) in [0, 1], on the boundary of their balls.

    Lemma 4 of Kanai et al. is about examples inside the ball, Lemma 5 about those on the boundary in L2.
    """
    shift = (x_adv - x).flatten(1)
    order = float("inf") if norm == "Linf" else 2
    images = (shift.norm(order, dim=1) >= AT_BOUNDARY * eps).double().mean().item()
    if norm != "Linf":
        return Boundary(images, None)
    at_face = (shift.abs() >= AT_BOUNDARY * eps) | (x_adv.flatten(1) <= 0) | (x_adv.flatten(1) >= 1)
    return Boundary(images, at_face.double().mean().item())
