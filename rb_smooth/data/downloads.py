"""Downloads by torchvision: one process at a time, with a time limit and errors of one line."""

from __future__ import annotations

import socket
import tarfile
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock

from rb_smooth.core.errors import UserError, first_line

_DOWNLOAD_TIMEOUT_S = 10.0
"""Seconds without a byte after which a download is aborted."""


@contextmanager
def downloading(title: str, url: str, archive: str, data_dir: Path) -> Iterator[None]:
    """Inside: one process downloads at a time, stalled downloads are aborted, and errors become one-line UserErrors.

    Other processes wait for the lock, then read the downloaded files.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # a read-only folder needs no lock: nothing can be downloaded into it
            data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(data_dir / ".lock"))
        stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
        socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
        try:
            yield
        except (
            urllib.error.URLError,
            TimeoutError,
            ConnectionError,
            RuntimeError,
            EOFError,
            tarfile.TarError,
        ) as error:
            cause = first_line(error)
            if (data_dir / archive).exists():
                cause = f"and {archive} there is damaged or incomplete: delete it"
            raise UserError(
                f"expected {title} in {data_dir}, got none and no download ({cause}); put {archive} from {url} there, "
                "or try `digits`, which needs no download"
            ) from None
