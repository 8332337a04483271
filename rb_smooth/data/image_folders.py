"""List a folder of images by class, as torchvision's ImageFolder does, and say what is skipped."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rb_smooth.core.console import log_info
from rb_smooth.core.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision's ImageFolder."""


class ImageListing(NamedTuple):
    """names: (N,) paths below the folder, sorted within each class. labels: (N,). skipped: reason -> number."""

    names: list[str]
    labels: list[int]
    classes: tuple[str, ...]
    skipped: Counter[str]


def is_image(name: str) -> bool:
    """Whether a file of this name is listed."""
    return not _is_hidden(name) and os.path.splitext(name)[1].lower() in EXTENSIONS


def class_folders(place: Path) -> tuple[str, ...]:
    """Return the names of the folders in `place`, sorted; names that begin with a dot are skipped."""
    return tuple(sorted(each.name for each in os.scandir(place) if each.is_dir() and not _is_hidden(each.name)))


def list_images(place: Path) -> ImageListing:
    """List the images under <place>/<class>/, at any depth. Raises UserError without classes, and for an empty class.

    Skipped are names that begin with a dot (`.ipynb_checkpoints`, `._photo.png`) and files without one of EXTENSIONS.
    """
    if not place.is_dir() or not (classes := class_folders(place)):
        found = "no folder of a class" if place.is_dir() else "nothing there"
        raise UserError(f"expected image folders {place}/<class>/, got {found}; see --set data.root")
    names: list[str] = []
    labels: list[int] = []
    skipped: Counter[str] = Counter(
        {"hidden folders": sum(_is_hidden(each.name) for each in os.scandir(place) if each.is_dir())}
    )
    for label, name in enumerate(classes):
        before = len(names)
        for folder, inside, files in sorted(os.walk(place / name, followlinks=True)):
            if any(map(_is_hidden, Path(folder).relative_to(place).parts)):
                continue
            skipped["hidden folders"] += sum(map(_is_hidden, inside))
            for file in sorted(files):
                extension = os.path.splitext(file)[1].lower()
                if not is_image(file):
                    skipped["hidden files" if _is_hidden(file) else f"{extension or 'files without extension'}"] += 1
                    continue
                names.append(os.path.relpath(os.path.join(folder, file), place))
                labels.append(label)
        if len(names) == before:
            raise UserError(
                f"expected images in {place / name}, a class, got none of {' '.join(EXTENSIONS)}; add some or delete it"
            )
    listing = ImageListing(names, labels, classes, +skipped)
    if listing.skipped:
        _log_once(f"{place}: {len(names)} images, {len(classes)} classes; skipped {_listed(listing.skipped)}")
    return listing


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _listed(skipped: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items()))


@cache
def _log_once(line: str) -> None:
    log_info(line)
