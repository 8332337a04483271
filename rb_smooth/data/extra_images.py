"""Extra training images, generated or unlabelled, in the public .npz form: `image` (N, H, W, C) uint8, `label` (N,)."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from rb_smooth.core.errors import UserError
from rb_smooth.data.image_spec import ImageSpec

_CHUNK_SIZE = 10_000

_READ_ERRORS = (
    *(OSError, MemoryError, ValueError, LookupError, EOFError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What numpy and zipfile raise at a file that is none of theirs, or no longer whole."""


def check_extra(file: Path, expected: ImageSpec, labelled: bool) -> None:
    """Refuse, by what its headers and labels say, a file that does not go with the data. No image is read."""
    channels, height, width = expected.shape
    arrays = _headers(file)
    found = arrays.get("image")
    if found is None or found[1] != np.uint8 or found[0][1:] != (height, width, channels):
        got = "no array 'image'" if found is None else f"{found[1]} of shape {found[0]}"
        raise UserError(
            f"expected 'image' in {file} to be uint8 of shape (N, {height}, {width}, {channels}), as the data are, got "
            f"{got}; convert it"
        )
    if found[0][0] == 0:
        raise UserError(f"expected images in {file}, got an array of none; correct data.extra.file")
    if not labelled:
        return
    if (labels := arrays.get("label")) is None:
        raise UserError(
            f"expected 'label' in {file}, got images alone; set data.extra.labels=pseudo and data.extra.labeller=RUN"
        )
    if labels[0] != found[0][:1] or not np.issubdtype(labels[1], np.integer):
        raise UserError(
            f"expected 'label' in {file} to be {found[0][0]} integers, got {labels[1]} of shape {labels[0]}; convert it"
        )
    y = _array(file, "label")
    if y.min() < 0 or y.max() >= expected.classes:
        raise UserError(
            f"expected labels 0 to {expected.classes - 1} in {file}, the data's classes, got {y.min()} to {y.max()}; "
            "use "
            "other data"
        )


def read_images(file: Path) -> Tensor:
    """(N, C, H, W) uint8, of a file that `check_extra` passed. A million images are 3 GB, and no more is held."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("image.npy") as member:
            (count, height, width, channels), by_columns, _ = _header(member)
            if by_columns:
                return torch.from_numpy(_array(file, "image")).permute(0, 3, 1, 2).contiguous()
            x = torch.empty(count, channels, height, width, dtype=torch.uint8)
            for part in x.split(_CHUNK_SIZE):
                pixels = np.frombuffer(member.read(part.numel()), np.uint8).reshape(-1, height, width, channels)
                part.copy_(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2))
            return x
    except _READ_ERRORS as error:
        raise UserError(f"expected a whole array 'image' in {file}, got {error}; fetch it again") from None


def read_labels(file: Path) -> Tensor:
    """(N,) int64, of a file that has labels."""
    return torch.from_numpy(_array(file, "label").astype(np.int64))


def _array(file: Path, name: str) -> np.ndarray:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[name]
    except _READ_ERRORS as error:
        raise UserError(f"expected a whole array {name!r} in {file}, got {error}; fetch it again") from None


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it lies by columns, type) of the array that begins here."""
    first_form = np.lib.format.read_magic(member) == (1, 0)
    return (np.lib.format.read_array_header_1_0 if first_form else np.lib.format.read_array_header_2_0)(member)


def _headers(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of each array of an .npz file."""
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    shape, _, dtype = _header(member)
                    found[name.removesuffix(".npy")] = (shape, dtype)
    except FileNotFoundError:
        raise UserError(f"expected extra images in {file}, got nothing there; correct data.extra.file") from None
    except _READ_ERRORS as error:
        raise UserError(f"expected an .npz file in {file}, got {error}; fetch it again") from None
    return found
