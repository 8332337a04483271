"""Labelled images, in memory (`Images`) or as files (`ImageFiles`). Both support indexing, `load` and `to`."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.input_files import regular_file

_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""Raised by Pillow for a file that is not an image or is damaged."""


@dataclass(frozen=True)
class Images:
    """x: (N, C, H, W) uint8; y: (N,) int64."""

    x: Tensor
    y: Tensor

    hash_key: ClassVar[str] = "data"
    """Key of `hashed_arrays` among a run's input hashes."""

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
        """Content by which a resumed run recognises its images: every pixel."""
        return self.x

    def load(self) -> Images:
        """These images; they are in memory."""
        return self

    def to(self, device: torch.device) -> Images:
        return Images(self.x.to(device), self.y.to(device))

    def concatenate(self, others: Images) -> Images:
        """These images followed by `others`."""
        return Images(torch.cat([self.x, others.x]), torch.cat([self.y, others.y]))


@dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded by `load` only; `files[index]` is ImageFiles too.

    names:   (N,) paths below `root`, as bytes in one array that worker processes share without copying.
    y:       (N,) int64, on the CPU.
    shape:   (C, H, W) of each image, after resizing and centre-cropping if `resize`.
    workers: processes that decode minibatches ahead of training (`prefetch`); 0: the training process decodes.
    stream:  whether training decodes each minibatch when it uses it, or all images once before it starts.
    device:  device of decoded images.
    """

    root: Path
    names: np.ndarray
    y: Tensor
    shape: tuple[int, int, int]
    resize: bool
    workers: int
    stream: bool = True
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)

    hash_key: ClassVar[str] = "files"

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> ImageFiles:
        chosen = index.cpu().numpy() if isinstance(index, Tensor) else index
        return replace(self, names=self.names[chosen], y=self.y[index])

    @property
    def hashed_arrays(self) -> Tensor:
        """Content by which a resumed run recognises its images: the files' names and sizes. Decodes nothing."""
        listing = b"".join(b"%s\0%d\n" % (name, os.stat(self._path(name)).st_size) for name in self.names)
        return torch.from_numpy(np.frombuffer(listing, np.uint8).copy())

    def load(self) -> Images:
        """Decode all, in threads. Raises UserError, naming the file, for a damaged image."""
        with ThreadPoolExecutor() as pool:
            x = self.decode(pool.map)
        return Images(x.to(self.device), self.y.to(self.device))

    def to(self, device: torch.device) -> ImageFiles:
        return replace(self, device=device)

    def decode(self, each: Callable[..., Iterator[None]] = map) -> Tensor:
        """(N, C, H, W) uint8 on the CPU. each: `map`, or a thread pool's `map`."""
        _, height, width = self.shape
        x = np.empty((len(self), *self.shape), np.uint8)

        def place(i: int) -> None:
            path = self._path(self.names[i])
            with open_image(path) as image:
                colours = _as_rgb(path, image)
            if self.resize:
                colours = ImageOps.fit(colours, (width, height))
            self._check_size(path, colours)
            x[i] = np.asarray(colours).transpose(2, 0, 1)

        for _ in each(place, range(len(self))):
            pass
        return torch.from_numpy(x)

    def check_sizes(self) -> None:
        """Raises UserError for an image of another size. Reads headers only."""

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


LabelledImages = TypeVar("LabelledImages", Images, ImageFiles)


def keep_labels(images: LabelledImages, labels: Sequence[int]) -> LabelledImages:
    """The images with one of `labels`, ascending, in their order; the labels become 0, 1, …"""
    wanted = torch.tensor(labels)
    kept = images[torch.isin(images.y, wanted)]
    return replace(kept, y=torch.searchsorted(wanted, kept.y))


def resize_images(images: Images, size: int) -> Images:
    """Every image (3, H, W) resized and centre-cropped to size x size, as `ImageFiles` does."""
    x = np.empty((len(images), 3, size, size), np.uint8)
    for row, image in zip(x, images.x.permute(0, 2, 3, 1).contiguous().numpy(), strict=True):
        row[:] = np.asarray(ImageOps.fit(Image.fromarray(image), (size, size))).transpose(2, 0, 1)
    return Images(torch.from_numpy(x), images.y)


def iterate_chunks(images: AnyImages, size: int) -> Iterator[Images]:
    """Yield `images` in order, `size` at a time, decoded."""
    for start in range(0, len(images), size):
        yield images[start : start + size].load()


def iterate_batches(images: AnyImages, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x (B, C, H, W) in [0, 1] and y (B,), in order, on `device`."""
    for part in iterate_chunks(images, size):
        yield part.x.to(device).float() / 255, part.y.to(device)


def fixed_permutation(n: int) -> Tensor:
    """(n,) int64, a fixed random permutation. Folders list images class by class; permuted, the first few are a fair
    sample.
    """
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


def read_image_size(path: str) -> tuple[int, int]:
    """(H, W) of an image file, read from its header. Raises UserError for a file that is not an image."""
    with open_image(path) as image:
        return image.height, image.width


def _as_rgb(path: str, image: Image.Image) -> Image.Image:
    """Convert to 8-bit colours. Pillow would clip 16-bit grey levels at 255: they are scaled."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(
            f"expected an image of 8 or 16 bits in {path}, got 32 (mode {image.mode}), whose range is unknown; save it "
            "as 8-bit PNG"
        )
    return image.convert("RGB")


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """Open an image file without decoding it. Raises UserError for a damaged file, also while it is decoded inside."""
    try:
        with Image.open(regular_file(Path(path))) as image:
            yield image
    except _READ_ERRORS as error:
        raise UserError(
            f"expected an image in {path}, got {first_line(error)}; restore it, or for a new run delete it"
        ) from None


_GREY_LEVEL_TOLERANCE = 1e-3
"""Largest accepted distance of 255 * pixel from an integer, for rounding in float32."""


def as_images(x: Any, y: Any) -> Images:
    """Check and convert test points: x (N, C, H, W), uint8 or in [0, 1]; y (N,) integers; tensors or arrays.

    Raises UserError for other shapes or types, and for pixels that are not multiples of 1/255: results are stored by a
    hash of uint8 pixels, and attacks start from those pixels.
    """
    try:
        x, y = torch.as_tensor(x).cpu(), torch.as_tensor(y).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"expected points (x, y) as tensors, got {first_line(error)}; correct them") from None
    if x.ndim != 4 or y.ndim != 1 or not len(x) == len(y) > 0 or y.is_floating_point():
        raise UserError(
            f"expected x (N, C, H, W) and integer y (N,), N > 0, got {tuple(x.shape)} and {tuple(y.shape)} of "
            f"{y.dtype}; correct them"
        )
    if x.dtype != torch.uint8:
        levels = x.double() * 255
        x = levels.round().clamp(0, 255)
        if not (x - levels).abs().le(_GREY_LEVEL_TOLERANCE).all():
            raise UserError(
                "expected pixels that are k/255, k from 0 to 255, got others; pass (255 * x).round().byte(), and "
                "normalise inside the model (Normalized)"
            )
    return Images(x.byte(), y.long())
