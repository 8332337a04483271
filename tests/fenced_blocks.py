"""The fenced blocks of the documents, and the commands in them as bash would hand them to programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"(?:^<!-- run:\s*((?:(?!-->).)*?)\s*-->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^\s*```", re.MULTILINE)

_BASH_STUBS = """
set -euo pipefail
note() { printf '%s\\0' "$@" >&3; printf '\\n\\0' >&3; }
python() { note python "$@"; }
torchrun() { note torchrun "$@"; }
make() { note make "$@"; }
srun() { while [ "$1" != bash ]; do shift; done; "$@"; }
scontrol() { echo localhost; }
export -f note python torchrun make srun scontrol
"""
"""In the place of programs that are not to be run by bash: they write down what they were told."""


class Block(NamedTuple):
    """kind: the language that its fence names. replacement: what its `<!-- run: … -->` says; None: it has none."""

    page: str
    line: int
    kind: str
    text: str
    replacement: str | None

    @property
    def location(self) -> str:
        return f"{self.page}, line {self.line}"


def fenced_blocks(page: str, text: str) -> list[Block]:
    """Every fenced block of a page, in order. A fence that is indented or not closed is an AssertionError."""
    found = [
        Block(page, text.count("\n", 0, match.end()) - match[3].count("\n"), match[2], match[3], match[1])
        for match in _BLOCK.finditer(text)
    ]
    assert len(_FENCE.findall(text)) == 2 * len(found), f"{page}: a fence that is indented, or not closed"
    return found


def script_commands(script: str) -> list[str]:
    """The commands of a script, each with its further lines: those after a backslash, and those of a here-document."""
    commands: list[str] = []
    end = None
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        if end is not None:
            commands[-1] += f"\n{line}"
        elif line.strip() and not line.lstrip().startswith("#"):
            commands.append(line)
        opened = re.search(r"<<'?(\w+)'?", line)
        end = opened[1] if end is None and opened else None if line == end else end
    return commands


def program_calls(line: str, folder: Path) -> list[list[str]]:
    """What bash, in `folder`, would tell our programs, make and torchrun: ["python", "-m", …] for each call.

    Other programs are run. A line that bash cannot read, or in which one fails, is an AssertionError.
    """
    read, write = os.pipe()
    script = f"exec 3>&{write}\n{_BASH_STUBS}{line}\n"
    environment = os.environ | {"FIRST_HOST": "localhost", "SLURM_NNODES": "2"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, pass_fds=[write], capture_output=True, text=True
    )
    os.close(write)
    with os.fdopen(read, "rb") as notes:
        calls = notes.read().decode()
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return [call.split("\0")[:-1] for call in calls.split("\n\0")[:-1]]
