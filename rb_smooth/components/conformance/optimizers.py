"""Contract checks of an optimizer."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rb_smooth.components.conformance.fixtures import equal_tensors, make_params, require, run_steps

Make = Callable[..., Any]

_STEPS = (0, 1, 3, 7, 19, 20, 21)
"""Numbers of steps before, within and after an inner loop of 20."""


def eval_sets_the_deployed_weights_and_train_undoes_it(make: Make) -> None:
    """Bit for bit, however often, and in place."""
    for steps in _STEPS:
        params = make_params()
        optimizer = make(params)
        run_steps(optimizer, params, steps)
        live, deployed = _clone_all(params), _clone_all(optimizer.deployed())
        places = [p.data_ptr() for p in params]
        for _ in range(2):
            optimizer.eval()
            optimizer.eval()  # a second call changes nothing
            require(
                equal_tensors(params, deployed), f"after {steps} steps, eval() does not set the weights of deployed()"
            )
            require(equal_tensors(optimizer.deployed(), deployed), f"after {steps} steps, eval() changes deployed()")
            optimizer.train()
            optimizer.train()
            require(equal_tensors(params, live), f"after {steps} steps, train() does not undo eval()")
            require(equal_tensors(optimizer.deployed(), deployed), f"after {steps} steps, train() changes deployed()")
        require([p.data_ptr() for p in params] == places, "parameters have new storage; write in place")


def a_step_in_eval_mode_raises_an_error_that_names_the_fix(make: Make) -> None:
    """Its gradient would be of the wrong weights."""
    params = make_params()
    optimizer = make(params)
    optimizer.eval()
    message = "no error"
    try:
        run_steps(optimizer, params, 1)
    except RuntimeError as error:
        message = str(error)
    require(
        "optimizer.train()" in message, f"expected RuntimeError naming optimizer.train() in eval mode, got {message}"
    )


def saving_and_loading_does_not_change_the_steps(make: Make) -> None:
    """Given state_dict (tensors and plain values), the parameters and the state of the noise's generator."""
    for steps in _STEPS:
        one, other = make_params(), make_params()
        noise = [torch.Generator().manual_seed(3) for _ in range(2)]
        first = _make_with_noise(make, one, noise[0])
        run_steps(first, one, steps)
        file = io.BytesIO()
        torch.save([first.state_dict(), _clone_all(one)], file)
        file.seek(0)
        state, values = torch.load(file, weights_only=True)
        for p, value in zip(other, values, strict=True):
            p.data.copy_(value)
        second = _make_with_noise(make, other, noise[1])
        second.load_state_dict(state)
        noise[1].set_state(noise[0].get_state())
        run_steps(first, one, 25)
        run_steps(second, other, 25)
        require(equal_tensors(one, other), f"loaded after {steps} steps, it steps to other parameters")
        require(
            equal_tensors(first.deployed(), second.deployed()), f"loaded after {steps} steps, it deploys other weights"
        )


def _clone_all(tensors: list[Tensor]) -> list[Tensor]:
    return [each.detach().clone() for each in tensors]


def _make_with_noise(make: Make, params: list[Tensor], noise: torch.Generator) -> Any:
    """Construct the optimizer as training does: with a generator if it accepts one."""
    from inspect import signature

    return make(params, generator=noise) if "generator" in signature(make).parameters else make(params)
