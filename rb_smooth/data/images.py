"""Labelled images, in memory or as files. Whoever uses them need not know which: both have the same operations."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rb_smooth.core.errors import UserError, first_line

_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises at a file that is no image, or no longer a whole one."""


@dataclass(frozen=True)
class Images:
    """x: (N, C, H, W) uint8; y: (N,) int64."""

    x: Tensor
    y: Tensor

    hash_key: ClassVar[str] = "data"
    """What `hashed_arrays` is, as a key of a run's origins."""

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> Images:
        return Images(self.x[index], self.y[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @property
    def hashed_arrays(self) -> Tensor:
        """That by which these images are known again: every pixel."""
        return self.x

    def load(self) -> Images:
        """These images in memory, on their device."""
        return self

    def to(self, device: torch.device) -> Images:
        return Images(self.x.to(device), self.y.to(device))

    def concatenate(self, others: Images) -> Images:
        """These, then `others`."""
        return Images(torch.cat([self.x, others.x]), torch.cat([self.y, others.y]))


@dataclass(frozen=True)
class ImageFiles:
    """Images that stay files until they are `load`; a part of them, `files[index]`, is files too.

    names:   (N,) paths below `root`, as bytes in one array: worker processes share it without copying it.
    y:       (N,) int64, on the CPU, where files are chosen.
    shape:   (C, H, W) that each image has; with `resize`, that each is resized and centre-cropped to.
    workers: processes that decode the minibatches ahead (`prefetch`); 0: this process decodes them.
    device:  where loaded images go.
    """

    root: Path
    names: np.ndarray
    y: Tensor
    shape: tuple[int, int, int]
    resize: bool
    workers: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)

    hash_key: ClassVar[str] = "files"

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> ImageFiles:
        chosen = index.cpu().numpy() if isinstance(index, Tensor) else index
        return replace(self, names=self.names[chosen], y=self.y[index])

    @property
    def hashed_arrays(self) -> Tensor:
        """That by which these images are known again: the files' names and sizes. No image is read."""
        listing = b"".join(b"%s\0%d\n" % (name, os.stat(self._path(name)).st_size) for name in self.names)
        return torch.from_numpy(np.frombuffer(listing, np.uint8).copy())

    def load(self) -> Images:
        """These images in memory, on their device. Raises UserError, naming the file, for one that is damaged."""
        with ThreadPoolExecutor() as pool:
            x = self.decode(pool.map)
        return Images(x.to(self.device), self.y.to(self.device))

    def to(self, device: torch.device) -> ImageFiles:
        return replace(self, device=device)

    def decode(self, each: Callable[..., Iterator[None]] = map) -> Tensor:
        """(N, C, H, W) uint8 on the CPU. each: `map`, or that of a pool of threads."""
        _, height, width = self.shape
        x = np.empty((len(self), *self.shape), np.uint8)

        def place(i: int) -> None:
            path = self._path(self.names[i])
            with open_image(path) as image:
                colours = image.convert("RGB")
            if self.resize:
                colours = ImageOps.fit(colours, (width, height))
            self._check_size(path, colours)
            x[i] = np.asarray(colours).transpose(2, 0, 1)

        for _ in each(place, range(len(self))):
            pass
        return torch.from_numpy(x)

    def check_sizes(self) -> None:
        """Raises UserError for an image of another shape; of each file, only the header is read."""

        def check(name: bytes) -> None:
            with open_image(path := self._path(name)) as image:
                self._check_size(path, image)

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(check, self.names):
                pass

    def _check_size(self, path: str, image: Image.Image) -> None:
        wanted, found = self.shape[1:], (image.height, image.width)
        if found != wanted:
            raise UserError(
                f"expected images of one size, got {wanted} and {found} ({path}); use --set data.image_size=32"
            )

    def _path(self, name: bytes) -> str:
        return os.path.join(self.root, os.fsdecode(name))


AnyImages: TypeAlias = Images | ImageFiles


def iterate_chunks(images: AnyImages, size: int) -> Iterator[Images]:
    """`images` in order, `size` at a time in memory."""
    for start in range(0, len(images), size):
        yield images[start : start + size].load()


def iterate_batches(images: AnyImages, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """x (B, C, H, W) in [0, 1] and y (B,), in order, on `device`."""
    for part in iterate_chunks(images, size):
        yield part.x.to(device).float() / 255, part.y.to(device)


def fixed_permutation(n: int) -> Tensor:
    """(n,) places of n images in a mixed order, always the same: files come class by class, and there the first few
    images are a fair sample of all.
    """
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


def read_image_size(path: str) -> tuple[int, int]:
    """(H, W) of the image in a file, by its header."""
    with open_image(path) as image:
        return image.height, image.width


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """The image in a file, its pixels not yet read. Raises UserError, also for what is found while they are."""
    try:
        with Image.open(path) as image:
            yield image
    except _READ_ERRORS as error:
        raise UserError(
            f"expected an image in {path}, got {first_line(error)}; restore it, or for a new run delete it"
        ) from None


_GREY_LEVEL_TOLERANCE = 1e-3
"""Of how many of 255 levels a pixel may miss a whole one, for rounding in float32."""


def as_images(x: Any, y: Any) -> Images:
    """x: (N, C, H, W), uint8 or in [0, 1]; y: (N,), whole numbers; tensors or arrays. Raises UserError for anything
    else.

    Pixels must be whole grey levels, k/255: points are known again by them, and an attack starts from them.
    """
    try:
        x, y = torch.as_tensor(x).cpu(), torch.as_tensor(y).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"expected points (x, y) as tensors, got {first_line(error)}; correct them") from None
    if x.ndim != 4 or y.ndim != 1 or not len(x) == len(y) > 0 or y.is_floating_point():
        raise UserError(
            f"expected x (N, C, H, W) and whole y (N,), N > 0, got {tuple(x.shape)} and {tuple(y.shape)} of {y.dtype}; "
            "correct them"
        )
    if x.dtype != torch.uint8:
        levels = x.double() * 255
        x = levels.round().clamp(0, 255)
        if not (x - levels).abs().le(_GREY_LEVEL_TOLERANCE).all():
            raise UserError(
                "expected pixels that are k/255, k from 0 to 255, got others; bring (255 * x).round().byte(), and give "
                "the model what it wants inside (Normalized)"
            )
    return Images(x.byte(), y.long())
