"""What training relies on in a perturbation of the weights."""

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


def weights_come_back_bit_for_bit(make: Make) -> None:
    """And so do modes, gradients and BatchNorm's statistics: optimizer and evaluation must see none of it."""
    net = small_net()
    before = snapshot(net)
    with make()(net, cross_entropy(net)):
        pass
    require(
        equal_snapshots(before, snapshot(net)),
        "the model is not as it was: use weights.shifted and frozen_running_stats",
    )


def weights_come_back_when_the_step_fails(make: Make) -> None:
    """A run that goes on, or is looked at, after an exception must not stand at the shifted weights."""
    net = small_net()
    before = snapshot(net)
    try:
        with make()(net, cross_entropy(net)):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    require(equal_snapshots(before, snapshot(net)), "after an exception inside, the model is not as it was")


def a_shift_moves_no_statistics_and_no_storage(make: Make) -> None:
    """The pass that looks for the shift is no pass of training; optimizer and CUDA graphs know tensors by address."""
    net = small_net()
    statistics = [buffer.clone() for buffer in net.buffers()]
    places = [p.data_ptr() for p in net.parameters()]
    with make()(net, cross_entropy(net)):
        require(equal_tensors(list(net.buffers()), statistics), "inside, buffers have moved: use frozen_running_stats")
        require([p.data_ptr() for p in net.parameters()] == places, "inside, parameters lie elsewhere: write in place")


def a_frozen_weight_stays(make: Make) -> None:
    """What wants no gradient is not trained, and is not shifted."""
    net = small_net()
    frozen = next(net.parameters()).requires_grad_(False)
    before = frozen.clone()
    with make()(net, cross_entropy(net)):
        require(torch.equal(frozen, before), "inside, a weight with requires_grad=False has moved")


def a_flat_loss_leaves_finite_weights(make: Make) -> None:
    """Where the gradient is zero, its length is no divisor."""
    net = small_net()
    with make()(net, lambda: torch.stack([0 * p.sum() for p in net.parameters()]).sum()):
        finite = all(bool(p.isfinite().all()) for p in net.parameters())
        require(finite, "inside, weights are not finite where the gradient is zero: add a small number to its length")
