"""Reference implementation of EntropySGD as printed: two nested loops, for one tensor, without noise."""

from __future__ import annotations

import torch


def entropy_sgd_reference(
    w,
    gradient,
    *,
    outer,
    lr,
    momentum,
    nesterov,
    weight_decay,
    inner_lr,
    inner_steps,
    gamma,
    beta,
    outer_momentum=None,
    outer_weight_decay=None,
    M=0.0,
    curvature_floor=None,
    leaking=False,
):
    """Yields w after each outer step; gradient(point, minibatch).

    outer_momentum, outer_weight_decay: of w; None: as momentum and weight_decay.
    curvature_floor: None for Algorithm 1; a number for the second-order step of Eq. (77).
    leaking:         as in the authors' code without Nesterov, where the pull towards w stays in the momentum.
    """
    minibatch = 0
    outer_momentum = momentum if outer_momentum is None else outer_momentum
    outer_weight_decay = weight_decay if outer_weight_decay is None else outer_weight_decay
    for _ in range(outer):
        chain, mu, m, var = w.clone(), w.clone(), torch.zeros_like(w), torch.zeros_like(w)
        for _ in range(inner_steps):
            pull = gamma * (chain - w)
            d = gradient(chain, minibatch) + weight_decay * chain
            if momentum:
                m = momentum * m + d
                d = d + momentum * m if nesterov else m
            chain = chain - inner_lr * (d + pull)
            if leaking:
                m = m + pull
            var = beta * (var + (1 - beta) * (chain - mu) ** 2)
            mu = beta * mu + (1 - beta) * chain
            minibatch += 1
        d = w - mu
        if curvature_floor is not None:
            d = d / (1 - gamma * var).clamp(min=curvature_floor)
        d = d + outer_weight_decay * w
        if outer_momentum:
            M = outer_momentum * M + d
            d = d + outer_momentum * M if nesterov else M
        w = w - lr * d
        yield w


def nonlinear(point, minibatch):
    """The gradient of a different non-quadratic function for each minibatch."""
    a = torch.linspace(0.5, 2.0, point.numel(), dtype=point.dtype).view_as(point)
    return a * point + torch.sin(3 * point + minibatch)


def descend(optimizer, params, gradient, steps):
    """`steps` minibatches; params may be several tensors, each with its own gradient."""
    for minibatch in range(steps):
        for p in params:
            p.grad = gradient(p.detach(), minibatch)
        optimizer.step()
