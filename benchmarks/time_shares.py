"""Share of each part of a training step in its time, by torch.profiler, for digits and for PreActResNet-18.

The profiler's overhead is included; it is larger for small networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmark_runs import SMALL_NET, on_digits, on_random_images
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from rb_smooth.components.interfaces import Perturbation
from rb_smooth.training.diagnostics import check_finite
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Trainer

METHOD = "at+awp+ensgd"
PARTS = ("crafting", "AWP pass", "training pass", "optimizer", "averaging", "data", "checks")


def measure(toy: bool) -> dict[str, Any]:
    digits_settings = ("data.train_examples=64", "objective.steps=1") if toy else ()
    preact_settings = (SMALL_NET, "objective.steps=1") if toy else ()
    return {
        "figures": [],
        "method": METHOD,
        "shares": {
            "digits, batch 64": _shares(on_digits(METHOD, *digits_settings), 1 if toy else 8),
            "PreActResNet-18, batch 16": _shares(on_random_images(METHOD, 4 if toy else 16, *preact_settings), 2),
        },
    }


def _shares(trainer: Trainer, minibatches: int) -> dict[str, float]:
    """Shares in %, over `minibatches` after one to warm up."""
    trainer.run_batch(trainer.batch_order())
    _label(trainer)
    with (
        TemporaryDirectory() as folder,
        profile(activities=[ProfilerActivity.CPU]) as recorded,
        record_function("total"),
    ):
        for _ in range(minibatches):
            trainer.batch %= trainer.batches
            trainer.run_batch(trainer.batch_order())
        with record_function("checks"):
            check_finite(trainer, Run(Path(folder)))
    spent = {each.key: each.cpu_time_total for each in recorded.key_averages()}
    shares = {part: 100 * spent[part] / spent["total"] for part in PARTS}
    return shares | {"the loop's rest": 100 - sum(shares.values())}


def _label(trainer: Trainer) -> None:
    """Label every part of the trainer for the profiler."""
    for holder, method, part in (
        (trainer.objective, "craft", "crafting"),
        (trainer.optimizer, "step", "optimizer"),
        (trainer.averaging, "update", "averaging"),
        (trainer.batch_loader, "draw", "data"),
    ):
        setattr(holder, method, _with_label(getattr(holder, method), part))
    trainer.perturbation = _LabelledPerturbation(trainer.perturbation)


def _with_label(work: Callable[..., Any], part: str) -> Callable[..., Any]:
    def labelled(*given: Any) -> Any:
        with record_function(part):
            return work(*given)

    return labelled


class _LabelledPerturbation:
    """Entering and leaving are labelled as AWP, the body as the training pass."""

    def __init__(self, perturbation: Perturbation) -> None:
        self.perturbation = perturbation

    @contextmanager
    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> Iterator[None]:
        perturbed = self.perturbation(model, loss)
        with record_function("AWP pass"):
            perturbed.__enter__()
        with record_function("training pass"):
            yield
        with record_function("AWP pass"):
            perturbed.__exit__(None, None, None)
