"""Contract checks of an averaging."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rb_smooth.components.conformance.fixtures import equal_tensors, require
from rb_smooth.components.interfaces import Averaging

Make = Callable[[], Averaging]


def the_average_of_constant_weights_is_those_weights(make: Make) -> None:
    """The coefficients of the average sum to one."""
    averaging, w = make(), [torch.ones(3), torch.zeros(2, 2)]
    for t in range(5):
        averaging.update(w, t)
    close = all(map(torch.allclose, averaging.weights(w), w))
    require(close, f"expected the average of constant weights {w}, got {averaging.weights(w)}")


def saving_and_loading_does_not_change_the_average(make: Make) -> None:
    """Nor does a loaded average share memory with the saved one."""
    first, second = make(), make()
    path = [[torch.full((2,), float(t))] for t in range(8)]
    for t in range(4):
        first.update(path[t], t)
    second.load_state_dict(first.state_dict())
    pairs = zip(first.weights(path[3]), second.weights([torch.zeros(2)]), strict=True)
    require(all(a is not b for a, b in pairs), "load_state_dict shares tensors with the saved average; copy them")
    for t in range(4, 8):
        first.update(path[t], t)
        second.update(path[t], t)
    require(equal_tensors(first.weights(path[-1]), second.weights(path[-1])), "after loading, the average differs")
