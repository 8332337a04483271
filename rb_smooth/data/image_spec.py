"""What is known of a data set before one of its images is read: their shape, and how many classes there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class ImageSpec(NamedTuple):
    """shape: of an image, (C, H, W)."""

    shape: tuple[int, int, int]
    classes: int


_KNOWN = {
    "digits": ImageSpec((1, 8, 8), 10),
    "cifar10": ImageSpec((3, 32, 32), 10),
    "cifar100": ImageSpec((3, 32, 32), 100),
    "svhn": ImageSpec((3, 32, 32), 10),
}


IMAGE_SIZES = range(4, 1025)
"""To which the images of a folder may be resized."""


def known_image_spec(name: str, options: Mapping[str, Any]) -> ImageSpec | None:
    """Of the data set `name` with these options; None if only reading it would tell."""
    return _folder_spec(**options) if name == "folder" else _KNOWN.get(name)


def _folder_spec(*, root: str, image_size: int | None = None, **others: Any) -> ImageSpec | None:
    from PIL import Image, UnidentifiedImageError
    from torchvision.datasets.folder import is_image_file

    train = Path(root).expanduser() / "train"
    classes = sorted(place for place in train.iterdir() if place.is_dir()) if train.is_dir() else []
    images = (image for place in classes for image in sorted(place.iterdir()) if is_image_file(image.name))
    first = next(images, None)
    if first is None:
        return None
    if image_size is not None:
        return ImageSpec((3, image_size, image_size), len(classes)) if image_size in IMAGE_SIZES else None
    try:
        with Image.open(first) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError):
        return None
    return ImageSpec((3, height, width), len(classes))
