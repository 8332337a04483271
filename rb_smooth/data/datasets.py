"""Data sets of 8-bit images. A recipe names one of the public functions here; digits needs no download.

Training images come from the torchvision folders that RobustBench's loaders read. Test images come from those loaders
where RobustBench has the data set.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from rb_smooth.components import ranges
from rb_smooth.core import robustbench
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.data.downloads import downloading
from rb_smooth.data.image_folders import list_images
from rb_smooth.data.image_spec import IMAGE_SIZES, SMALL_CLASSES, SMALL_SIZE, Label, Workers
from rb_smooth.data.images import (
    AnyImages,
    ImageFiles,
    Images,
    fixed_permutation,
    iterate_chunks,
    keep_labels,
    read_image_size,
    resize_images,
)
from rb_smooth.data.prefetch import default_workers

_MAX_IN_MEMORY_BYTES = 2 * 2**30
"""Bytes of pixels in a folder above which `stream: auto` streams it."""

_STATISTICS_SAMPLE = 10_000
"""Images from which channel means and standard deviations are computed."""


@dataclass(frozen=True)
class RawDataset:
    """A data set as published, before any validation split.

    board:     name of the leaderboard for its models.
    classes:   class names, in the order of the labels.
    mean, std: one number per channel, of pixels in [0, 1]; None: computed from `train`, see `normalisation`.
    official:  whether torchvision checked the files by md5.
    """

    board: str
    train: AnyImages
    test: AnyImages
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    official: bool = False

    @cached_property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each channel: the published ones, else those of `train`, computed on first use."""
        return _channel_statistics(self.train) if self.mean is None or self.std is None else (self.mean, self.std)

    @property
    def score_fields(self) -> dict[str, object]:
        """What a score says of the data set: `board`, `official`; `class_names` unless official: those are known."""
        names = {} if self.official else {"class_names": list(self.classes)}
        return {"board": self.board, "official": self.official, **names}


