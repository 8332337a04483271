"""Trainers for the benchmarks: recipes at their first step, on random images or on digits, with the threads that the
package chooses.
"""

from __future__ import annotations

import copy
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
"""Replaces PreActResNet-18 where the program is only tried and nothing is measured."""


def on_random_images(method: str, images: int, *settings: str) -> Trainer:
    """cifar10/`method` on `images` random images of CIFAR-10's shape, one minibatch."""
    recipe = validate.check_recipe(*resolve_config("cifar10", method, [f"data.batch_size={images}", *settings]))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    drawn = Images(x, torch.randint(0, 10, (images,), generator=generator))
    source = RawDataset("random", drawn, drawn, tuple(map(str, range(10))), (0.5,) * 3, (0.25,) * 3)
    data = DataSplits(source, drawn, drawn)
    network = build_network(recipe, data)
    choose_attack_workers(recipe, data, network)
    return Trainer(recipe, data, CPU, network=network)


def on_digits(method: str, *settings: str, epochs: int | None = None) -> Trainer:
    """digits/`method` on the digits, split as its recipe says. epochs: as --epochs."""
    recipe = validate.check_recipe(*resolve_config("digits", method, list(settings), epochs))
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
    """`step.training_step` as training calls it: with its seeds, precision and compiled network."""
    return lambda: trainer._step(x, y)


def train_epochs(trainer: Trainer, after_batch: Callable[[dict[str, Tensor]], None] | None = None) -> None:
    """Train to the last epoch. after_batch: called after every minibatch with the state dict before it."""
    while trainer.epoch < trainer.recipe.train.epochs:
        order = trainer.batch_order()
        while trainer.batch < trainer.batches:
            before = copy.deepcopy(trainer.model.state_dict()) if after_batch else {}
            trainer.run_batch(order)
            if after_batch:
                after_batch(before)
        trainer.next_epoch()
