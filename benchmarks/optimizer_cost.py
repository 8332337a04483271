"""What EntropySGD's step costs beyond SGD's, as a part of the adversarial training step that it ends.

The training step is of the recipe's 128 images. Only two of its ten crafting passes are timed: it is counted as eleven
of them, as if its training pass, which also goes back to the weights, cost no more. So the part is overestimated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from figures import figure
from interleaved import interleaved
from subjects import SMALL_NET, first_minibatch, on_random_images

from rb_smooth.training.trainer import Session

_TIMED_PASSES, _COUNTED_PASSES = 2, 11


def measure(toy: bool) -> dict[str, Any]:
    smaller = (SMALL_NET,) if toy else ()
    images = 4 if toy else 128
    sessions = {method: on_random_images(method, images, *smaller) for method in ("at", "at+ensgd")}
    group = sessions["at+ensgd"].optimizer.param_groups[0]
    steps = group["inner_steps"]
    contenders: dict[str, Callable[[], object]] = {name: _steps(each, steps) for name, each in sessions.items()}
    contenders["crafting"] = _crafting(sessions["at"])
    times = interleaved(contenders, seconds=0 if toy else 40, fewest=3)
    parts = [
        100 * (entropy_sgd - sgd) / steps / (crafting * _COUNTED_PASSES / _TIMED_PASSES)
        for sgd, entropy_sgd, crafting in zip(*times.values(), strict=True)
    ]
    what = f"EntropySGD's step beyond SGD's, of an AT step of {images} images"
    return {
        "figures": [figure(what, "%", parts, at_most=1.5)],
        "steps_averaged": steps,
        "scaled": f"{_TIMED_PASSES} crafting passes timed, a training step counted as {_COUNTED_PASSES} of them",
        "precision": sessions["at"].precision,
    }


def _steps(session: Session, steps: int) -> Callable[[], None]:
    """As many optimizer steps as make one outer step of EntropySGD, on one gradient."""
    for parameter in session.model.parameters():
        parameter.grad = 1e-3 * parameter.detach().clone()

    def work() -> None:
        for _ in range(steps):
            session.optimizer.step()

    return work


def _crafting(session: Session) -> Callable[[], object]:
    """Two of the attack's passes, in the precision and the layout of training."""
    x, y = first_minibatch(session)
    session.objective.steps = _TIMED_PASSES  # type: ignore[attr-defined]

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=session.precision == "bf16", cache_enabled=False):
            session.objective.craft(session.model, x, y)

    return work
