"""Open files that others may have made: regular files only, and no content that is larger than its file allows.

Every reader of the package opens its file with `regular_file`, `read_text` or `open_archive`.
"""

from __future__ import annotations

import math
import stat
import zipfile
from pathlib import Path
from typing import IO, Any

from rb_smooth.core.errors import UserError

_MAX_TEXT_BYTES = 2**28
"""Size of a text file above which it is none of ours."""

_MAX_EXPANSION = 50
"""Largest plausible ratio of an archive's content to its file; deflated zeros have 1,000."""

_MAX_DEPTH = 50
"""Nesting of dicts and lists in a file of tensors above which it is none of torch's."""

_SMALL_BYTES = 2**28
"""Content of an archive that is read whatever its ratio."""

_SMALL_TENSOR_BYTES = 2**20
"""Size of a tensor that may be larger than its file: one that repeats a number, such as a mean."""


def regular_file(path: Path) -> Path:
    """Return `path`. Raises UserError for a folder, a device, a pipe or a socket; FileNotFoundError for nothing."""
    if not stat.S_ISREG(mode := path.stat().st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise UserError(f"expected the file {path}, got {kinds.get(stat.S_IFMT(mode), 'a device')}; choose a file")
    return path


def read_text(path: Path, errors: str = "strict") -> str:
    """Read a text file in UTF-8. Raises UserError for what is not a regular file, or is too large to be text."""
    if (size := regular_file(path).stat().st_size) > _MAX_TEXT_BYTES:
        raise UserError(f"expected text in {path}, got {size} bytes; choose another file")
    return path.read_text(encoding="utf-8", errors=errors)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive. Raises UserError if it declares a content far larger than its file (a zip bomb)."""
    archive = zipfile.ZipFile(regular_file(path))
    declared, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
    if declared > max(_SMALL_BYTES, _MAX_EXPANSION * size):
        archive.close()
        raise UserError(f"expected {path} to hold what it has room for, got {declared} bytes in {size}; restore it")
    return archive


def array_headers(path: Path) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of each array in an .npz. Raises ValueError if an array is larger than its part of the file."""
    headers = {}
    with open_archive(path) as archive:
        for item in archive.infolist():
            with archive.open(item) as member:
                shape, _, dtype = array_header(member)
            if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > item.file_size:
                raise ValueError(f"{item.filename} of shape {shape} in {item.file_size} bytes")
            headers[item.filename.removesuffix(".npy")] = (shape, dtype)
    return headers


def array_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, Any]:
    """(shape, fortran_order, dtype) of the .npy array that starts here."""
    from numpy.lib import format as npy

    version_1 = npy.read_magic(member) == (1, 0)
    return (npy.read_array_header_1_0 if version_1 else npy.read_array_header_2_0)(member)


def check_content(value: Any, size: int) -> None:
    """Check what torch read from a file of `size` bytes.

    Raises ValueError if containers hold themselves or are nested deeply, or a tensor is larger than the file: with
    strides of zero a few bytes have any shape, and a copy of them would fill the memory.
    """
    _check_nested(value, max(size, _SMALL_TENSOR_BYTES), (), set())


def _check_nested(value: Any, limit: int, above: tuple[int, ...], seen: set[int]) -> None:
    """above: ids of the containers around `value`. seen: ids of those checked already."""
    import torch

    if isinstance(value, torch.Tensor) and value.numel() * value.element_size() > limit:
        raise ValueError(f"a tensor of shape {tuple(value.shape)}, larger than the file")
    if not isinstance(value, (dict, list, tuple, set)):
        return
    if id(value) in above:
        raise ValueError("a container that holds itself")
    if len(above) == _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} levels")
    if id(value) not in seen:
        seen.add(id(value))
        for child in value.values() if isinstance(value, dict) else value:
            _check_nested(child, limit, (*above, id(value)), seen)
