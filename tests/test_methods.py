"""Laws that every method obeys by being in its folder: a new file is tested by being there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from rb_smooth.components import conformance
from rb_smooth.config.registry import build_component, component_names, find_component


def constructors() -> Iterator[tuple[str, str, object]]:
    """(box, title, constructor) of every method, with its defaults; of what knows balls, in the L2 ball too."""
    for box in conformance.METHOD_KINDS:
        for name in component_names(box):
            yield box, name, find_component(box, name)
            if "norm" in inspect.signature(find_component(box, name)).parameters:
                yield box, f"{name}-L2", partial(find_component(box, name), norm="L2")


@pytest.mark.parametrize(
    ("law", "constructor"),
    [
        pytest.param(law, constructor, id=f"{title}: {law.__name__}")
        for box, title, constructor in constructors()
        for law in conformance.contract_checks(box)
    ],
)
def test_a_method_obeys_the_law(law, constructor):
    law(constructor)


def test_the_moving_average_is_the_printed_recursion_of_weights_that_move_in_place():
    ema = build_component("averaging", "ema", {"decay": 0.7})
    expected, w = None, torch.zeros(2, dtype=torch.float64)
    for t in range(30):
        w.copy_(torch.tensor([t**2.0, -t]))
        tau = min(0.7, (1 + t) / (10 + t))
        expected = w.clone() if expected is None else tau * expected + (1 - tau) * w
        ema.update([w], t)
    torch.testing.assert_close(ema.weights([])[0], expected, rtol=0, atol=1e-10)
