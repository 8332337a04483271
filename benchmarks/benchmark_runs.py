"""What is timed: runs of recipes at their start, on random images or on digits, with the package's own threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.datasets import RawDataset, digits
from rb_smooth.data.images import Images
from rb_smooth.data.splits import DataSplits, split
from rb_smooth.training import validate
from rb_smooth.training.cost import choose_attack_workers
from rb_smooth.training.model_setup import build_network
from rb_smooth.training.trainer import Trainer

CPU = torch.device("cpu")
SMALL_NET = "model.name=small_preactresnet"
"""In the place of PreActResNet-18 where only the program is tried, and nothing measured."""


def on_random_images(method: str, images: int, *settings: str) -> Trainer:
    """cifar10/`method` with `images` random ones of CIFAR-10's shape, which are its one minibatch."""
    recipe = validate.check_recipe(*resolve_config("cifar10", method, [f"data.batch_size={images}", *settings]))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    drawn = Images(x, torch.randint(0, 10, (images,), generator=generator))
    source = RawDataset("random", drawn, drawn, tuple(map(str, range(10))), (0.5,) * 3, (0.25,) * 3)
    data = DataSplits(source, drawn, drawn)
    network = build_network(recipe, data)
    choose_attack_workers(recipe, data, network)
    return Trainer(recipe, data, CPU, network=network)


def on_digits(method: str, *settings: str) -> Trainer:
    """digits/`method` on the digits, split as its recipe says."""
    recipe = validate.check_recipe(*resolve_config("digits", method, list(settings)))
    section = recipe.data
    data = split(
        digits(Path("data")),
        validation=section.validation,
        split_seed=section.split_seed,
        select=recipe.train.select,
        train_examples=section.train_examples,
        batch_size=section.batch_size,
    )
    network = build_network(recipe, data)
    choose_attack_workers(recipe, data, network)
    return Trainer(recipe, data, CPU, network=network)


def first_minibatch(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """x (B, C, H, W) in [0, 1] and y (B,)."""
    return trainer.batch_loader.draw(trainer.batch_order(), 0, 0)


def training_step_of(trainer: Trainer, x: Tensor, y: Tensor) -> Callable[[], object]:
    """`step.training_step` as training calls it: with its seeds, its precision and its form of the network."""
    return lambda: trainer._step(x, y)
