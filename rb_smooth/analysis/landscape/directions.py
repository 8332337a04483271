"""Random filter-normalised directions in weight space, so that landscapes of different networks are comparable.

Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", arXiv 1712.09913, Section 4:

    d_{i,j} <- d_{i,j} / ||d_{i,j}|| * ||w_{i,j}||        ||.||: the Frobenius norm

for each filter j (a slice of the first dimension: the weights of one output channel of a convolution, or of one output
of a linear layer) of each weight i with more than one dimension. d_i = 0 for biases and BatchNorm's parameters.

A ReLU network computes the same function if the filters of one layer are doubled and those of the next are halved, but
a step of fixed length then changes the first less and the second more. A step in units of filter norms does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rb_smooth.core.determinism import derive_seed


def random_direction(weights: Sequence[Tensor], seed: int, number: int) -> list[Tensor]:
    """Standard Gaussian tensors of the shapes of `weights`, float32 on the CPU.

    They depend only on `seed` >= 0, `number` >= 0 and the shapes: networks of one architecture get the same draw.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, number))
    return [torch.randn(weight.shape, generator=generator) for weight in weights]


def filter_normalised(direction: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Scale each filter of `direction` to the norm of the corresponding filter of `weights`; 0 for 1-d tensors.

    Both are lists of tensors of the same shapes; the result has the dtype and device of `weights`.
    """
    return [_normalise(d.to(w), w) for d, w in zip(direction, weights, strict=True)]


def _normalise(d: Tensor, w: Tensor) -> Tensor:
    if w.ndim < 2:
        return torch.zeros_like(w)
    scales = _filter_norms(w) / _filter_norms(d)
    return d * scales.view(-1, *[1] * (w.ndim - 1))


def _filter_norms(tensor: Tensor) -> Tensor:
    """(filters,) Frobenius norms."""
    return tensor.flatten(1).norm(dim=1)
