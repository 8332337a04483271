"""Save and load the state of training atomically, with the previous state as a fallback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rb_smooth.core import files
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError

FORMAT = 1
"""Format version of a saved state."""

_NAMES = ("resume-new.pt", "resume.pt", "resume-previous.pt")
"""Files of saved states, newest first. A new state is complete before it replaces the previous one."""


def state_files(folder: Path) -> list[Path]:
    """Files of saved states in `folder`, newest first; some may be damaged."""
    return [path for name in _NAMES if (path := folder / name).exists()]


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save tensors and Python types; the previous state becomes resume-previous.pt."""
    newest, resume, previous = (folder / name for name in _NAMES)
    files.save_tensors(newest, {"format": FORMAT, **state})
    if resume.exists():
        os.replace(resume, previous)
    os.replace(newest, resume)


def load_state(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """The newest intact state, on the CPU, and its file; None if training has not begun.

    Skips and reports damaged files. Raises UserError if all are damaged or the format is newer.
    """
    damage = None
    for path in state_files(folder):
        try:
            state = files.load_tensors(path)
        except UserError as error:
            damage = damage or error
            continue
        if damage is not None:
            console.print(f"skipped: {damage}; resuming from {path.name}")
        if (found := state.get("format", 0)) > FORMAT:
            raise UserError(
                f"expected a state of format {FORMAT} or before in {path}, got {found}, of a newer rb_smooth; update "
                "rb_smooth, or use --fresh"
            )
        return state, path
    if damage is not None:
        raise UserError(f"{damage}; no other state of this run is intact: use --fresh")
    return None


def delete_states(folder: Path) -> None:
    """Delete the saved states of a trained run."""
    for path in state_files(folder):
        path.unlink()
