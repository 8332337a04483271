"""Reference implementations of the attacks, as printed in the papers."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gradient(loss, x_adv):
    x_adv = x_adv.detach().requires_grad_()
    return torch.autograd.grad(loss(x_adv), x_adv)[0]


def project_linf(x_adv, x, eps):
    return torch.max(torch.min(x_adv, x + eps), x - eps).clamp(0, 1)


def pgd(model, x, y, eps, step_size, steps):
    """Madry et al., Linf: x_adv <- project(x_adv + step * sign(gradient)), from a uniform start."""
    x_adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        g = gradient(lambda at: F.cross_entropy(model(at), y), x_adv)
        x_adv = project_linf(x_adv + step_size * g.sign(), x, eps)
    return x_adv.detach()


def pgd_l2(model, x, y, eps, step_size, steps):
    """Madry et al., L2: steps along the normalised gradient, from a random direction and a uniform radius."""

    def norm(z):
        return z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    direction = torch.empty_like(x).normal_()
    radius = torch.zeros(len(x), 1, 1, 1).uniform_(0, 1) * eps
    x_adv = (x + radius * direction / norm(direction)).clamp(0, 1)
    for _ in range(steps):
        g = gradient(lambda at: F.cross_entropy(model(at), y), x_adv)
        delta = x_adv + step_size * g / (norm(g) + 1e-10) - x
        x_adv = (x + delta * (eps / norm(delta)).clamp(max=1)).clamp(0, 1)
    return x_adv.detach()


def pgd_from_normal_start(model, x, y, eps, step_size, steps, norm):
    """Wang et al. (MART): PGD from x + 0.001 N(0, I), whose first gradient is taken outside [0, 1] too."""
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(steps):
        g = gradient(lambda at: F.cross_entropy(model(at), y), x_adv)
        if norm == "Linf":
            x_adv = project_linf(x_adv + step_size * g.sign(), x, eps)
            continue
        for row in range(len(x)):
            delta = x_adv[row] + step_size * g[row] / g[row].norm() - x[row]
            x_adv[row] = (x[row] + delta * min(1, eps / delta.norm().item())).clamp(0, 1)
    return x_adv.detach()


def reference_kl(p, q):
    """KL per row, as printed: sum p log (p / q)."""
    return (p * (p / q).log()).sum(1)


def pgd_kl(model, x, eps, step_size, steps):
    """Zhang et al.: sign steps up KL(p(x) || p(x_adv)) from a small normal start."""
    p = model(x).softmax(1).detach()
    x_adv = (x + 0.001 * torch.randn_like(x)).clamp(0, 1)
    for _ in range(steps):
        g = gradient(lambda at: reference_kl(p, model(at).softmax(1)).sum(), x_adv)
        x_adv = project_linf(x_adv + step_size * g.sign(), x, eps)
    return x_adv.detach()
