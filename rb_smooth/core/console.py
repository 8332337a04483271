"""Console output: lines, progress bars, and rendering to text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rb_smooth.core import environment

console = Console(highlight=False, soft_wrap=True, markup=False, quiet=environment.RANK > 0)  # only rank 0 prints
if not console.is_terminal:
    console.width = 120  # a file or a pipe has no width; tables need one


def log_info(line: str) -> None:
    """Print a line of progress; -q hides it."""
    if environment.verbosity is not environment.Verbosity.QUIET:
        console.print(line)


def log_debug(line: str) -> None:
    """Print a line of detail; only -v shows it."""
    if environment.verbosity is environment.Verbosity.VERBOSE:
        console.print(line)


def is_quiet() -> bool:
    """Whether progress is hidden."""
    return console.quiet or environment.verbosity is environment.Verbosity.QUIET


def use_stderr() -> None:
    """Redirect lines and bars to stderr, so that stdout holds machine-readable output only."""
    console.stderr = True


def progress_bars() -> Progress:
    """Progress bars with the remaining time, removed on completion; none if the output is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=is_quiet() or not console.is_terminal,
    )


@contextmanager
def show_output(visible: bool) -> Iterator[None]:
    """Context manager: show lines and bars only if `visible`."""
    before = console.quiet
    console.quiet = before or not visible
    try:
        yield
    finally:
        console.quiet = before


def render_text(lines: Iterable[RenderableType], *, wrapped: bool = False) -> str:
    """Render `lines` as text, 120 columns wide. wrapped: wrap longer strings, which are else left whole."""
    sheet = Console(file=io.StringIO(), width=120, highlight=False, markup=False)
    for each in lines:
        sheet.print(each, soft_wrap=isinstance(each, str) and not wrapped)
    return "\n".join(line.rstrip() for line in sheet.file.getvalue().splitlines())  # type: ignore[attr-defined]
