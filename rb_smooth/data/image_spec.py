"""Image shape and number of classes of a data set, without decoding an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from rb_smooth.core.errors import UserError
from rb_smooth.core.numbers import MAX_WORKERS
from rb_smooth.data.image_folders import class_folders, is_image


class ImageSpec(NamedTuple):
    """shape: (C, H, W) of an image."""

    shape: tuple[int, int, int]
    classes: int


_KNOWN = {
    "digits": ImageSpec((1, 8, 8), 10),
    "cifar10": ImageSpec((3, 32, 32), 10),
    "cifar100": ImageSpec((3, 32, 32), 100),
    "svhn": ImageSpec((3, 32, 32), 10),
}

TRAINING_IMAGES = {"digits": 1437, "cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257}
"""Before any are held out."""

Label = Annotated[str, Field(max_length=60)]
"""Of `folder`: with four bytes a character it fits into a file's name."""

Workers = Annotated[int, Field(le=MAX_WORKERS)]
"""Processes that decode images."""

IMAGE_SIZES = range(4, 1025)
"""Accepted values of `data.image_size`, in pixels."""

SMALL_CLASSES = ("automobile", "frog", "ship", "truck")
SMALL_SIZE = 16
"""Classes and pixels of `cifar10_small`."""


def known_image_spec(name: str, options: Mapping[str, Any]) -> ImageSpec | None:
    """ImageSpec of data set `name` with these options; None if it is unknown before loading."""
    if name == "cifar10_small":
        return _small_spec(**options)
    return _folder_spec(**options) if name == "folder" else _KNOWN.get(name)


def _small_spec(*, classes: Sequence[str] = SMALL_CLASSES, image_size: int = SMALL_SIZE) -> ImageSpec | None:
    return ImageSpec((3, image_size, image_size), len(set(classes))) if image_size in IMAGE_SIZES else None


def _folder_spec(
    *, root: str, classes: Sequence[str] | None = None, image_size: int | None = None, **others: Any
) -> ImageSpec | None:
    from rb_smooth.data.images import read_image_size

    train = Path(root).expanduser() / "train"
    places = [train / name for name in class_folders(train)] if train.is_dir() else []
    if classes is not None:
        if not {*classes} <= {place.name for place in places}:
            return None  # loading names the class
        places = [place for place in places if place.name in classes]
    images = (image for place in places for image in sorted(place.iterdir()) if is_image(image.name))
    first = next(images, None)
    if first is None:
        return None
    if image_size is not None:
        return ImageSpec((3, image_size, image_size), len(places)) if image_size in IMAGE_SIZES else None
    try:
        return ImageSpec((3, *read_image_size(str(first))), len(places))
    except UserError:
        return None