def digits(data_dir: Path) -> RawDataset:
    """scikit-learn's 1,797 handwritten digits: 8 x 8, one channel, 10 classes, no download. Source:
    scikit-learn.

    The test set is a stratified fifth, 360 images; scikit-learn defines none.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)  # pixels 0..16
    images = Images(
        torch.from_numpy(np.round(pixels / 16 * 255).astype(np.uint8).reshape(-1, 1, 8, 8)),
        torch.from_numpy(labels).long(),
    )
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, test = np.sort(train), np.sort(test)
    return RawDataset("digits", images[train], images[test], tuple(map(str, range(10))))


def cifar10(data_dir: Path) -> RawDataset:
    """CIFAR-10: 50,000 + 10,000 images of 32 x 32, three channels, 10 classes; 170 MB, downloaded on first use. Source:
    torchvision, tested as RobustBench loads it.
    """
    return _cifar("CIFAR10", data_dir, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))


def cifar100(data_dir: Path) -> RawDataset:
    """CIFAR-100: 50,000 + 10,000 images of 32 x 32, three channels, 100 classes; 170 MB, downloaded on first use.
    Source: torchvision, tested as RobustBench loads it.
    """
    mean = (0.5070751592371323, 0.48654887331495095, 0.4409178433670343)
    return _cifar("CIFAR100", data_dir, mean, (0.2673342858792401, 0.2564384629170883, 0.27615047132568404))


def cifar10_small(
    data_dir: Path, *, classes: tuple[str, ...] = SMALL_CLASSES, image_size: int = SMALL_SIZE
) -> RawDataset:
    """Some classes of CIFAR-10 in small: 5,000 + 1,000 images a class, resized as folder's, so that a run takes minutes
    on a CPU. Source: ours, of CIFAR-10's files.

    classes (names of CIFAR-10): the images used; the labels keep CIFAR-10's order. Source: ours.
    image_size (pixels, 4 to 1024): resize to it. Source: ours.
    """
    _check_image_size(image_size)
    source = cifar10(data_dir)
    labels = _labels_of(classes, source.classes)
    train, test = (resize_images(keep_labels(part.load(), labels), image_size) for part in (source.train, source.test))
    # not `official`: the fingerprint tells other classes and sizes apart
    return RawDataset("cifar10-small", train, test, tuple(source.classes[label] for label in labels))


def svhn(data_dir: Path) -> RawDataset:
    """Street View House Numbers: 73,257 + 26,032 images of 32 x 32, three channels, 10 classes; 250 MB, downloaded.
    Source: torchvision.
    """
    from torchvision.datasets import SVHN

    parts = []
    for part in ("train", "test"):
        url, archive, _ = SVHN.split_list[part]
        with downloading("SVHN", url, archive, data_dir):
            images = SVHN(str(data_dir), split=part, download=True)
        parts.append(Images(torch.from_numpy(images.data), torch.from_numpy(images.labels).long()))
    half = (0.5, 0.5, 0.5)  # Kanai et al., appendix E
    train, test = parts
    return RawDataset("svhn", train, test, tuple(map(str, range(10))), half, half, official=True)


def folder(
    data_dir: Path,
    *,
    root: str,
    label: Label | None = None,
    classes: tuple[str, ...] | None = None,
    image_size: int | None = None,
    stream: bool | Literal["auto"] = "auto",
    workers: Workers | None = None,
) -> RawDataset:
    """Any images under `<root>/train/<class>/` and `<root>/test/<class>/`. Source: torchvision's ImageFolder.

    root (a folder): contains train/ and test/. Source: torchvision's ImageFolder.
    label (up to 60 letters, digits and . _ -): names the leaderboard, `folder-<label>`; by default the folder's name.
        Source: ours.
    classes (names of folders): use these only; by default all. Source: ours.
    image_size (pixels, 4 to 1024): resize and centre-crop to it; required unless all images have one size. Source:
        ours.
    stream: decode each minibatch when training uses it; false: decode all training images before training; auto: true
        where the folder's pixels take more than 2 GiB. Source: ours.
    workers (processes, >= 0): decode minibatches ahead of training where images are streamed; 0: decode in the training
        process; by default one less than the cores, at most 8. Source: ours.

    Names that begin with a dot are skipped. EXIF orientation is ignored, as by torchvision. 16-bit images are scaled
    to 8 bits, 32-bit ones refused. `stream` and `workers` change no result: recipes that differ in them are one run.
    Only the images that a run uses are decoded, and up to 10,000 training images for the channel statistics.
    """
    folder_path = Path(root).expanduser()
    label = folder_path.resolve().name if label is None else label
    if not re.fullmatch(r"\w[\w.-]{0,59}", label):
        raise UserError(f"expected data.label of 1 to 60 letters, digits and . _ -, got {label!r}; set data.label")
    if image_size is not None:
        _check_image_size(image_size)
    workers = default_workers() if workers is None else workers
    ranges.at_least(0, workers=workers)
    train, train_classes = _image_files(folder_path / "train", classes, image_size, workers)
    test, test_classes = _image_files(folder_path / "test", classes, image_size, workers)
    if train_classes != test_classes:
        raise UserError(
            f"expected the classes of {folder_path / 'train'} in {folder_path / 'test'}, got "
            f"{', '.join(test_classes)}; make them equal"
        )
    if train.shape != test.shape:
        sizes = f"{train.shape[1:]} in train, {test.shape[1:]} in test"
        raise UserError(f"expected images of one size, got {sizes}; use --set data.image_size=32")
    if stream == "auto":
        stream = (len(train) + len(test)) * math.prod(train.shape) > _MAX_IN_MEMORY_BYTES
    test = test[fixed_permutation(len(test))]
    return RawDataset(f"folder-{label}", replace(train, stream=stream), replace(test, stream=stream), train_classes)


def _cifar(name: str, data_dir: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> RawDataset:
    """mean, std: Kanai et al., appendix E."""
    import torchvision

    dataset, load_test = (
        getattr(torchvision.datasets, name),
        getattr(robustbench.import_robustbench().data, f"load_{name.lower()}"),
    )
    with downloading(name.replace("CIFAR", "CIFAR-"), dataset.url, dataset.filename, data_dir):
        train = dataset(str(data_dir), train=True, download=True)
        x_test, y_test = load_test(data_dir=str(data_dir))
    return RawDataset(
        board=name.lower(),
        train=Images(torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(train.targets)),
        test=Images((x_test * 255).round().byte(), y_test.long()),
        classes=tuple(train.classes),
        mean=mean,
        std=std,
        official=True,
    )


def _check_image_size(image_size: int) -> None:
    if image_size not in IMAGE_SIZES:
        raise UserError(f"expected data.image_size from 4 to 1024, got {image_size}; correct it")


def _labels_of(wanted: tuple[str, ...], classes: Sequence[str]) -> list[int]:
    """Labels of the `wanted` ones of `classes`, ascending. Raises UserError for a name that is not a class."""
    for name in wanted:
        if name not in classes:
            raise UserError(f"expected data.classes of the data set, {did_you_mean(name, classes)}")
    return [label for label, name in enumerate(classes) if name in wanted]


def _image_files(
    place: Path, wanted: tuple[str, ...] | None, image_size: int | None, workers: int
) -> tuple[ImageFiles, tuple[str, ...]]:
    """List the images under `place` and their classes: all, or the `wanted` ones. Raises UserError if one is absent,
    and if sizes differ and none is requested.
    """
    listing = list_images(place)
    names = np.array([os.fsencode(name) for name in listing.names])
    size = (image_size, image_size) if image_size is not None else read_image_size(str(place / listing.names[0]))
    files = ImageFiles(place, names, torch.tensor(listing.labels), (3, *size), image_size is not None, workers)
    labels = _labels_of(listing.classes if wanted is None else wanted, listing.classes)
    files = keep_labels(files, labels)
    if image_size is None:
        files.check_sizes()
    return files, tuple(listing.classes[label] for label in labels)


def _channel_statistics(images: AnyImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of each channel, of pixels in [0, 1]. Raises UserError for a channel that is constant.

    Computed from all images, or from a fixed random sample of 10,000. A model stores them in its weights, so resuming
    and evaluation do not recompute them.
    """
    chosen = fixed_permutation(len(images))[:_STATISTICS_SAMPLE].sort().values
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)  # a histogram of each channel
    for part in iterate_chunks(images[chosen], 500):
        counts += torch.stack([part.x[:, channel].flatten().bincount(minlength=256) for channel in range(len(counts))])
    values, pixels = torch.arange(256).double() / 255, counts[0].sum()
    mean = (counts * values).sum(1) / pixels
    std = ((counts * (values - mean[:, None]) ** 2).sum(1) / (pixels - 1)).sqrt()
    if (constant := (counts > 0).sum(1) == 1).any():
        channel = int(constant.int().argmax())
        raise UserError(
            f"expected images that differ, got channel {channel} constant in {len(chosen)}; check the files"
        )
    return tuple(mean.tolist()), tuple(std.tolist())
