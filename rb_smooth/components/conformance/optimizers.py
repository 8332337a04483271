"""What training relies on in an optimizer."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rb_smooth.components.conformance.fixtures import equal_tensors, make_params, require, run_steps

Make = Callable[..., Any]

_STEPS = (0, 1, 3, 7, 19, 20, 21)
"""Before, within and after an inner loop of 20 steps."""


def eval_shows_what_is_deployed_and_train_undoes_it(make: Make) -> None:
    """Exactly, however often, and without moving storage."""
    for steps in _STEPS:
        params = make_params()
        optimizer = make(params)
        run_steps(optimizer, params, steps)
        live, deployed = _clone_all(params), _clone_all(optimizer.deployed())
        places = [p.data_ptr() for p in params]
        for _ in range(2):
            optimizer.eval()
            optimizer.eval()  # twice is once
            require(equal_tensors(params, deployed), f"after {steps} steps, eval() does not show what deployed() said")
            require(
                equal_tensors(optimizer.deployed(), deployed), f"after {steps} steps, eval() changes what is deployed"
            )
            optimizer.train()
            optimizer.train()
            require(equal_tensors(params, live), f"after {steps} steps, train() does not undo eval()")
            require(
                equal_tensors(optimizer.deployed(), deployed), f"after {steps} steps, train() changes what is deployed"
            )
        require([p.data_ptr() for p in params] == places, "parameters lie elsewhere: write in place")


def a_step_in_eval_mode_is_refused_naming_the_cure(make: Make) -> None:
    """It would be taken at the wrong weights."""
    params = make_params()
    optimizer = make(params)
    optimizer.eval()
    said = "nothing"
    try:
        run_steps(optimizer, params, 1)
    except RuntimeError as error:
        said = str(error)
    require(
        "optimizer.train()" in said, f"a step in eval mode should raise RuntimeError naming optimizer.train(): {said}"
    )


def a_saved_optimizer_goes_on_as_if_it_had_not_been_saved(make: Make) -> None:
    """From state_dict, which holds tensors and plain values, parameters and the noise's generator."""
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
        require(equal_tensors(one, other), f"saved after {steps} steps, it goes on to other parameters")
        require(
            equal_tensors(first.deployed(), second.deployed()), f"saved after {steps} steps, it comes to deploy others"
        )


def _clone_all(some: list[Tensor]) -> list[Tensor]:
    return [each.detach().clone() for each in some]


def _make_with_noise(make: Make, params: list[Tensor], noise: torch.Generator) -> Any:
    """As training makes it: with a generator, if it takes one."""
    from inspect import signature

    return make(params, generator=noise) if "generator" in signature(make).parameters else make(params)
