"""Data sets of 8-bit images. A recipe names one of the public functions here; digits needs no download.

Training images come from the same torchvision folders as RobustBench's loaders; test images through those loaders
themselves, where RobustBench has the data set.
"""

from __future__ import annotations

import math
import os
import re
import socket
import tarfile
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock
import numpy as np
import torch

from rb_smooth.components import ranges
from rb_smooth.core import robustbench
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.data.image_spec import IMAGE_SIZES
from rb_smooth.data.images import AnyImages, ImageFiles, Images, fixed_permutation, iterate_chunks, read_image_size
from rb_smooth.data.prefetch import default_workers

_DOWNLOAD_TIMEOUT_S = 10.0
"""Seconds without a byte after which a download counts as dead."""

_MAX_IN_MEMORY_BYTES = 2 * 2**30
"""Bytes of pixels up to which a folder is read into memory."""

_STATISTICS_SAMPLE = 10_000
"""Images that channel means and standard deviations are taken from."""


@dataclass(frozen=True)
class RawDataset:
    """A data set as it is published, before any validation split.

    board: the leaderboard that its models are entered in. mean, std: one per channel, of pixels in [0, 1].
    official: read from files that torchvision checked by md5.
    """

    board: str
    train: AnyImages
    test: AnyImages
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    official: bool = False


