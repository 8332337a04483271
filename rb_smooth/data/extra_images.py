"""Read extra training images, generated or unlabelled, from an .npz: `image` (N, H, W, C) uint8, `label` (N,) int."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rb_smooth.core.errors import UserError
from rb_smooth.core.input_files import array_header, array_headers, open_archive, regular_file
from rb_smooth.data.image_spec import ImageSpec

_CHUNK_SIZE = 10_000

_READ_ERRORS = (
    *(OSError, MemoryError, ValueError, LookupError, EOFError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""Raised by numpy and zipfile for a damaged file or one of another format."""


def check_extra(file: Path, expected: ImageSpec, labelled: bool) -> None:
    """Raises UserError unless `file` matches the data set's image shape and classes. Reads headers and labels only.

    labelled: whether its labels are used; otherwise they are not checked and may be missing.
    """
    channels, height, width = expected.shape
    arrays = _headers(file)
    found = arrays.get("image")
    if found is None or found[1] != np.uint8 or found[0][1:] != (height, width, channels):
        got = "no array 'image'" if found is None else f"{found[1]} of shape {found[0]}"
        raise UserError(
            f"expected 'image' in {file} to be uint8 of shape (N, {height}, {width}, {channels}), as in the data set, "
            f"got {got}; convert it"
        )
    if found[0][0] == 0:
        raise UserError(f"expected images in {file}, got an empty array; correct data.extra.file")
    if not labelled:
        return
    if (labels := arrays.get("label")) is None:
        raise UserError(
            f"expected 'label' in {file}, got no labels; set data.extra.labels=pseudo and data.extra.labeller=RUN"
        )
    if labels[0] != found[0][:1] or not np.issubdtype(labels[1], np.integer):
        raise UserError(
            f"expected 'label' in {file} to be {found[0][0]} integers, got {labels[1]} of shape {labels[0]}; convert it"
        )
    y = _array(file, "label")
    if y.min() < 0 or y.max() >= expected.classes:
        raise UserError(
            f"expected labels 0 to {expected.classes - 1} in {file}, got {y.min()} to {y.max()}; use other data"
        )


def read_images(file: Path) -> Tensor:
    """Images of a file that `check_extra` accepts: (N, C, H, W) uint8. Needs little memory beyond the result."""
    try:
        array_headers(file)
        with open_archive(file) as archive, archive.open("image.npy") as member:
            (count, height, width, channels), fortran_order, _ = array_header(member)
            if fortran_order:
                return torch.from_numpy(_array(file, "image")).permute(0, 3, 1, 2).contiguous()
            x = torch.empty(count, channels, height, width, dtype=torch.uint8)
            for part in x.split(_CHUNK_SIZE):
                pixels = np.frombuffer(member.read(part.numel()), np.uint8).reshape(-1, height, width, channels)
                part.copy_(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2))
            return x
    except _READ_ERRORS as error:
        raise UserError(f"expected a whole array 'image' in {file}, got {error}; fetch it again") from None


def read_labels(file: Path) -> Tensor:
    """Labels of a file that has them: (N,) int64."""
    return torch.from_numpy(_array(file, "label").astype(np.int64))


def _array(file: Path, name: str) -> np.ndarray:
    try:
        with np.load(regular_file(file), allow_pickle=False) as arrays:
            return arrays[name]
    except _READ_ERRORS as error:
        raise UserError(f"expected a whole array {name!r} in {file}, got {error}; fetch it again") from None


def _headers(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each array in an .npz file."""
    try:
        return array_headers(file)
    except FileNotFoundError:
        raise UserError(f"expected extra images in {file}, got nothing there; correct data.extra.file") from None
    except _READ_ERRORS as error:
        raise UserError(f"expected an .npz file in {file}, got {error}; fetch it again") from None
