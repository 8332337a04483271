"""Split a data set: training, stratified validation and test images; and the fingerprint of images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from rb_smooth.core.errors import UserError
from rb_smooth.data.datasets import RawDataset
from rb_smooth.data.images import AnyImages, ImageFiles, Images


@dataclass(frozen=True)
class DataSplits:
    """Training, validation and test images.

    validation: selects the best epoch; with `select: test` it is the test set.
    extra:      images of another source, mixed into every minibatch; None: no extra images.
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

    def load(self) -> DataSplits:
        """Decode training and validation images, unless they are streamed."""

        def load_unless_streamed(images: AnyImages) -> AnyImages:
            return images if isinstance(images, ImageFiles) and images.stream else images.load()

        train, validation = load_unless_streamed(self.train), load_unless_streamed(self.validation)
        return replace(self, train=train, validation=validation)

    def to(self, device: torch.device) -> DataSplits:
        """Move all but the test set to `device`; streamed images are decoded to it."""
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
    """Hold out `validation` training images, stratified by class; `split_seed` alone decides which. Decodes nothing.

    train_examples: size of a stratified subset of the remaining images; None: all of them.
    batch_size:     raises UserError unless the training images fill one minibatch of this size.
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
    """SHA-256 of shape, uint8 NCHW pixels and int64 labels, in order.

    For ImageFiles, file names and sizes replace pixels: nothing is decoded, and a file overwritten by one of equal size
    goes undetected. Several parts hash as their concatenation, without copying.
    """
    shape = (sum(map(len, parts)), *parts[0].shape)
    digest = hashlib.sha256(repr(shape).encode())
    for values in [part.hashed_arrays for part in parts] + [part.y.to(torch.int64) for part in parts]:
        digest.update(values.cpu().contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


def _stratified(images: AnyImages, size: int, seed: int, key: str) -> tuple[AnyImages, AnyImages]:
    """(the remaining images, `size` images stratified by class), both in their original order."""
    from sklearn.model_selection import train_test_split

    if size == 0:
        return images, images[:0]
    try:
        others, chosen = train_test_split(
            np.arange(len(images)), test_size=size, stratify=images.y.numpy(), random_state=seed
        )
    except ValueError:
        fifth = max(len(images) // 5, 1)
        raise UserError(
            f"expected {key} to divide {len(images)} images into two parts with every class in both, got {size}; for "
            f"example --set {key}={fifth}"
        ) from None
    return images[np.sort(others)], images[np.sort(chosen)]
