"""An objective, an augmentation and an optimizer."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rb_smooth import plugin


class LogitPairing:
    """Adversarial training with equal logits on both images. Source: Kannan et al., arXiv 1803.06373.

    eps (pixels from 0 to 1, > 0): radius of the ball. Source: ours.
    weight (>= 0): weight of the squared distance of the logits. Source: ours.
    """

    def __init__(self, *, eps: float = 8 / 255, weight: float = 0.5) -> None:
        plugin.above(0, eps=eps)
        plugin.at_least(0, weight=weight)
        self.threat, self.weight = plugin.Threat("Linf", eps, eps / 4), weight

    def craft(self, model, x, y):
        with plugin.input_gradient_mode(model, bn_mode="train"):
            return plugin.pgd(model, x, y, self.threat, steps=10)

    def loss(self, model, x, x_adv, y):
        clean, attacked = model(x), model(x_adv)
        return plugin.Outcome(F.cross_entropy(attacked, y) + self.weight * F.mse_loss(attacked, clean), attacked)


def cutout(*, reach: int = 1) -> plugin.Augmentation:
    """Black out a square around a random pixel of each image. Source: DeVries and Taylor, arXiv 1708.04552.

    reach (pixels, >= 0): from the centre to each side. Source: ours.
    """
    plugin.at_least(0, reach=reach)

    def cut(x, generator):
        centres = [torch.randint(n, (len(x), 1), generator=generator).to(x.device) for n in x.shape[2:]]
        rows, columns = (
            (torch.arange(n, device=x.device) - centre).abs() <= reach for n, centre in zip(x.shape[2:], centres)
        )
        return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)

    return cut


@plugin.torch_optimizer
class SignSGD(torch.optim.Optimizer):
    """w <- w - lr * sign(g). Source: Bernstein et al., arXiv 1802.04434.

    lr (>= 0): learning rate, multiplied by the schedule. Source: ours.
    """

    def __init__(self, params, *, lr: float = 1e-3) -> None:
        plugin.at_least(0, lr=lr)
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=group["lr"])
