"""Base of EntropySGD and EntropySGD2: an optimizer that runs a Langevin chain around the deployed weights.

The papers' two nested loops become one counter: `k` in each param group counts minibatches in the current inner loop.
So step() is called once per minibatch, an epoch is one pass over the data, and a run can be saved within an inner loop.
A method defines `_update_estimates` (what it estimates from the chain) and `_outer_gradient` (the direction of w).
"""

from __future__ import annotations

import math
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

    defaults: lr, momentum, outer_momentum, nesterov, weight_decay, outer_weight_decay, inner_lr, inner_schedule,
        inner_steps, gamma, beta, noise, and a method's own.
    State per parameter: w, mu, and with momentum m (of the chain) and M (of w), each of the parameter's size.
    A group also has base_lr, its lr when it was added, with which inner_schedule compares lr.

    Supports the rest of torch.optim.Optimizer: groups, schedulers, hooks, closures, state_dict, add_param_group.
    """

    generator: torch.Generator | None = None
    """Generator of the noise; None: torch's global one. A copied optimizer has None: torch copies groups and state."""

    def __init__(self, params: Any, defaults: dict[str, Any], generator: torch.Generator | None) -> None:
        ranges.at_least(0, **{key: defaults[key] for key in ("lr", "weight_decay", "gamma", "noise")})
        ranges.above(0, inner_lr=defaults["inner_lr"])
        ranges.at_least(1, inner_steps=defaults["inner_steps"])
        ranges.below_one(momentum=defaults["momentum"], beta=defaults["beta"])
        if defaults["outer_momentum"] is not None:
            ranges.below_one(outer_momentum=defaults["outer_momentum"])
        if defaults["outer_weight_decay"] is not None:
            ranges.at_least(0, outer_weight_decay=defaults["outer_weight_decay"])
        if defaults["inner_schedule"]:
            ranges.above(0, lr=defaults["lr"])
        self.generator = generator
        super().__init__(params, {**defaults, "k": 0, "train_mode": True})  # k: minibatches since the last outer step

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self.param_groups[-1].setdefault("base_lr", self.param_groups[-1]["lr"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give groups that were saved before some options existed the values that change nothing."""
        super().__setstate__(state)
        for group in self.param_groups:
            unset = dict(outer_momentum=None, outer_weight_decay=None, inner_schedule=False, base_lr=group["lr"])
            group.update(unset | group)

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

    def time_constant(self, lr: float, curvature: float) -> float:
        """Minibatches in which w's distance to the minimum of a quadratic falls by a factor of e.

        0 if one outer step reaches the minimum, inf if none does.

        An outer step without noise maps (w, M) linearly; its largest eigenvalue per minibatch gives the time. The
        second-order step is taken as the first-order one.
        """
        group = self.param_groups[0]
        inner_lr = _inner_lr(group | {"lr": lr})
        chain, mu, m = 1.0, 1.0, 0.0  # of w = 1
        for _ in range(group["inner_steps"]):
            d = (curvature + group["weight_decay"]) * chain
            m = group["momentum"] * m + d
            d = d + group["momentum"] * m if group["nesterov"] else m
            chain -= inner_lr * (d + group["gamma"] * (chain - 1))
            mu = group["beta"] * mu + (1 - group["beta"]) * chain
        d, momentum = 1 - mu + _outer(group, "weight_decay"), _outer(group, "momentum")
        of_d, of_M = (1 + momentum, momentum**2) if group["nesterov"] else (1.0, momentum)
        step = torch.tensor([[1 - lr * of_d * d, -lr * of_M], [d, momentum]], dtype=torch.float64)
        largest = torch.linalg.eigvals(step).abs().max().item() if step.isfinite().all() else math.inf
        if largest == 0:
            return 0.0
        return -group["inner_steps"] / math.log(largest) if largest < 1 else math.inf

    def _new_state(self, p: Tensor, group: dict[str, Any]) -> State:
        state = {"w": p.detach().clone(), "mu": p.detach().clone()}
        if group["momentum"]:
            state["m"] = torch.zeros_like(p)
        if _outer(group, "momentum"):
            state["M"] = torch.zeros_like(p)
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
        """Step the chain w' in place. Allocates one copy of it."""
        for p in chain:
            if p not in self.state:
                self.state[p] = self._new_state(p, group)
        states = [self.state[p] for p in chain]
        for state in states:
            state["moved"] = True  # since the last outer step; parameters without a gradient since then are skipped
        inner_lr = _inner_lr(group)
        gradients = [p.grad for p in chain if p.grad is not None]
        d = list(torch._foreach_add(gradients, chain, alpha=group["weight_decay"]))
        m = [s["m"] for s in states] if group["momentum"] else None
        d = _with_momentum(d, m, group["momentum"], group["nesterov"])
        # w' - inner_lr * gamma * (w' - w): the pull stays out of d, hence out of m
        torch._foreach_lerp_(chain, [s["w"] for s in states], inner_lr * group["gamma"])
        torch._foreach_add_(chain, d, alpha=-inner_lr)
        del d  # free memory before drawing noise
        if group["noise"]:
            for p in chain:
                # Contiguous: drawing into another layout is eight times slower and gives other values.
                xi = torch.empty(p.shape, dtype=p.dtype, device=p.device).normal_(generator=self.generator)
                p.add_(xi, alpha=group["noise"] * (2 * inner_lr) ** 0.5)
        self._update_estimates(chain, states, group)

    def _outer_step(self, chain: list[Tensor], group: dict[str, Any]) -> None:
        """Step w in place; the chain and its mean go on from there."""
        states = [self.state[p] for p in chain]
        w = [s["w"] for s in states]
        momentum = _outer(group, "momentum")
        d = self._outer_gradient(states, group)
        torch._foreach_add_(d, w, alpha=_outer(group, "weight_decay"))
        d = _with_momentum(d, [s["M"] for s in states] if momentum else None, momentum, group["nesterov"])
        torch._foreach_add_(w, d, alpha=-group["lr"])
        torch._foreach_copy_(chain, w)
        torch._foreach_copy_([s["mu"] for s in states], w)
        if group["momentum"]:
            torch._foreach_zero_([s["m"] for s in states])
        for state in states:
            state["moved"] = False


def _inner_lr(group: dict[str, Any]) -> float:
    scheduled: float = group["lr"] / group["base_lr"] if group["inner_schedule"] else 1.0
    return group["inner_lr"] * scheduled


def _outer(group: dict[str, Any], key: str) -> float:
    """The outer loop's momentum or weight_decay: that of the inner loop unless it is given."""
    given: float | None = group[f"outer_{key}"]
    return group[key] if given is None else given


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
