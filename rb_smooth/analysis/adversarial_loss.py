"""The adversarial loss as a function of the weights: value, gradient and Hessian-vector products."""

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
    """Concatenate tensors of any shapes to one vector, a copy."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class AdversarialLoss:
    """L(w) = 1/N sum_n CE(f_w(x'_n), y_n), x'_n by PGD in `threat` at w. threat None: x' = x, the standard loss.

    model:  put into eval mode. BatchNorm's running statistics stay fixed, so L is a function of w alone.
    images: N images; computed in batches of `batch_size`, in the dtype and on the device of the model's weights.
    steps:  number of PGD steps.
    seed:   seed of PGD's random starts, which are the same at every w: attacks differ only because of the weights.

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
        """A copy of the current weights, (P,)."""
        return flatten(self.parameters).detach()

    @contextmanager
    def at_weights(self, weights: Tensor) -> Iterator[None]:
        """Context in which the model has these weights (P,); restores its own bit for bit."""
        with swapped(self.parameters, self.unflatten(weights)):
            yield

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Split a vector (P,) into tensors of the parameters' shapes."""
        pieces = vector.split([parameter.numel() for parameter in self.parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def adversarial_examples(self) -> Tensor:
        """x' (N, C, H, W) at the current weights, always from the same random starts."""
        if self.threat is None:
            return self.x
        batches = []
        with preserve_rng(), input_gradient_mode(self.model, "eval"):
            for number, part in enumerate(self._batches):
                torch.manual_seed(self.seed + number)
                batches.append(pgd(self.model, self.x[part], self.y[part], self.threat, self.steps))
        return torch.cat(batches)

    @torch.no_grad()
    def value(self, x_adv: Tensor | None = None) -> float:
        """L at the current weights, at `x_adv` or, by default, at newly computed attacks."""
        x_adv = self.adversarial_examples() if x_adv is None else x_adv
        return sum(self._batch_loss(x_adv, part).double().item() for part in self._batches)

    def gradient(self, x_adv: Tensor | None = None) -> Tensor:
        """dL/dw (P,) at the current weights and constant x' (Danskin): `x_adv` or newly computed attacks."""
        x_adv = self.adversarial_examples() if x_adv is None else x_adv
        total = torch.zeros_like(self.weights)
        for part in self._batches:
            self._add(total, torch.autograd.grad(self._batch_loss(x_adv, part), self.parameters))
        return total

    def hessian_vector_product(self, x_adv: Tensor, v: Tensor) -> Tensor:
        """(d2L/dw2) v (P,) at the current weights and constant x_adv, for v (P,), by double backpropagation."""
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
        """The sum over a batch, divided by N."""
        return cross_entropy(self.model(x_adv[batch]), self.y[batch], reduction="sum") / len(self.y)
