"""Minibatches of training and extra images; pseudo-labels for extra images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rb_smooth.components.models import Normalized
from rb_smooth.config.registry import build_model
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
    """Indices of an epoch's training and extra images: (batches, images per batch) int64 each.

    Each process has its shard of every minibatch, with images of both kinds.
    """

    train: Tensor
    extra: Tensor


class BatchLoader:
    """Draw minibatches of training and extra images, on the device of the data."""

    def __init__(self, recipe: Recipe, data: DataSplits) -> None:
        self.train = Prefetcher(data.train)
        self.data, self.seed, self.size = data, recipe.train.seed, recipe.data.batch_size
        extra = recipe.data.extra
        self.of_extra = 0 if extra is None or data.extra is None else round(extra.share * self.size)
        self.augmentations = [each.build() for each in recipe.augmentations]

    @property
    def per_epoch(self) -> int:
        """Minibatches per epoch, without the last incomplete one. Extra images do not lengthen an epoch."""
        return len(self.data.train) // self.size

    def order(self, epoch: int) -> BatchOrder:
        """Shuffle the images of an epoch.

        With extra images an epoch uses a new random subset of both kinds; few extra images repeat.
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
        """x (B, C, H, W) in [0, 1] and y (B,) of this process's shard of the epoch's minibatch `batch`, the run's t-th.

        Image files are decoded ahead if minibatches are drawn in order.
        """
        images = self.train.take(order.train, batch)
        if self.data.extra is not None:
            images = images.concatenate(self.data.extra[order.extra[batch]])
        generator, x = torch.Generator().manual_seed(derive_seed(self.seed, AUGMENT, t) ^ distributed.rank()), images.x
        for augment in self.augmentations:
            x = augment(x, generator)
        return x.float() / 255, images.y

    def close(self) -> None:
        """Stop prefetching."""
        self.train.close()


def load_extra_images(extra: Extra, image_spec: ImageSpec, device: torch.device) -> Images:
    """Load the images of `data.extra` to `device`.

    Pseudo-labels are the predictions of the labeller, a finished run on data of the same kind (Carmon et al.,
    "Unlabeled Data Improves Adversarial Robustness", arXiv 1905.13736).
    """
    x = read_images(Path(extra.file))
    if extra.labeller is None:
        return Images(x, read_labels(Path(extra.file))).to(device)
    unlabelled = Images(x, torch.zeros(len(x), dtype=torch.int64)).to(device)
    model = load_best_model(Run(Path(extra.labeller)), image_spec).to(device)
    return replace(unlabelled, y=predict_classes(model, unlabelled, device))


def load_best_model(run: Run, image_spec: ImageSpec) -> Normalized:
    """The run's best model, in eval mode. Raises UserError if it is unfinished or does not fit the data."""
    if not run.is_trained:
        raise UserError(f"expected a finished run in {run.path}, got an unfinished one; train it, or name another one")
    options = dict(run.recipe.sections["model"])
    with preserve_rng():
        model = build_model(options.pop("name"), options, image_spec.shape, image_spec.classes)
    run.load_into(model, "best")
    return model.eval()
