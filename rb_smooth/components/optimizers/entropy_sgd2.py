"""EntropySGD2: EntropySGD with a second-order outer step.

Kanai et al., "Smoothness Analysis of Adversarial Training", arXiv 2103.01400, Eq. (77). The smoothed loss has the
Hessian gamma I - gamma^2 Cov(w') (their Theorem 3). With the diagonal of the covariance, Newton's step is

    w <- w - lr * (w - E[w']) / (1 - gamma * var(w')),   element by element

with the variance estimated from the same chain as the mean. It differs from EntropySGD in

    each minibatch, with mu before its update:
        var <- beta * (var + (1 - beta) * (w' - mu)^2)
    every inner_steps-th minibatch:
        d = (w - mu) / max(1 - gamma * var, curvature_floor) + wd * w
        then momentum and the step as in EntropySGD;   var <- 0

var is the exponentially weighted, centred variance: E[w'^2] - E[w']^2 would cancel in float32 (weights of 0.05 resolve
3e-10). With var = 0 the update is EntropySGD's. On a quadratic, with exact moments, lr 1 and no momentum, one outer
step reaches the minimum.

Differs from the authors' code, which is not public:
    - The paper gives Eq. (77) and that the variance comes from the chain. Inferred: the variance's weights (those of
      the mean), its start at 0, and momentum and weight decay as in EntropySGD.
    - `curvature_floor` is ours: where gamma * var approaches or exceeds 1, the quotient would diverge or change sign.
    - The variance is the chain's own. The distribution at temperature 1 of Eq. (12) would need division by noise^2,
      which at noise 1e-4 would multiply the chain's drift, which is not noise, by 1e8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rb_smooth.components.optimizers._langevin import LangevinOptimizer, State


class EntropySGD2(LangevinOptimizer):
    """EntropySGD with each weight's outer step divided by the smoothed loss's curvature, estimated from the chain.
    Source: Kanai et al., arXiv 2103.01400, Eq. (77).

    lr, momentum, outer_momentum, nesterov, weight_decay, outer_weight_decay, inner_lr, inner_schedule, inner_steps,
        gamma, beta, noise: as entropy_sgd's.
    curvature_floor (> 0, <= 1): lower bound of 1 - gamma * var; the log has the share of clamped weights. Source: ours.

    Memory beyond EntropySGD's: var, one copy of the weights.
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
        curvature_floor: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        if not 0 < curvature_floor <= 1:
            raise ValueError(f"expected 0 < curvature_floor <= 1, got {curvature_floor}")
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
            curvature_floor=curvature_floor,
            clamped=torch.zeros((), dtype=torch.int64),  # clamped weights since the last report
            divided=0,  # all weights since the last report
        )
        super().__init__(params, defaults, generator)

    def report(self) -> dict[str, float]:
        """Return `clamped`: the share of clamped weights, over the outer steps since the last report."""
        clamped = sum(int(group["clamped"]) for group in self.param_groups)
        divided = sum(group["divided"] for group in self.param_groups)
        for group in self.param_groups:
            group["clamped"], group["divided"] = torch.zeros_like(group["clamped"]), 0
        return {"clamped": clamped / max(divided, 1)}

    def _new_state(self, p: Tensor, group: dict[str, Any]) -> State:
        return super()._new_state(p, group) | {"var": torch.zeros_like(p)}

    def _update_estimates(self, chain: list[Tensor], states: list[State], group: dict[str, Any]) -> None:
        update_moments([s["mu"] for s in states], [s["var"] for s in states], chain, group["beta"])

    def _outer_gradient(self, states: list[State], group: dict[str, Any]) -> list[Tensor]:
        curvature = [s["var"] for s in states]  # overwritten in place; var restarts at 0
        torch._foreach_mul_(curvature, -group["gamma"])
        torch._foreach_add_(curvature, 1.0)
        below = torch.stack([(c < group["curvature_floor"]).sum() for c in curvature]).sum()
        group["clamped"] = group["clamped"].to(below.device) + below  # on the device: no synchronisation
        group["divided"] += sum(c.numel() for c in curvature)
        torch._foreach_clamp_min_(curvature, group["curvature_floor"])
        d = list(torch._foreach_sub([s["w"] for s in states], [s["mu"] for s in states]))
        torch._foreach_div_(d, curvature)
        torch._foreach_zero_(curvature)
        return d


def update_moments(mu: list[Tensor], var: list[Tensor], chain: list[Tensor], beta: float) -> None:
    """Update the exponentially weighted mean and variance with one more point of the chain, in place."""
    distance = list(torch._foreach_sub(chain, mu))
    torch._foreach_lerp_(mu, chain, 1 - beta)
    torch._foreach_mul_(distance, distance)
    torch._foreach_add_(var, distance, alpha=1 - beta)
    torch._foreach_mul_(var, beta)
