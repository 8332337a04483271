"""The folder beside index.html with one page for each model's details, where these are too many for one file."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from rb_smooth.core.errors import UserError

FOLDER = "index-details"
"""Its name."""

STYLE = "page.css"
"""The style of all its pages, the last file to be written: with it the folder is ours to replace."""


@contextmanager
def replace_folder(leaderboard: Path) -> Iterator[Path]:
    """Yield an empty folder, which then replaces the one beside the page; after an exception that one stays.

    Readers see the old folder or the new one. Raises UserError if another folder has its name.
    """
    leaderboard.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(leaderboard / ".page.lock"):
        folder = leaderboard / FOLDER
        if folder.exists() and not (folder / STYLE).exists():
            raise UserError(f"expected {folder} to be absent or the page's details, got something else; move it away")
        for leftover in leaderboard.glob(f".{FOLDER}.*"):  # of a process killed while writing
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=leaderboard, prefix=f".{FOLDER}.") as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            yield new
            _move_away(leaderboard, Path(temporary))
            new.rename(folder)


def remove_detail_files(leaderboard: Path) -> None:
    """Remove the folder, if there is one of ours."""
    if (leaderboard / FOLDER / STYLE).exists():
        temporary = tempfile.TemporaryDirectory(dir=leaderboard, prefix=f".{FOLDER}.")
        with filelock.FileLock(leaderboard / ".page.lock"), temporary as folder:
            _move_away(leaderboard, Path(folder))


def detail_file(leaderboard: Path, address: str) -> Path | None:
    """The file of a request's path, `/index-details/KEY.html` or the style; None for any other path."""
    name = re.fullmatch(rf"/{FOLDER}/([\w.+~-]+\.html|{re.escape(STYLE)})", address, re.ASCII)
    return leaderboard / FOLDER / name[1] if name else None


def _move_away(leaderboard: Path, temporary: Path) -> None:
    if (leaderboard / FOLDER).exists():
        (leaderboard / FOLDER).rename(temporary / "old")
