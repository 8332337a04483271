"""Data sets, as 8-bit images in memory. A recipe names one of the public functions here; digits needs no download.

Training images come from the same torchvision folders as RobustBench's loaders; test images through those loaders
themselves, where RobustBench has the data set.
"""

from __future__ import annotations

import re
import socket
import tarfile
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from rb_smooth import bridge
from rb_smooth.outlines import IMAGE_SIZES
from rb_smooth.refusal import Refused

_SILENCE_S = 10.0
"""Seconds without a byte after which a download counts as dead."""


@dataclass(frozen=True)
class Images:
    """x: (N, C, H, W) uint8; y: (N,) int64."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> Images:
        return Images(self.x[index], self.y[index])

    def joined(self, others: Images) -> Images:
        """These, then `others`."""
        return Images(torch.cat([self.x, others.x]), torch.cat([self.y, others.y]))


@dataclass(frozen=True)
class Source:
    """A data set as it is published, before any validation split.

    board: the leaderboard that its models are entered in. mean, std: one per channel, of pixels in [0, 1].
    official: read from files that torchvision checked by md5.
    """

    board: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    official: bool = False


def digits(data_dir: Path) -> Source:
    """scikit-learn's 1,797 handwritten digits: 8 x 8, one channel, 10 classes, no download.

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
    mean, std = _moments(images[train].x)
    return Source("digits", images[train], images[test], tuple(map(str, range(10))), mean, std)


def cifar10(data_dir: Path) -> Source:
    """CIFAR-10: 50,000 + 10,000 images of 32 x 32, three channels, 10 classes; 170 MB, downloaded on first use."""
    return _cifar("CIFAR10", data_dir, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))


def cifar100(data_dir: Path) -> Source:
    """CIFAR-100: 50,000 + 10,000 images of 32 x 32, three channels, 100 classes; 170 MB, downloaded on first use."""
    mean = (0.5070751592371323, 0.48654887331495095, 0.4409178433670343)
    return _cifar("CIFAR100", data_dir, mean, (0.2673342858792401, 0.2564384629170883, 0.27615047132568404))


def svhn(data_dir: Path) -> Source:
    """Street View House Numbers: 73,257 + 26,032 images of 32 x 32, three channels, 10 classes; 250 MB, downloaded."""
    from torchvision.datasets import SVHN

    parts = []
    for part in ("train", "test"):
        url, archive, _ = SVHN.split_list[part]
        with _downloading("SVHN", url, archive, data_dir):
            images = SVHN(str(data_dir), split=part, download=True)
        parts.append(Images(torch.from_numpy(images.data), torch.from_numpy(images.labels).long()))
    half = (0.5, 0.5, 0.5)  # Kanai et al., appendix E
    train, test = parts
    return Source("svhn", train, test, tuple(map(str, range(10))), half, half, official=True)


def folder(data_dir: Path, *, root: str, label: str | None = None, image_size: int | None = None) -> Source:
    """Any images under `root`/train/<class>/ and `root`/test/<class>/ (torchvision's ImageFolder).

    label:      names the leaderboard, `folder-<label>`; the folder's name by default.
    image_size: resize and centre-crop to this many pixels; needed unless all images have one size.
    """
    place = Path(root).expanduser()
    label = place.resolve().name if label is None else label
    if not re.fullmatch(r"\w[\w.-]*", label):
        raise Refused(f"expected data.label of letters, digits and . _ -, got {label!r}; set --set data.label=…")
    if image_size is not None and image_size not in IMAGE_SIZES:
        raise Refused(f"expected data.image_size from 4 to 1024, got {image_size}; correct it")
    train, classes = _image_folder(place / "train", image_size)
    test, test_classes = _image_folder(place / "test", image_size)
    if classes != test_classes:
        raise Refused(
            f"expected the classes of {place / 'train'} in {place / 'test'}, got {', '.join(test_classes)}; make them "
            "equal"
        )
    if train.x.shape[1:] != test.x.shape[1:]:
        sizes = f"{tuple(train.x.shape[2:])} in train, {tuple(test.x.shape[2:])} in test"
        raise Refused(f"expected images of one size, got {sizes}; set --set data.image_size=32")
    # Files come class by class: in a fixed order of their own, the first n are a fair sample.
    test = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))]
    mean, std = _moments(train.x)
    return Source(f"folder-{label}", train, test, classes, mean, std)


def _cifar(name: str, data_dir: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> Source:
    """mean, std: Kanai et al., appendix E."""
    import torchvision

    dataset, load_test = getattr(torchvision.datasets, name), getattr(bridge.robustbench().data, f"load_{name.lower()}")
    with _downloading(name.replace("CIFAR", "CIFAR-"), dataset.url, dataset.filename, data_dir):
        train = dataset(str(data_dir), train=True, download=True)
        x_test, y_test = load_test(data_dir=str(data_dir))
    return Source(
        board=name.lower(),
        train=Images(torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(train.targets)),
        test=Images((x_test * 255).round().byte(), y_test.long()),
        classes=tuple(train.classes),
        mean=mean,
        std=std,
        official=True,
    )


def _image_folder(place: Path, image_size: int | None) -> tuple[Images, tuple[str, ...]]:
    from concurrent.futures import ThreadPoolExecutor

    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(place))
    except FileNotFoundError as error:
        raise Refused(
            f"expected image folders {place}/<class>/, got {str(error).splitlines()[0]}; see --set data.root"
        ) from None
    with ThreadPoolExecutor() as pool:
        arrays = list(pool.map(lambda path: _pixels(path, image_size), [path for path, _ in listing.samples]))
    sizes = {array.shape: path for array, (path, _) in zip(arrays, listing.samples, strict=True)}
    if len(sizes) > 1:
        (one, here), (other, there) = list(sizes.items())[:2]
        raise Refused(
            f"expected images of one size, got {one[:2]} ({here}) and {other[:2]} ({there}); set --set "
            "data.image_size=32"
        )
    x = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return Images(x, torch.tensor(listing.targets)), tuple(listing.classes)


def _pixels(path: str, image_size: int | None) -> np.ndarray:
    """(H, W, 3) uint8."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            colours = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise Refused(f"expected an image in {path}, got {error}; replace or delete it") from None
    return np.asarray(colours if image_size is None else ImageOps.fit(colours, (image_size, image_size)))


def _moments(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, as pixels in [0, 1]; a constant channel counts as std 1."""
    channels: Sequence[Tensor] = [x[:, channel].double() / 255 for channel in range(x.shape[1])]
    return tuple(c.mean().item() for c in channels), tuple(c.std().item() or 1.0 for c in channels)


@contextmanager
def _downloading(title: str, url: str, archive: str, data_dir: Path) -> Iterator[None]:
    """Give up a silent download, which torchvision would not, and say in one line what to put where.

    One process at a time: of several that start together, the first downloads and the others find what it left.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)
    try:
        with ExitStack() as stack:
            with suppress(OSError):  # where nothing can be written, nothing can be downloaded
                data_dir.mkdir(parents=True, exist_ok=True)
                stack.enter_context(filelock.FileLock(data_dir / ".lock"))
            yield
    except (urllib.error.URLError, TimeoutError, ConnectionError, RuntimeError, EOFError, tarfile.TarError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        if (data_dir / archive).exists():
            cause = f"and {archive} there is damaged or incomplete: delete it"
        raise Refused(
            f"expected {title} in {data_dir}, got none and no download ({cause}); put {archive} from {url} there, "
            "or try `digits`, which needs no download"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
