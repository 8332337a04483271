"""Random directions in the space of weights, filter-normalised, so that landscapes of different networks compare.

Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", arXiv 1712.09913, Section 4:

    d_{i,j} <- d_{i,j} / ||d_{i,j}|| * ||w_{i,j}||        ||.||: the Frobenius norm

for each filter j (a slice of the first dimension: what makes one output channel of a convolution, or one output of a
linear layer) of each weight i with more than one dimension. d_i = 0 for biases and BatchNorm's parameters.

A network that rectifies computes the same if the filters of one layer are doubled and those of the next halved, though
a step of one length then does less to the first and more to the second. Measured in filters' norms the step is the
same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rb_smooth.core.determinism import derive_seed


def random_direction(weights: Sequence[Tensor], seed: int, number: int) -> list[Tensor]:
    """Direction `number` (>= 0) of `seed` (>= 0): a standard Gaussian of the shapes of `weights`, on the CPU, float32.

    It depends on seed, number and shapes alone: networks of one architecture get the same draw.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, number))
    return [torch.randn(weight.shape, generator=generator) for weight in weights]


def filter_normalised(direction: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """`direction` with every filter as long as that of `weights` in its place; 0 where those have one dimension.

    Both are lists of tensors of the same shapes; so is the result, in the type and on the device of `weights`.
    """
    return [_normalise(d.to(w), w) for d, w in zip(direction, weights, strict=True)]


def _normalise(d: Tensor, w: Tensor) -> Tensor:
    if w.ndim < 2:
        return torch.zeros_like(w)
    lengths = _filter_norms(w) / _filter_norms(d)
    return d * lengths.view(-1, *[1] * (w.ndim - 1))


def _filter_norms(tensor: Tensor) -> Tensor:
    """(filters,) Frobenius norms."""
    return tensor.flatten(1).norm(dim=1)
