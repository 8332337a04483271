"""Atomic writes of bytes, JSON, arrays and tensors; reads with one-line errors; marked blocks of documents."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rb_smooth.core.errors import UserError, first_line
from rb_smooth.core.input_files import array_headers, check_content, open_archive, read_text, regular_file

_ARRAY_DAMAGE = (OSError, MemoryError, SyntaxError, ValueError, EOFError, LookupError, AttributeError, RuntimeError)
"""Raised by numpy and zipfile for a damaged file, or one of another format."""

TEMPORARY = ".*.????????"
"""Pattern of the names of files that `write_bytes` has not finished."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp creates files with mode 0600
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk: name the file
        raise


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError if it is missing or is not JSON."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(f"expected the file {path}, got nothing there; check the name") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"expected JSON in {path}, got {error}; restore or delete it") from None


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write numpy arrays to an .npz; `read_arrays` reads it."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, Any]:
    """Read the arrays of an .npz without executing code. Raises UserError if it is missing or damaged."""
    import zlib

    import numpy as np

    try:
        array_headers(path)
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive.items())
    except (*_ARRAY_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        cause = first_line(error)
        raise UserError(f"expected arrays in {path}, got a damaged or foreign file ({cause}); restore it") from None


def save_tensors(path: Path, value: Any) -> None:
    """Write tensors and plain Python types; `load_tensors` reads them."""
    import torch

    buffer = io.BytesIO()  # torch writing to a full disk raises a bare RuntimeError; Python's own write names the cause
    torch.save(value, buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path) -> Any:
    """Read a file of tensors onto the CPU without executing code. Raises UserError if it is damaged.

    torch verifies no checksum, so that a flipped bit would be a wrong weight; the zip file's are verified first.
    """
    import pickle
    import struct
    import zlib

    import torch

    damage = (
        *(EOFError, ValueError, LookupError, TypeError, AttributeError),
        *(pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error),
    )
    try:
        if zipfile.is_zipfile(regular_file(path)):
            with open_archive(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise EOFError(f"the checksum of {damaged} is wrong")
                if any("/code/" in name for name in archive.namelist()):
                    raise UserError(
                        f"expected tensors in {path}, got a TorchScript archive, which is code; save its state_dict(), "
                        "or pass torch.jit.load(…) in Python"
                    )
        with torch.serialization.safe_globals(_harmless_types()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        check_content(loaded, path.stat().st_size)
        return loaded
    except (RuntimeError, OSError, MemoryError, *damage) as error:
        cause = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # torch's message recommends executing the file's code
            cause = "it holds more than tensors, or is none of torch's"
            if objects := _objects_in(path):
                raise UserError(
                    f"expected tensors in {path}, got a file that holds more than tensors ({objects}), whose loading "
                    "could run code; ask its authors for the weights alone, torch.save(model.state_dict(), 'net.pt')"
                ) from None
        raise UserError(f"expected tensors in {path}, got a damaged or foreign file ({cause}); restore it") from None


def _objects_in(path: Path) -> str:
    """`collections.Counter`: classes and functions in the file that `load_tensors` refuses; empty if unknown."""
    import torch

    with suppress(Exception), torch.serialization.safe_globals(_harmless_types()):  # damaged, or torch before 1.6
        return ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path)[:3])
    return ""


def _harmless_types() -> list[Any]:
    """Types beside tensors that training scripts save and that execute nothing when they are loaded."""
    import argparse
    import pathlib
    import types

    import numpy as np
    from numpy import dtypes

    rebuild: Any = np.zeros(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    numpy_types: list[Any] = [getattr(dtypes, name) for name in dtypes.__all__ if name != "ObjectDType"]
    numpy_types += [(function, f"numpy.core.multiarray.{function.__name__}") for function in (rebuild, scalar)]
    paths = [pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath]
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        *paths,
        np.ndarray,
        np.dtype,
        rebuild,
        scalar,
        *numpy_types,
    ]


def sha256(path: Path) -> str:
    with regular_file(path).open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """fsync a folder, so that a new file's name survives a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_between(path: Path, blocks: Mapping[str, Sequence[str]]) -> None:
    """Put each block's lines between <!-- name --> and <!-- /name --> of the document at `path`.

    Raises UserError, and writes nothing, if the document or a place is missing or a place occurs twice.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a document in {path}, got {type(error).__name__}; check the name") from None
    for name, lines in blocks.items():
        text = replace_between(text, name, lines, path.name)
    write_text(path, text)


def replace_between(text: str, name: str, lines: Sequence[str], where: str) -> str:
    """`text` with `lines` between the comments of `name`. where: the document, for UserError."""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = "\n".join([opening, *lines, closing])
    replaced, count = re.subn(f"{re.escape(opening)}\n.*?{re.escape(closing)}", lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        raise UserError(
            f"expected '{opening}' and '{closing}' once in {where}, got them {count} times; correct the document"
        )
    return replaced


def validate_name(name: str) -> str:
    """Return `name`; raise UserError if it is no safe file name or RobustBench's loader treats it specially."""
    if not re.fullmatch(r"[\w+.-]{1,100}", name) or name.startswith(".") or len(name.encode()) > 200:
        raise UserError(f"expected a name of letters, digits and . _ + -, 100 at most, got {name!r}; choose another")
    if "Kireev2021Effectiveness" in name or name == "Andriushchenko2020Understanding":
        raise UserError(
            f"expected a name that RobustBench's loader treats like any other, got {name!r}; choose another"
        )
    return name
