"""Every method passes the contract checks; a new file in a method folder is tested automatically."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from rb_smooth.components import conformance
from rb_smooth.config.registry import build_component, component_names, find_component


def constructors() -> Iterator[tuple[str, str, object]]:
    """Yield (kind, title, constructor) of every method with its defaults, and in the L2 ball where it has a norm."""
    for kind in conformance.METHOD_KINDS:
        for name in component_names(kind):
            yield kind, name, find_component(kind, name)
            if "norm" in inspect.signature(find_component(kind, name)).parameters:
                yield kind, f"{name}-L2", partial(find_component(kind, name), norm="L2")


@pytest.mark.parametrize(
    ("check", "constructor"),
    [
        pytest.param(check, constructor, id=f"{title}: {check.__name__}")
        for kind, title, constructor in constructors()
        for check in conformance.contract_checks(kind)
    ],
)
def test_a_method_passes_the_check(check, constructor):
    check(constructor)


def test_ema_is_the_papers_recursion_for_weights_updated_in_place():
    ema = build_component("averaging", "ema", {"decay": 0.7})
    expected, w = None, torch.zeros(2, dtype=torch.float64)
    for t in range(30):
        w.copy_(torch.tensor([t**2.0, -t]))
        tau = min(0.7, (1 + t) / (10 + t))
        expected = w.clone() if expected is None else tau * expected + (1 - tau) * w
        ema.update([w], t)
    torch.testing.assert_close(ema.weights([])[0], expected, rtol=0, atol=1e-10)
