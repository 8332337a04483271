"""EntropySGD.

Chaudhari et al., "Entropy-SGD: Biasing Gradient Descent Into Wide Valleys", arXiv 1611.01838, Algorithm 1; shown to
smooth the adversarial loss by Kanai et al., "Smoothness Analysis of Adversarial Training", arXiv 2103.01400,
Eqs. (10)-(12), Theorem 3. It descends the smoothed loss

    L_gamma(w) = -log of the integral over w' of  exp(-L(w') - gamma/2 ||w - w'||^2),   grad = gamma (w - E[w'])

with E[w'] estimated by a Langevin chain w' of `inner_steps` minibatches around the deployed weights w:

    each minibatch, with the gradient g at w':
        d  = g + wd * w';   m <- mom * m + d;   d <- d + mom * m      (Nesterov; d <- m without; untouched if mom = 0)
        w' <- w' - inner_lr * (d + gamma * (w' - w)) + noise * sqrt(2 * inner_lr) * xi,     xi ~ N(0, I)
        mu <- beta * mu + (1 - beta) * w'
    every inner_steps-th minibatch:
        d = (w - mu) + wd * w;   M <- mom * M + d;   d <- d + mom * M
        w <- w - lr * d;   w', mu <- w;   m <- 0

The paper prints two nested loops; here step() is called once per minibatch and counts
(`rb_smooth.components.optimizers._langevin`, where the updates are). The test holds both forms together.

Differs from the authors' code (Chaudhari et al.'s Python, on which Kanai et al. build):
    - `lr` is read from the param group, so that a schedule really decays it; theirs reads a copy made at construction.
      The schedule decays `lr` alone; `inner_lr` stays, as it does there.
    - No minibatch is thrown away: theirs draws inner_steps + 1 per outer step and drops the first gradient.
    - An epoch is one pass over shuffled data, and an inner loop may cross its end; theirs is inner_steps + 1 passes'
      worth of minibatches drawn with replacement.
    - Before evaluation theirs forwards an epoch to set BatchNorm's statistics; `recalibrate` does it in 16 minibatches.
    - M starts at zero; theirs at a raw gradient, much larger than (w - mu), which fades over about 20 outer steps.
    - Every param group counts; theirs updates only the first.
    - Without Nesterov, the pull towards w and the noise stay out of m; there they leak into it, through aliasing.
    - No scoping of gamma: theirs never increments its counter, so that gamma is constant there too.
    - `beta` weighs the old mean, as their `beta1` does; the paper's alpha is 1 - beta (or beta: the text does not say).
    - The noise has the standard deviation of their code, noise * sqrt(2 * inner_lr); the paper prints sqrt(inner_lr).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rb_smooth.components.optimizers._langevin import LangevinOptimizer, State


class EntropySGD(LangevinOptimizer):
    """SGD on the locally averaged loss. After step() the parameters hold the chain w'; eval() brings w, train() w'.
    Source: Chaudhari et al., arXiv 1611.01838, Algorithm 1; Kanai et al., arXiv 2103.01400.

    lr (>= 0): step of w towards the chain's mean, which schedules change; 1 moves (without momentum) all the way.
        Source: Kanai et al., appendix E (0.01 on SVHN).
    momentum (>= 0, < 1): momentum of both loops, w's and the chain's. Source: Kanai et al., appendix E.
    nesterov: Nesterov's form of momentum, in both loops. Source: inferred from the Entropy-SGD authors' code.
    weight_decay (>= 0): L2 penalty of every parameter, in both loops. Source: Kanai et al., appendix E.
    inner_lr (> 0): step of the chain, never scheduled. Source: inferred from the Entropy-SGD authors' code.
    inner_steps (minibatches, >= 1): steps of the chain for one of w, the paper's L. Source: inferred from the
        Entropy-SGD authors' README; Kanai et al. tuned it.
    gamma (>= 0): pull of the chain towards w; larger means a narrower neighbourhood. Source: inferred from the
        Entropy-SGD authors' README, for CIFAR.
    beta (>= 0, < 1): weight of the old mean. Source: the number, Kanai et al.; inferred, that it is this one.
    noise (>= 0): square root of the chain's temperature. Source: inferred from the Entropy-SGD authors' code.
    generator: where the noise is drawn from, on the parameters' device; None: torch's global one. Under several
        processes every rank must draw the same noise.

    Memory beyond the parameters and their gradients: w, mu, m, M, one copy each (w, mu alone if momentum is 0).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 0.1,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 5e-4,
        inner_lr: float = 0.1,
        inner_steps: int = 20,
        gamma: float = 0.03,
        beta: float = 0.75,
        noise: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            inner_lr=inner_lr,
            inner_steps=inner_steps,
            gamma=gamma,
            beta=beta,
            noise=noise,
        )
        super().__init__(params, defaults, generator)

    def _outer_gradient(self, states: list[State], group: dict[str, Any]) -> list[Tensor]:
        """w - mu: the gradient of the smoothed loss over gamma."""
        return list(torch._foreach_sub([s["w"] for s in states], [s["mu"] for s in states]))
