"""Which images make a minibatch, and how they are augmented: from seed and position alone; any can be made again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rb_smooth import processes
from rb_smooth.declaration import Recipe
from rb_smooth.registry import make
from rb_smooth.seeding import AUGMENT, SHUFFLE, mix
from rb_smooth.splits import Dataset
from rb_smooth.streaming import Prefetched


class Order(NamedTuple):
    """Which images make an epoch's minibatches: (batches, images of each) int64, of the training and extra images.

    Of several processes each has an order of its own: its share of every minibatch, with images of both kinds in it.
    """

    train: Tensor
    extra: Tensor


class Minibatches:
    """Of a data set as the recipe mixes it; drawn where the data are."""

    def __init__(self, recipe: Recipe, data: Dataset) -> None:
        self.train = Prefetched(data.train)
        self.data, self.seed, self.size = data, recipe.train.seed, recipe.data.batch_size
        extra = recipe.data.extra
        self.of_extra = 0 if extra is None or data.extra is None else round(extra.share * self.size)
        self.augmentations = [make("augmentation", *each) for each in recipe.data.augmentations]

    @property
    def per_epoch(self) -> int:
        """The last incomplete one is dropped. Extra images make no epoch longer: schedules keep their meaning."""
        return len(self.data.train) // self.size

    def order(self, epoch: int) -> Order:
        """The epoch's shuffle.

        With extra images an epoch passes over a fresh random part of the training images, and of the extra ones (over
        all of these, again, if they are few).
        """
        generator = torch.Generator().manual_seed(mix(self.seed, SHUFFLE, epoch))
        rows, of_train = self.per_epoch, self.size - self.of_extra
        mine = processes.share(torch.arange(self.size))
        train = torch.randperm(len(self.data.train), generator=generator)
        train = train[: rows * of_train].view(rows, -1)[:, mine[mine < of_train]].to(self.data.train.y.device)
        if self.data.extra is None:
            return Order(train, train[:, :0])
        extra = torch.randperm(len(self.data.extra), generator=generator)
        extra = extra[torch.arange(rows * self.of_extra) % len(extra)].view(rows, -1)
        return Order(train, extra[:, mine[mine >= of_train] - of_train].to(self.data.extra.y.device))

    def draw(self, order: Order, batch: int, t: int) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) in [0, 1] and y (B,) of the epoch's minibatch `batch`, the run's t-th, or of a share of it.

        Drawn in turn, minibatches of images that are files come decoded ahead; any other is decoded at once.
        """
        images = self.train.take(order.train, batch)
        if self.data.extra is not None:
            images = images.joined(self.data.extra[order.extra[batch]])
        drawing, x = torch.Generator().manual_seed(mix(self.seed, AUGMENT, t) ^ processes.rank()), images.x
        for augment in self.augmentations:
            x = augment(x, drawing)
        return x.float() / 255, images.y

    def close(self) -> None:
        """End what draws ahead."""
        self.train.close()
