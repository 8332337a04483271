"""Contract checks of a weight perturbation."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rb_smooth.components.conformance.fixtures import (
    cross_entropy,
    equal_snapshots,
    equal_tensors,
    require,
    small_net,
    snapshot,
)
from rb_smooth.components.interfaces import Perturbation

Make = Callable[[], Perturbation]


def weights_are_restored_bit_for_bit(make: Make) -> None:
    """So are modes, gradients and BatchNorm's statistics, which optimizer and evaluation use."""
    net = small_net()
    before = snapshot(net)
    with make()(net, cross_entropy(net)):
        pass
    require(
        equal_snapshots(before, snapshot(net)),
        "the model differs afterwards; use perturbed and frozen_running_stats",
    )


def weights_are_restored_after_an_exception(make: Make) -> None:
    """Training may resume from the weights at hand."""
    net = small_net()
    before = snapshot(net)
    try:
        with make()(net, cross_entropy(net)):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    require(
        equal_snapshots(before, snapshot(net)), "after an exception inside, the model differs; restore it in `finally`"
    )


def batchnorm_statistics_and_parameter_storage_do_not_change(make: Make) -> None:
    """The perturbation's passes are not training passes; optimizers and CUDA graphs refer to storage."""
    net = small_net()
    statistics = [buffer.clone() for buffer in net.buffers()]
    places = [p.data_ptr() for p in net.parameters()]
    with make()(net, cross_entropy(net)):
        require(equal_tensors(list(net.buffers()), statistics), "inside, buffers changed; use frozen_running_stats")
        require(
            [p.data_ptr() for p in net.parameters()] == places, "inside, parameters have new storage; write in place"
        )


def frozen_weights_do_not_change(make: Make) -> None:
    """Weights with requires_grad=False are not trained, hence not perturbed."""
    net = small_net()
    frozen = next(net.parameters()).requires_grad_(False)
    before = frozen.clone()
    with make()(net, cross_entropy(net)):
        require(torch.equal(frozen, before), "inside, a weight with requires_grad=False changed")


def weights_stay_finite_for_a_zero_gradient(make: Make) -> None:
    """No division by the norm of a zero gradient."""
    net = small_net()
    with make()(net, lambda: torch.stack([0 * p.sum() for p in net.parameters()]).sum()):
        finite = all(bool(p.isfinite().all()) for p in net.parameters())
        require(finite, "inside, weights are not finite for a zero gradient; add a small constant to its norm")
