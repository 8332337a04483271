"""Where a result comes from: what is written beside every number."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """The checkout's commit, "-dirty" behind it if files differ; "none" where the package is not in its checkout."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return "none"
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "none"
    return shown.stdout.strip()
