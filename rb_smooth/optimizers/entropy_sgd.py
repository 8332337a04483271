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

The paper prints two nested loops. Here a counter `k` in each param group tells where in the inner loop a minibatch
falls, so that step() is called once per minibatch like any optimizer's, an epoch is one pass over the data, and a
checkpoint in the middle of an inner loop costs nothing. The test holds both forms together.

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

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class EntropySGD(torch.optim.Optimizer):
    """SGD on the locally averaged loss. After step() the parameters hold the chain w'; eval() brings w, train() w'.

    lr:           step of w towards the chain's mean, >= 0; 1 moves (without momentum) all the way. Schedules change it.
    momentum:     in [0, 1), of both loops; nesterov applies to both.
    weight_decay: >= 0, of both loops, on every parameter.
    inner_lr:     step of the chain, > 0, never scheduled.
    inner_steps:  minibatches per outer step (the paper's L), >= 1.
    gamma:        pull of the chain towards w, >= 0; larger means a narrower neighbourhood.
    beta:         weight of the old mean, in [0, 1).
    noise:        the square root of the chain's temperature, >= 0.
    generator:    where the noise is drawn from, on the parameters' device; None: torch's global one. Under several
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
        if min(lr, weight_decay, gamma, noise) < 0 or inner_lr <= 0:
            raise ValueError(
                "expected lr, weight_decay, gamma, noise >= 0 and inner_lr > 0, "
                f"got {lr}, {weight_decay}, {gamma}, {noise} and {inner_lr}"
            )
        if inner_steps < 1 or not 0 <= beta < 1 or not 0 <= momentum < 1:
            raise ValueError(
                f"expected inner_steps >= 1, 0 <= beta < 1, 0 <= momentum < 1, got {inner_steps}, {beta}, {momentum}"
            )
        self.generator = generator
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                nesterov=nesterov,
                weight_decay=weight_decay,
                inner_lr=inner_lr,
                inner_steps=inner_steps,
                gamma=gamma,
                beta=beta,
                noise=noise,
                k=0,  # minibatches since the last outer step
                train_mode=True,
            ),
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One minibatch: a step of the chain and, every inner_steps-th time, a step of w. Takes no closure."""
        if closure is not None:
            raise RuntimeError("expected p.grad to be ready, got a closure; call backward() before step()")
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                "EntropySGD.step() in eval mode: gradients are wanted at w', not at w; call optimizer.train()"
            )
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                self._inner_step(moving, group)
            group["k"] += 1
            if group["k"] == group["inner_steps"]:
                self._outer_step([p for p in group["params"] if p in self.state and self.state[p]["moved"]], group)
                group["k"] = 0

    def train(self) -> None:
        """Parameters := w'. Call it before taking gradients."""
        self._swap(train_mode=True)

    def eval(self) -> None:
        """Parameters := w. Call it before evaluating or saving what is deployed."""
        self._swap(train_mode=False)

    def deployed(self) -> list[Tensor]:
        """w, in the order of the parameters, without swapping. Not a copy: read it, do not keep it."""
        return [
            self.state[p]["w"] if p in self.state and group["train_mode"] else p.detach()
            for group in self.param_groups
            for p in group["params"]
        ]

    @torch.no_grad()
    def _swap(self, train_mode: bool) -> None:
        """Exchange the contents, not the storage, of p and its state "w": exact, and without further memory."""
        for group in self.param_groups:
            if group["train_mode"] != train_mode:
                for p in group["params"]:
                    if p in self.state:
                        other = self.state[p]["w"]
                        ours = p.detach().clone()
                        p.copy_(other)
                        other.copy_(ours)
                group["train_mode"] = train_mode

    def _inner_step(self, chain: list[Tensor], group: dict[str, Any]) -> None:
        for p in chain:
            if p not in self.state:
                self.state[p] = {"w": p.detach().clone(), "mu": p.detach().clone()}
                if group["momentum"]:
                    self.state[p] |= {"m": torch.zeros_like(p), "M": torch.zeros_like(p)}
        states = [self.state[p] for p in chain]
        for state in states:
            state["moved"] = True  # since the last outer step; who had no gradient since then is left alone
        chain_update(
            chain,
            [p.grad for p in chain if p.grad is not None],
            [s["w"] for s in states],
            [s["mu"] for s in states],
            [s["m"] for s in states] if group["momentum"] else None,
            **{
                key: group[key]
                for key in ("momentum", "nesterov", "weight_decay", "inner_lr", "gamma", "beta", "noise")
            },
            generator=self.generator,
        )

    def _outer_step(self, chain: list[Tensor], group: dict[str, Any]) -> None:
        if not chain:
            return
        states = [self.state[p] for p in chain]
        w, mu = [s["w"] for s in states], [s["mu"] for s in states]
        outer_update(
            w,
            list(torch._foreach_sub(w, mu)),
            [s["M"] for s in states] if group["momentum"] else None,
            **{key: group[key] for key in ("lr", "momentum", "nesterov", "weight_decay")},
        )
        torch._foreach_copy_(chain, w)
        torch._foreach_copy_(mu, w)
        if group["momentum"]:
            torch._foreach_zero_([s["m"] for s in states])
        for state in states:
            state["moved"] = False


def chain_update(
    chain: list[Tensor],
    gradients: list[Tensor],
    w: list[Tensor],
    mu: list[Tensor],
    m: list[Tensor] | None,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    inner_lr: float,
    gamma: float,
    beta: float,
    noise: float,
    generator: torch.Generator | None,
) -> None:
    """One step of the chain w' and of its mean mu, in place. `m` is None if and only if momentum is 0."""
    d = _descent(gradients, chain, m, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    torch._foreach_lerp_(
        chain, w, inner_lr * gamma
    )  # w' - inner_lr * gamma * (w' - w): the pull stays out of d, hence out of m
    torch._foreach_add_(chain, d, alpha=-inner_lr)
    if noise:
        for p in chain:
            xi = torch.empty_like(p).normal_(generator=generator)
            p.add_(xi, alpha=noise * (2 * inner_lr) ** 0.5)
    torch._foreach_lerp_(mu, chain, 1 - beta)


def outer_update(
    w: list[Tensor],
    gradients: list[Tensor],
    M: list[Tensor] | None,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """One step of w along `gradients` (w - mu, for EntropySGD), in place. `M` is None if and only if momentum is 0."""
    d = _descent(gradients, w, M, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    torch._foreach_add_(w, d, alpha=-lr)


def _descent(
    gradients: list[Tensor],
    weights: list[Tensor],
    buffer: list[Tensor] | None,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> list[Tensor]:
    """The direction to descend: weight decay, then momentum. Moves `buffer`; leaves `gradients` alone."""
    d = torch._foreach_add(gradients, weights, alpha=weight_decay)
    if buffer is None:
        return list(d)
    torch._foreach_mul_(buffer, momentum)
    torch._foreach_add_(buffer, d)
    if not nesterov:
        return buffer
    torch._foreach_add_(d, buffer, alpha=momentum)
    return list(d)
