"""What training may see and what it may not: stratified validation, the untouched test set, and its fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from rb_smooth.core.errors import UserError
from rb_smooth.data.datasets import RawDataset
from rb_smooth.data.images import AnyImages, Images


@dataclass(frozen=True)
class DataSplits:
    """A source, split. `validation` chooses the best epoch; under `select: test` it is the test set itself.

    extra: images from elsewhere, mixed into every minibatch; None: there are none.
    """

    source: RawDataset
    train: AnyImages
    validation: AnyImages
    extra: Images | None = None

    @property
    def test(self) -> AnyImages:
        return self.source.test

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.train.shape

    def to(self, device: torch.device) -> DataSplits:
        """The same with all but the test set on `device`; of images that stay files, what is loaded goes there."""
        extra = None if self.extra is None else self.extra.to(device)
        return replace(self, train=self.train.to(device), validation=self.validation.to(device), extra=extra)


def split(
    source: RawDataset,
    *,
    validation: int,
    split_seed: int,
    select: Literal["validation", "test"],
    train_examples: int | None = None,
    batch_size: int = 1,
) -> DataSplits:
    """Hold `validation` training images out, stratified; the same ones for every training seed and method.

    train_examples: keep a stratified part of this size of the rest; None: all of it.
    batch_size:     the size of a minibatch, of which training needs at least one.
    """
    held_out = validation if select == "validation" else 0
    train, chosen = _stratified(source.train, held_out, split_seed, "data.validation")
    if train_examples is not None and train_examples < len(train):
        _, train = _stratified(train, train_examples, split_seed, "data.train_examples")
    if len(train) < batch_size:
        raise UserError(
            f"expected {batch_size} training images, one minibatch, got {len(train)}; lower data.batch_size"
        )
    return DataSplits(source, train, chosen if select == "validation" else source.test)


def fingerprint(*parts: AnyImages) -> str:
    """SHA-256 over shape, uint8 NCHW bytes and int64 labels: equal for equal points in equal order, and only then.

    Of images that stay files it is over the files' names and sizes in the place of their pixels, and none is read. So
    it tells when a folder was changed, but not when a file was overwritten by another of its size.

    Several parts count as the one that they would make if they were joined; none is copied.
    """
    shape = (sum(map(len, parts)), *parts[0].shape)
    digest = hashlib.sha256(repr(shape).encode())
    for values in [part.hashed_arrays for part in parts] + [part.y.to(torch.int64) for part in parts]:
        digest.update(values.cpu().contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


def _stratified(images: AnyImages, size: int, seed: int, key: str) -> tuple[AnyImages, AnyImages]:
    """(the others, `size` images with every class in proportion), both in their old order."""
    from sklearn.model_selection import train_test_split

    if size == 0:
        return images, images[:0]
    try:
        others, chosen = train_test_split(
            np.arange(len(images)), test_size=size, stratify=images.y.numpy(), random_state=seed
        )
    except ValueError as error:
        raise UserError(f"expected {key} to split {len(images)} images, got {size} ({error}); correct it") from None
    return images[np.sort(others)], images[np.sort(chosen)]
