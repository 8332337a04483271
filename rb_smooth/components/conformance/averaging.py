"""What training relies on in an averaging."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rb_smooth.components.conformance.fixtures import equal_tensors, require
from rb_smooth.components.interfaces import Averaging

Make = Callable[[], Averaging]


def an_average_of_constant_weights_is_those_weights(make: Make) -> None:
    """Whatever its weights over time, they add up to one."""
    averaging, w = make(), [torch.ones(3), torch.zeros(2, 2)]
    for t in range(5):
        averaging.update(w, t)
    close = all(map(torch.allclose, averaging.weights(w), w))
    require(close, f"the average of constant weights is {averaging.weights(w)}, not {w}")


def a_saved_average_goes_on_as_if_it_had_not_been_saved(make: Make) -> None:
    """And shares no memory with the one that was saved."""
    first, second = make(), make()
    path = [[torch.full((2,), float(t))] for t in range(8)]
    for t in range(4):
        first.update(path[t], t)
    second.load_state_dict(first.state_dict())
    pairs = zip(first.weights(path[3]), second.weights([torch.zeros(2)]), strict=True)
    require(all(a is not b for a, b in pairs), "a loaded average is the very tensor that was saved: copy it")
    for t in range(4, 8):
        first.update(path[t], t)
        second.update(path[t], t)
    require(
        equal_tensors(first.weights(path[-1]), second.weights(path[-1])), "a loaded average goes on to other weights"
    )
