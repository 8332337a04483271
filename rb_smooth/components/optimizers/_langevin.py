"""Base of EntropySGD and EntropySGD2: an optimizer that runs a Langevin chain around the deployed weights.

The papers' two nested loops become one counter: `k` in each param group counts minibatches in the current inner loop.
So step() is called once per minibatch, an epoch is one pass over the data, and a run can be saved within an inner loop.
A method defines `_update_estimates` (what it estimates from the chain) and `_outer_gradient` (the direction of w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from rb_smooth.components import ranges

State = dict[str, Any]

_CACHE_ELEMENTS = 2**18
"""Elements of parameters in a chunk; with gradients and states a few MB."""


class LangevinOptimizer(torch.optim.Optimizer):
    """After step() the parameters are the chain w'; eval() sets w, train() sets w' again.

    defaults: lr, momentum, nesterov, weight_decay, inner_lr, inner_steps, gamma, beta, noise, and a method's own.
    State per parameter: w, mu, and with momentum m (of the chain) and M (of w), each of the parameter's size.

    Supports the rest of torch.optim.Optimizer: groups, schedulers, hooks, closures, state_dict, add_param_group.
    """

    generator: torch.Generator | None = None
    """Generator of the noise; None: torch's global one. A copied optimizer has None: torch copies groups and state."""

    def __init__(self, params: Any, defaults: dict[str, Any], generator: torch.Generator | None) -> None:
        ranges.at_least(0, **{key: defaults[key] for key in ("lr", "weight_decay", "gamma", "noise")})
        ranges.above(0, inner_lr=defaults["inner_lr"])
        ranges.at_least(1, inner_steps=defaults["inner_steps"])
        ranges.below_one(momentum=defaults["momentum"], beta=defaults["beta"])
        self.generator = generator
        super().__init__(params, {**defaults, "k": 0, "train_mode": True})  # k: minibatches since the last outer step

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step the chain by one minibatch and, every inner_steps-th time, step w.

        closure: computes loss and gradients at w', once; returns the loss, as step() does. None: p.grad is set already.
        """
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                f"{type(self).__name__}.step() in eval mode: gradients must be taken at w', not w; call "
                "optimizer.train()"
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for chunk in _param_chunks(p for p in group["params"] if p.grad is not None):
                self._inner_step(chunk, group)
            group["k"] += 1
            if group["k"] == group["inner_steps"]:
                for chunk in _param_chunks(p for p in group["params"] if p in self.state and self.state[p]["moved"]):
                    self._outer_step(chunk, group)
                group["k"] = 0
        return loss

    def train(self) -> None:
        """Parameters := w'. Call before taking gradients."""
        self._swap(train_mode=True)

    def eval(self) -> None:
        """Parameters := w. Call before evaluating or saving."""
        self._swap(train_mode=False)

    def deployed(self) -> list[Tensor]:
        """Return w in parameter order, in either mode. Not a copy: valid until the next step()."""
        return [
            self.state[p]["w"] if p in self.state and group["train_mode"] else p.detach()
            for group in self.param_groups
            for p in group["params"]
        ]

    def report(self) -> dict[str, float]:
        """Return no numbers for the log."""
        return {}

    def _new_state(self, p: Tensor, group: dict[str, Any]) -> State:
        state = {"w": p.detach().clone(), "mu": p.detach().clone()}
        if group["momentum"]:
            state |= {"m": torch.zeros_like(p), "M": torch.zeros_like(p)}
        return state

    def _update_estimates(self, chain: list[Tensor], states: list[State], group: dict[str, Any]) -> None:
        """Update what is estimated from the chain, after each step: the mean, mu <- beta * mu + (1 - beta) * w'."""
        torch._foreach_lerp_([s["mu"] for s in states], chain, 1 - group["beta"])

    def _outer_gradient(self, states: list[State], group: dict[str, Any]) -> list[Tensor]:
        """Return the direction that the outer step subtracts from w, before weight decay and momentum; a new list."""
        raise NotImplementedError

    @torch.no_grad()
    def _swap(self, train_mode: bool) -> None:
        """Exchange the values of p and its state "w", bit for bit; both keep their storage."""
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
                self.state[p] = self._new_state(p, group)
        states = [self.state[p] for p in chain]
        for state in states:
            state["moved"] = True  # since the last outer step; parameters without a gradient since then are skipped
        langevin_step(
            chain,
            [p.grad for p in chain if p.grad is not None],
            [s["w"] for s in states],
            [s["m"] for s in states] if group["momentum"] else None,
            **{key: group[key] for key in ("momentum", "nesterov", "weight_decay", "inner_lr", "gamma", "noise")},
            generator=self.generator,
        )
        self._update_estimates(chain, states, group)

    def _outer_step(self, chain: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[p] for p in chain]
        w = [s["w"] for s in states]
        outer_step(
            w,
            self._outer_gradient(states, group),
            [s["M"] for s in states] if group["momentum"] else None,
            **{key: group[key] for key in ("lr", "momentum", "nesterov", "weight_decay")},
        )
        torch._foreach_copy_(chain, w)
        torch._foreach_copy_([s["mu"] for s in states], w)
        if group["momentum"]:
            torch._foreach_zero_([s["m"] for s in states])
        for state in states:
            state["moved"] = False


def _param_chunks(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the parameters in chunks to update together: on a GPU all in one, to save kernel launches; on a CPU as many
    as fit in its cache.
    """
    chunk: list[Tensor] = []
    for p in parameters:
        chunk.append(p)
        if p.device.type == "cpu" and sum(each.numel() for each in chunk) > _CACHE_ELEMENTS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def langevin_step(
    chain: list[Tensor],
    gradients: list[Tensor],
    w: list[Tensor],
    m: list[Tensor] | None,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    inner_lr: float,
    gamma: float,
    noise: float,
    generator: torch.Generator | None,
) -> None:
    """Step the chain w' in place. m is None if and only if momentum is 0. Allocates one copy of the chain."""
    d = list(torch._foreach_add(gradients, chain, alpha=weight_decay))
    d = _with_momentum(d, m, momentum, nesterov)
    # w' - inner_lr * gamma * (w' - w): the pull stays out of d, hence out of m
    torch._foreach_lerp_(chain, w, inner_lr * gamma)
    torch._foreach_add_(chain, d, alpha=-inner_lr)
    del d  # free memory before drawing noise
    if noise:
        for p in chain:
            # Contiguous: drawing into another layout is eight times slower and gives other values.
            xi = torch.empty(p.shape, dtype=p.dtype, device=p.device).normal_(generator=generator)
            p.add_(xi, alpha=noise * (2 * inner_lr) ** 0.5)


def outer_step(
    w: list[Tensor],
    gradients: list[Tensor],
    M: list[Tensor] | None,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Step w along -gradients, in place. M is None if and only if momentum is 0. Overwrites `gradients`."""
    torch._foreach_add_(gradients, w, alpha=weight_decay)
    torch._foreach_add_(w, _with_momentum(gradients, M, momentum, nesterov), alpha=-lr)


def _with_momentum(d: list[Tensor], buffer: list[Tensor] | None, momentum: float, nesterov: bool) -> list[Tensor]:
    """Return the descent direction: d without momentum; the updated buffer; or with Nesterov d + momentum * buffer."""
    if buffer is None:
        return d
    torch._foreach_mul_(buffer, momentum)
    torch._foreach_add_(buffer, d)
    if not nesterov:
        return buffer
    torch._foreach_add_(d, buffer, alpha=momentum)
    return d
