"""Minibatches of training images, and extra images with their labels: given with them, or by a model of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rb_smooth.components.models import Normalized
from rb_smooth.config.registry import build_component, build_model
from rb_smooth.config.schema import Recipe
from rb_smooth.core import distributed
from rb_smooth.core.determinism import AUGMENT, SHUFFLE, derive_seed, preserve_rng
from rb_smooth.core.errors import UserError
from rb_smooth.data.extra_images import read_images, read_labels
from rb_smooth.data.image_spec import ImageSpec
from rb_smooth.data.images import Images
from rb_smooth.data.prefetch import Prefetcher
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import predict_classes
from rb_smooth.training.run_folder.run import Run

if TYPE_CHECKING:
    from rb_smooth.config.schema import Extra


class BatchOrder(NamedTuple):
    """Which images make an epoch's minibatches: (batches, images of each) int64, of the training and extra images.

    Of several processes each has an order of its own: its share of every minibatch, with images of both kinds in it.
    """

    train: Tensor
    extra: Tensor


class BatchLoader:
    """Of a data set as the recipe mixes it; drawn where the data are."""

    def __init__(self, recipe: Recipe, data: DataSplits) -> None:
        self.train = Prefetcher(data.train)
        self.data, self.seed, self.size = data, recipe.train.seed, recipe.data.batch_size
        extra = recipe.data.extra
        self.of_extra = 0 if extra is None or data.extra is None else round(extra.share * self.size)
        self.augmentations = [build_component("augmentation", *each) for each in recipe.data.augmentations]

    @property
    def per_epoch(self) -> int:
        """The last incomplete one is dropped. Extra images make no epoch longer: schedules keep their meaning."""
        return len(self.data.train) // self.size

    def order(self, epoch: int) -> BatchOrder:
        """The epoch's shuffle.

        With extra images an epoch passes over a fresh random part of the training images, and of the extra ones (over
        all of these, again, if they are few).
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, SHUFFLE, epoch))
        rows, of_train = self.per_epoch, self.size - self.of_extra
        mine = distributed.shard(torch.arange(self.size))
        train = torch.randperm(len(self.data.train), generator=generator)
        train = train[: rows * of_train].view(rows, -1)[:, mine[mine < of_train]].to(self.data.train.y.device)
        if self.data.extra is None:
            return BatchOrder(train, train[:, :0])
        extra = torch.randperm(len(self.data.extra), generator=generator)
        extra = extra[torch.arange(rows * self.of_extra) % len(extra)].view(rows, -1)
        return BatchOrder(train, extra[:, mine[mine >= of_train] - of_train].to(self.data.extra.y.device))

    def draw(self, order: BatchOrder, batch: int, t: int) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) in [0, 1] and y (B,) of the epoch's minibatch `batch`, the run's t-th, or of a share of it.

        Drawn in turn, minibatches of images that are files come decoded ahead; any other is decoded at once.
        """
        images = self.train.take(order.train, batch)
        if self.data.extra is not None:
            images = images.concatenate(self.data.extra[order.extra[batch]])
        drawing, x = torch.Generator().manual_seed(derive_seed(self.seed, AUGMENT, t) ^ distributed.rank()), images.x
        for augment in self.augmentations:
            x = augment(x, drawing)
        return x.float() / 255, images.y

    def close(self) -> None:
        """End what draws ahead."""
        self.train.close()


def load_extra_images(extra: Extra, image_spec: ImageSpec, device: torch.device) -> Images:
    """The images that `data.extra` names, for data of this outline, on `device`.

    Pseudo-labels (Carmon et al., "Unlabeled Data Improves Adversarial Robustness", arXiv 1905.13736) are the classes
    that the labeller, a finished run of ours on data of the same kind, finds likeliest.
    """
    x = read_images(Path(extra.file))
    if extra.labeller is None:
        return Images(x, read_labels(Path(extra.file))).to(device)
    unlabelled = Images(x, torch.zeros(len(x), dtype=torch.int64)).to(device)
    model = load_best_model(Run(Path(extra.labeller)), image_spec).to(device)
    return replace(unlabelled, y=predict_classes(model, unlabelled, device))


def load_best_model(run: Run, image_spec: ImageSpec) -> Normalized:
    """The run's best model, in eval mode. Raises UserError if it is not finished, or its model is of other data."""
    if not run.is_trained:
        raise UserError(f"expected a finished run in {run.path}, got none; train it, or name another one")
    options = dict(run.header["model"])
    with preserve_rng():
        model = build_model(options.pop("name"), options, image_spec.shape, image_spec.classes)
    run.load_into(model, "best")
    return model.eval()
