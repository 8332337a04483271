"""The adversarial loss as a function of the weights: its value, gradient and Hessian-vector products at any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rb_smooth.components.attacks import input_gradient_mode, pgd
from rb_smooth.components.weights import swapped
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation.accuracy import PGD_STEPS


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of any shapes as one vector, in their order. A copy."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class AdversarialLoss:
    """L(w) = 1/N sum_n CE(f_w(x'_n), y_n), x'_n by PGD in `threat` at w. threat None: x' = x, the standard loss.

    model:  left in eval mode: BatchNorm's running statistics are those of the given weights and held wherever the
            weights go. So this is the loss of the deployed network moved, one function of w alone.
    images: N of them; they are computed in the type and on the device of the model's weights, `batch_size` at a time.
    steps:  of PGD. seed: of its random starts, which are the same at every w: what then differs between two attacks is
            due to the weights.

    Weights are vectors (P,) of all parameters in their order.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        threat: Threat | None,
        *,
        steps: int = PGD_STEPS,
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        self.model, self.threat, self.steps, self.seed = model.eval(), threat, steps, seed
        self.parameters = list(model.parameters())
        like = self.parameters[0]
        self.x = images.x.to(like.device).to(like.dtype) / 255
        self.y = images.y.to(like.device)
        self._batches = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]

    @property
    def weights(self) -> Tensor:
        """A copy of the present weights, (P,)."""
        return flatten(self.parameters).detach()

    @contextmanager
    def at_weights(self, weights: Tensor) -> Iterator[None]:
        """Inside, the model has these weights (P,); afterwards its own again, bit for bit."""
        with swapped(self.parameters, self.unflatten(weights)):
            yield

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """A vector (P,) as tensors of the parameters' shapes, in their order."""
        pieces = vector.split([parameter.numel() for parameter in self.parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def adversarial_examples(self) -> Tensor:
        """x' (N, C, H, W) at the present weights, each time from the same random starts."""
        if self.threat is None:
            return self.x
        crafted = []
        with preserve_rng(), input_gradient_mode(self.model, "eval"):
            for number, part in enumerate(self._batches):
                torch.manual_seed(self.seed + number)
                crafted.append(pgd(self.model, self.x[part], self.y[part], self.threat, self.steps))
        return torch.cat(crafted)

    @torch.no_grad()
    def value(self, x_adv: Tensor | None = None) -> float:
        """L at the present weights; at `x_adv`, held, if it is given, else at attacks made anew."""
        x_adv = self.adversarial_examples() if x_adv is None else x_adv
        return sum(self._batch_loss(x_adv, part).double().item() for part in self._batches)

    def gradient(self, x_adv: Tensor | None = None) -> Tensor:
        """dL/dw (P,) at the present weights. x', made anew or `x_adv`, is held while differentiating (Danskin)."""
        x_adv = self.adversarial_examples() if x_adv is None else x_adv
        total = torch.zeros_like(self.weights)
        for part in self._batches:
            self._add(total, torch.autograd.grad(self._batch_loss(x_adv, part), self.parameters))
        return total

    def hessian_vector_product(self, x_adv: Tensor, v: Tensor) -> Tensor:
        """(d2L/dw2) v (P,) at the present weights and held x_adv, by differentiating the gradient along v (P,)."""
        total = torch.zeros_like(v)
        for part in self._batches:
            slope = torch.autograd.grad(self._batch_loss(x_adv, part), self.parameters, create_graph=True)
            along_v = torch.stack([(s * piece).sum() for s, piece in zip(slope, self.unflatten(v), strict=True)]).sum()
            self._add(total, torch.autograd.grad(along_v, self.parameters))
        return total

    def _add(self, total: Tensor, tensors: Sequence[Tensor]) -> None:
        """Add tensors of the parameters' shapes to a vector (P,), in place."""
        torch._foreach_add_(self.unflatten(total), list(tensors))

    def _batch_loss(self, x_adv: Tensor, batch: slice) -> Tensor:
        """This batch's share of the mean over all images."""
        return cross_entropy(self.model(x_adv[batch]), self.y[batch], reduction="sum") / len(self.y)
