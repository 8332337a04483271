"""One training step as in the AWP authors' scripts, the reference for speed.

Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", arXiv 2004.05884. Written from a
description of what their code does, not from the code. Eager, in the precision and memory layout of the model and the
images (theirs: fp32, NCHW), on any device:

    AT      10 PGD steps in the model's mode (train), each a forward and a backward() that also fills the parameters'
            gradients; a forward to choose among restarts; the step; a clean forward for the log
    TRADES  10 steps up the divergence in eval mode; two clean forwards and an adversarial one in the step
    AWP     a second network, the proxy, takes the weights, ascends the loss by one step of plain SGD, and its move,
            scaled to gamma ||w_l||, is added to the weights; subtracted again after the optimizer has moved

Where the description leaves the computation open, the cheaper way is taken: forward passes that are not differentiated
record no graph, TRADES' attack computes clean logits once and differentiates to the images alone, and its proxy has one
clean forward pass.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AuthorsStep:
    """`AuthorsStep(model)(x, y)` is one minibatch; x: (B, C, H, W) in [0, 1], y: (B,) int64; returns the loss.

    objective: "at" (cross-entropy, Linf) or "trades".
    eps, step_size, steps: the Linf ball in pixels, the attack's step and the number of its steps.
    beta:      weight of TRADES' divergence.
    gamma:     AWP's size relative to each weight tensor's norm (0.01 for AT, 0.005 for TRADES); 0: without AWP.
    lr, momentum, weight_decay: of the SGD that trains.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        objective: Literal["at", "trades"] = "at",
        eps: float = 8 / 255,
        step_size: float = 2 / 255,
        steps: int = 10,
        beta: float = 6.0,
        gamma: float = 0.0,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> None:
        self.model, self.objective = model, objective
        self.eps, self.step_size, self.steps, self.beta, self.gamma = eps, step_size, steps, beta, gamma
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.v: dict[str, Tensor] = {}
        if gamma:
            self.proxy = copy.deepcopy(model)
            proxy_lr = 0.01 if objective == "at" else 0.1  # cancels in v up to rounding
            self.proxy_optimizer = torch.optim.SGD(self.proxy.parameters(), lr=proxy_lr)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return self.update(x, self.craft(x, y), y)

    def craft(self, x: Tensor, y: Tensor) -> Tensor:
        """x_adv, in [0, 1]."""
        return self._pgd(x, y) if self.objective == "at" else self._pgd_kl(x)

    def update(self, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Update the weights on given adversarial examples; returns the loss at w + gamma v."""
        self.model.train()
        if self.gamma:
            self.v = self._direction(x, x_adv, y)
            self._shift(self.gamma)
        self.optimizer.zero_grad()
        loss = self._loss(x, x_adv, y)
        loss.backward()
        self.optimizer.step()
        if self.gamma:
            self._shift(-self.gamma)
        if self.objective == "at":
            with torch.no_grad():
                self.model(x)
        return loss.detach()

    def _pgd(self, x: Tensor, y: Tensor) -> Tensor:
        delta = torch.empty_like(x).uniform_(-self.eps, self.eps).clamp(-x, 1 - x).requires_grad_()
        for _ in range(self.steps):
            F.cross_entropy(self.model(x + delta), y).backward()
            with torch.no_grad():
                moved = (delta + self.step_size * delta.grad.sign()).clamp(-self.eps, self.eps)
                delta.copy_(moved.clamp(-x, 1 - x))
            delta.grad.zero_()
        with torch.no_grad():
            losses = F.cross_entropy(self.model(x + delta), y, reduction="none")
            chosen = (losses >= 0).view(-1, 1, 1, 1)  # better than the restart before: of one restart, always
            return (x + torch.where(chosen, delta, 0)).clamp(0, 1)

    def _pgd_kl(self, x: Tensor) -> Tensor:
        self.model.eval()
        with torch.no_grad():
            p = self.model(x).softmax(1)
        x_adv = x + 0.001 * torch.randn_like(x)
        for _ in range(self.steps):
            x_adv.requires_grad_()
            divergence = F.kl_div(self.model(x_adv).log_softmax(1), p, reduction="sum")
            [gradient] = torch.autograd.grad(divergence, [x_adv])
            moved = x_adv.detach() + self.step_size * gradient.sign()
            x_adv = moved.clamp(x - self.eps, x + self.eps).clamp(0, 1)
        return x_adv

    def _loss(self, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        if self.objective == "at":
            return F.cross_entropy(self.model(x_adv), y)
        return F.cross_entropy(self.model(x), y) + self.beta * _divergence(self.model(x), self.model(x_adv))

    def _proxy_loss(self, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        if self.objective == "at":
            return F.cross_entropy(self.proxy(x_adv), y)
        clean = self.proxy(x)
        return F.cross_entropy(clean, y) + self.beta * _divergence(clean, self.proxy(x_adv))

    def _direction(self, x: Tensor, x_adv: Tensor, y: Tensor) -> dict[str, Tensor]:
        """v_l = ||w_l|| / (||move_l|| + 1e-20) move_l, of the entries called weight that have several dimensions."""
        self.proxy.load_state_dict(self.model.state_dict())
        self.proxy.train()
        self.proxy_optimizer.zero_grad()
        (-self._proxy_loss(x, x_adv, y)).backward()
        self.proxy_optimizer.step()
        moved, v = self.proxy.state_dict(), {}
        for name, w in self.model.state_dict().items():
            if "weight" in name and w.ndim > 1:
                move = moved[name] - w
                v[name] = w.norm() / (move.norm() + 1e-20) * move
        return v

    @torch.no_grad()
    def _shift(self, gamma: float) -> None:
        for name, w in self.model.named_parameters():
            if name in self.v:
                w.add_(self.v[name], alpha=gamma)


def _divergence(logits: Tensor, at: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(at)), the mean over images."""
    return F.kl_div(at.log_softmax(1), logits.softmax(1), reduction="batchmean")
