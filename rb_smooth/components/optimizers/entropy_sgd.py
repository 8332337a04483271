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
        d = (w - mu) + wd * w;   M <- mom * M + d;   d <- d + mom * M      (outer_momentum, outer_weight_decay)
        w <- w - lr * d;   w', mu <- w;   m <- 0

While (w - mu) is constant, w moves lr / (1 - outer_momentum) times that far per outer step: once with the paper's lr
0.1 and momentum 0.9, as with lr 1 and no momentum in the authors' Lua code. w is slow: on a quadratic of curvature 0.3
it comes closer to the minimum by a factor of e in 171, 340 and 1458 minibatches at lr 0.1, 0.01 and 0.001 (SGD: 19, 19
and 324; `time_constant`). So each learning rate needs thousands of minibatches.

The paper prints two nested loops; here step() is called once per minibatch and counts inner steps. The updates are in
`rb_smooth.components.optimizers._langevin`; tests/test_entropy_sgd.py checks them against the nested loops.

Differs from the authors' code (Chaudhari et al.'s Python, on which Kanai et al. build):
    - `lr` is read from the param group at each step, so a schedule decays it; the authors read a copy made at
      construction. The schedule decays `lr` only; `inner_lr` is constant, as in the authors' code, unless
      `inner_schedule`.
    - Every minibatch is used; the authors draw inner_steps + 1 per outer step and discard the first gradient.
    - An epoch is one pass over shuffled data, and an inner loop may cross epochs; the authors' epoch is inner_steps + 1
      passes' worth of minibatches drawn with replacement.
    - `recalibrate` sets BatchNorm's statistics before evaluation on 16 minibatches; the authors use an epoch.
    - M starts at zero; the authors start it at a raw gradient, much larger than (w - mu), whose effect fades over about
      20 outer steps.
    - Their Lua code's outer step is plain: here lr 1 (then 0.2 and 0.04), outer_momentum 0 and outer_weight_decay 0. It
      adds the chain's weight decay after momentum, which is not offered here.
    - All param groups are updated; the authors update only the first.
    - Without Nesterov, the pull towards w and the noise do not enter m; in the authors' code they do, through aliasing.
    - gamma is constant (no scoping); it is constant in the authors' code too, which never increments its counter.
    - `beta` weights the old mean, as the authors' `beta1`; the paper's alpha is 1 - beta (or beta: the text does not
      say).
    - The noise has the standard deviation of the authors' code, noise * sqrt(2 * inner_lr); the paper prints
      sqrt(inner_lr).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rb_smooth.components.optimizers._langevin import LangevinOptimizer, State


class EntropySGD(LangevinOptimizer):
    """SGD on the locally averaged loss. After step() the parameters are the chain w'; eval() sets w, train() sets w'.
    Source: Chaudhari et al., arXiv 1611.01838, Algorithm 1; Kanai et al., arXiv 2103.01400.

    lr (>= 0): outer step of w towards the chain's mean, multiplied by the schedule; 1, without momentum: w becomes the
        mean. Source: Kanai et al., appendix E (0.01 on SVHN).
    momentum (>= 0, < 1): momentum of the chain, and of w unless outer_momentum is given. Source: Kanai et al.,
        appendix E.
    outer_momentum (>= 0, < 1): momentum of w; by default as momentum. Source: ours; the Entropy-SGD authors' Lua code
        has none.
    nesterov: Nesterov's form of momentum, in both loops. Source: inferred from the Entropy-SGD authors' code.
    weight_decay (>= 0): L2 penalty of every parameter in the chain's steps, and in w's unless outer_weight_decay is
        given. Source: Kanai et al., appendix E.
    outer_weight_decay (>= 0): L2 penalty in w's steps; by default as weight_decay. Source: ours; the Entropy-SGD
        authors' Lua code has none.
    inner_lr (> 0): step size of the chain. Source: inferred from the Entropy-SGD authors' code.
    inner_schedule: whether inner_lr is multiplied by the schedule too: by lr now / the lr that the optimizer was made
        with, in a recipe the stage's. Then w is slower still: begun at lr 0.1, it needs 64,717 minibatches at lr 0.001
        where a constant inner_lr needs 1458 (`time_constant`, curvature 0.3, no weight decay). Source: ours; constant
        in the Entropy-SGD authors' code.
    inner_steps (minibatches, >= 1): chain steps per outer step, the paper's L. Source: inferred from the
        Entropy-SGD authors' README; Kanai et al. tuned it.
    gamma (>= 0): pull of the chain towards w; larger: a narrower neighbourhood. Source: inferred from the
        Entropy-SGD authors' README, for CIFAR.
    beta (>= 0, < 1): weight of the old mean. Source: Kanai et al. for the number; inferred that it is this weight.
    noise (>= 0): square root of the chain's temperature. Source: inferred from the Entropy-SGD authors' code.
    generator: random generator of the noise, on the parameters' device; None: torch's global one. With several
        processes, every rank needs an equally seeded one.

    Memory beyond the parameters and their gradients: w, mu, m, M, one copy each (w, mu alone if momentum is 0).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 0.1,
        momentum: float = 0.9,
        outer_momentum: float | None = None,
        nesterov: bool = True,
        weight_decay: float = 5e-4,
        outer_weight_decay: float | None = None,
        inner_lr: float = 0.1,
        inner_schedule: bool = False,
        inner_steps: int = 20,
        gamma: float = 0.03,
        beta: float = 0.75,
        noise: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            outer_momentum=outer_momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            outer_weight_decay=outer_weight_decay,
            inner_lr=inner_lr,
            inner_schedule=inner_schedule,
            inner_steps=inner_steps,
            gamma=gamma,
            beta=beta,
            noise=noise,
        )
        super().__init__(params, defaults, generator)

    def _outer_gradient(self, states: list[State], group: dict[str, Any]) -> list[Tensor]:
        """w - mu: the gradient of the smoothed loss divided by gamma."""
        return list(torch._foreach_sub([s["w"] for s in states], [s["mu"] for s in states]))
