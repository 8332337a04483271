"""Time of the theory and landscape programs, and time and memory of Hessian-vector products.

The landscape is that of a digits run after one epoch; the work does not depend on the weights. A product's memory is
compared with that of a training step on the same images in fp32, its time with that of a gradient.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from allocations import measure_allocations
from benchmark_figure import Figure, figure
from benchmark_runs import SMALL_NET, first_minibatch, on_random_images, training_step_of
from interleaved_timing import ratios, time_interleaved

from rb_smooth.analysis.adversarial_loss import AdversarialLoss
from rb_smooth.data.images import Images
from rb_smooth.training.trainer import Trainer

_TIMED_IMAGES = 16
_MODULE = (sys.executable, "-m")


def measure(toy: bool) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        figures = [*_theory(Path(folder), toy), _landscape(Path(folder), toy)]
    return {"figures": [*figures, *_products(toy)]}


def _theory(folder: Path, toy: bool) -> list[Figure]:
    only = ("--only", "Lemma 2") if toy else ()
    bare = _seconds(folder, "rb_smooth.theory", *only)
    found = [figure("`python -m rb_smooth.theory`", "s", [bare], at_most=60.0)]
    if not toy:
        drawn = _seconds(folder, "rb_smooth.theory", "--figures", "figures")
        found.append(figure("`python -m rb_smooth.theory --figures DIR`", "s", [drawn], at_most=300.0))
    return found


def _landscape(folder: Path, toy: bool) -> Figure:
    smaller = ("--set", "model.width=2", "--set", "data.train_examples=64") if toy else ()
    _seconds(folder, "rb_smooth.recipe", "digits", "at", "--epochs", "1", "--n-examples", "1", "--no-submit", *smaller)
    (run,) = (folder / "runs/digits").iterdir()
    grid = ("--points", "3", "--n", "8") if toy else ("--points", "51", "--n", "1000")
    seconds = _seconds(folder, "rb_smooth.landscape", str(run), "--weights", "best", *grid)
    return figure("landscape of a digits run, 51 points, 1,000 training and 360 test images", "s", [seconds], 120.0)


def _seconds(folder: Path, *command: str) -> float:
    begun = time.perf_counter()
    subprocess.run([*_MODULE, *command], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def _products(toy: bool) -> list[Figure]:
    trainer = _trainer(4 if toy else 128, toy)
    step = training_step_of(trainer, *first_minibatch(trainer))
    peak_of_step = measure_allocations(step, after=step).peak
    loss, x_adv, v = _loss(trainer)
    peak = measure_allocations(lambda: loss.hessian_vector_product(x_adv, v)).peak
    few, held, u = _loss(_trainer(4 if toy else _TIMED_IMAGES, toy))
    functions: dict[str, Callable[[], object]] = {
        "product": lambda: few.hessian_vector_product(held, u),
        "gradient": lambda: few.gradient(held),
    }
    times = time_interleaved(functions, seconds=0, fewest=1 if toy else 5)
    what = "Hessian-vector product, PreActResNet-18"
    return [
        figure(f"{what}, 128 images: peak memory / a training step's", "×", [peak / peak_of_step], at_most=3.0),
        figure(f"{what}, {_TIMED_IMAGES} images: time / a gradient's", "×", ratios(times, "product", "gradient")),
    ]


def _trainer(images: int, toy: bool) -> Trainer:
    settings = ("objective.steps=1", "train.precision=fp32", *((SMALL_NET,) if toy else ()))
    return on_random_images("at", images, *settings)


def _loss(trainer: Trainer) -> tuple[AdversarialLoss, torch.Tensor, torch.Tensor]:
    """The loss on the trainer's images, fixed adversarial examples, and a random vector."""
    drawn = trainer.data.train.load()
    loss = AdversarialLoss(trainer.model, Images(drawn.x, drawn.y), None)
    return loss, loss.adversarial_examples(), torch.randn_like(loss.weights)
