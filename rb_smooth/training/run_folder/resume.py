"""What training needs to go on, saved in a run's folder: whole at every moment, and the state before it kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rb_smooth.core import files
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError

FORMAT = 1
"""Of a saved state; a later one may hold what this version does not know."""

_NAMES = ("resume-new.pt", "resume.pt", "resume-previous.pt")
"""Files of a saved state, newest first. A new one is whole before it takes the place of the one before."""


def state_files(folder: Path) -> list[Path]:
    """The states there, whole or not, newest first."""
    return [path for name in _NAMES if (path := folder / name).exists()]


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Keep plain tensors and Python types; the state before stays until this one is whole, and beside it."""
    newest, resume, previous = (folder / name for name in _NAMES)
    files.save_tensors(newest, {"format": FORMAT, **state})
    if resume.exists():
        os.replace(resume, previous)
    os.replace(newest, resume)


def load_state(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """The newest whole state, on the CPU, and its file; None if training has not begun.

    A damaged file is passed over, and named on the console. Raises UserError if no state is whole, or if it is one of a
    newer version.
    """
    damage = None
    for path in state_files(folder):
        try:
            state = files.load_tensors(path)
        except UserError as refused:
            damage = damage or refused
            continue
        if damage is not None:
            console.print(f"passed over: {damage}; going on from {path.name}")
        if (theirs := state.get("format", 0)) > FORMAT:
            raise UserError(
                f"expected a state of format {FORMAT} or before in {path}, got {theirs}, of a newer rb_smooth; update "
                "it, or use --fresh"
            )
        return state, path
    if damage is not None:
        raise UserError(f"{damage}; no other state of this run is whole: use --fresh")
    return None


def delete_states(folder: Path) -> None:
    """Training is done, and goes on no more."""
    for path in state_files(folder):
        path.unlink()