def digits(data_dir: Path) -> RawDataset:
    """scikit-learn's 1,797 handwritten digits: 8 x 8, one channel, 10 classes, no download. Source:
    scikit-learn.

    It has no test set of its own: ours is a stratified fifth, 360 images.
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
    mean, std = _channel_statistics(images[train])
    return RawDataset("digits", images[train], images[test], tuple(map(str, range(10))), mean, std)


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


def svhn(data_dir: Path) -> RawDataset:
    """Street View House Numbers: 73,257 + 26,032 images of 32 x 32, three channels, 10 classes; 250 MB, downloaded.
    Source: torchvision.
    """
    from torchvision.datasets import SVHN

    parts = []
    for part in ("train", "test"):
        url, archive, _ = SVHN.split_list[part]
        with _download("SVHN", url, archive, data_dir):
            images = SVHN(str(data_dir), split=part, download=True)
        parts.append(Images(torch.from_numpy(images.data), torch.from_numpy(images.labels).long()))
    half = (0.5, 0.5, 0.5)  # Kanai et al., appendix E
    train, test = parts
    return RawDataset("svhn", train, test, tuple(map(str, range(10))), half, half, official=True)


def folder(
    data_dir: Path,
    *,
    root: str,
    label: str | None = None,
    image_size: int | None = None,
    stream: bool | Literal["auto"] = "auto",
    workers: int | None = None,
) -> RawDataset:
    """Any images under `<root>/train/<class>/` and `<root>/test/<class>/`. Source: torchvision's ImageFolder.

    root (a folder): where train/ and test/ lie. Source: torchvision's ImageFolder.
    label (letters, digits and . _ -): names the leaderboard, `folder-<label>`; the folder's name by default. Source:
        ours.
    image_size (pixels, 4 to 1024): resize and centre-crop to it; needed unless all images have one size. Source: ours.
    stream: decode images when they are needed, and hold none; auto: where all would take more than 2 GiB. Source: ours.
    workers (processes, >= 0): how many decode minibatches ahead of training, 0: none; by default as many as the cores
        beside this one's, and at most 8. Source: ours.

    How images are read changes no number: neither `stream` nor `workers` makes another run of the same recipe.
    """
    place = Path(root).expanduser()
    label = place.resolve().name if label is None else label
    if not re.fullmatch(r"\w[\w.-]*", label):
        raise UserError(f"expected data.label of letters, digits and . _ -, got {label!r}; use --set data.label=…")
    if image_size is not None and image_size not in IMAGE_SIZES:
        raise UserError(f"expected data.image_size from 4 to 1024, got {image_size}; correct it")
    workers = default_workers() if workers is None else workers
    ranges.at_least(0, workers=workers)
    train: AnyImages
    test: AnyImages
    train, classes = _image_files(place / "train", image_size, workers)
    test, test_classes = _image_files(place / "test", image_size, workers)
    if classes != test_classes:
        raise UserError(
            f"expected the classes of {place / 'train'} in {place / 'test'}, got {', '.join(test_classes)}; make them "
            "equal"
        )
    if train.shape != test.shape:
        sizes = f"{train.shape[1:]} in train, {test.shape[1:]} in test"
        raise UserError(f"expected images of one size, got {sizes}; use --set data.image_size=32")
    test = test[fixed_permutation(len(test))]
    if stream is False or (
        stream == "auto" and (len(train) + len(test)) * math.prod(train.shape) <= _MAX_IN_MEMORY_BYTES
    ):
        train, test = train.load(), test.load()
    mean, std = _channel_statistics(train)
    return RawDataset(f"folder-{label}", train, test, classes, mean, std)


def _cifar(name: str, data_dir: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> RawDataset:
    """mean, std: Kanai et al., appendix E."""
    import torchvision

    dataset, load_test = (
        getattr(torchvision.datasets, name),
        getattr(robustbench.import_robustbench().data, f"load_{name.lower()}"),
    )
    with _download(name.replace("CIFAR", "CIFAR-"), dataset.url, dataset.filename, data_dir):
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


def _image_files(place: Path, image_size: int | None, workers: int) -> tuple[ImageFiles, tuple[str, ...]]:
    """The images under `place`, and their classes; where none is resized, they are of one size."""
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(place))
    except FileNotFoundError as error:
        raise UserError(
            f"expected image folders {place}/<class>/, got {first_line(error)}; see --set data.root"
        ) from None
    names = np.array([os.fsencode(os.path.relpath(path, place)) for path, _ in listing.samples])
    size = (image_size, image_size) if image_size is not None else read_image_size(listing.samples[0][0])
    files = ImageFiles(place, names, torch.tensor(listing.targets), (3, *size), image_size is not None, workers)
    if image_size is None:
        files.check_sizes()
    return files, tuple(listing.classes)


def _channel_statistics(images: AnyImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, as pixels in [0, 1]; a constant channel counts as std 1.

    Of more than 10,000 images, those of a sample of so many, always the same one. Weights carry them from there: a run
    that goes on, or is evaluated, keeps those that it began with.
    """
    chosen = fixed_permutation(len(images))[:_STATISTICS_SAMPLE].sort().values
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)  # how often each channel has each value
    for part in iterate_chunks(images[chosen], 500):
        counts += torch.stack([part.x[:, channel].flatten().bincount(minlength=256) for channel in range(len(counts))])
    values, pixels = torch.arange(256).double() / 255, counts[0].sum()
    mean = (counts * values).sum(1) / pixels
    std = ((counts * (values - mean[:, None]) ** 2).sum(1) / (pixels - 1)).sqrt()
    return tuple(mean.tolist()), tuple(each or 1.0 for each in std.tolist())


@contextmanager
def _download(title: str, url: str, archive: str, data_dir: Path) -> Iterator[None]:
    """Give up a silent download, which torchvision would not, and say in one line what to put where.

    One process at a time: of several that start together, the first downloads and the others find what it left.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be written, nothing can be downloaded
            data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(data_dir / ".lock"))
        with _explain_download_errors(title, url, archive, data_dir):
            yield


@contextmanager
def _explain_download_errors(title: str, url: str, archive: str, data_dir: Path) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        yield
    except (urllib.error.URLError, TimeoutError, ConnectionError, RuntimeError, EOFError, tarfile.TarError) as error:
        cause = first_line(error)
        if (data_dir / archive).exists():
            cause = f"and {archive} there is damaged or incomplete: delete it"
        raise UserError(
            f"expected {title} in {data_dir}, got none and no download ({cause}); put {archive} from {url} there, "
            "or try `digits`, which needs no download"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
