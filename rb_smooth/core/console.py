"""The one console: lines for people, and progress bars where a terminal can show them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rb_smooth.core import environment

console = Console(highlight=False, soft_wrap=True, markup=False, quiet=environment.RANK > 0)  # one of several speaks
if not console.is_terminal:
    console.width = 120  # a file or a pipe has no width; tables need one


def log_info(line: str) -> None:
    """How far the work is: no result and no warning, hence nothing after -q."""
    if environment.verbosity is not environment.Verbosity.QUIET:
        console.print(line)


def log_debug(line: str) -> None:
    """Print a line that only -v shows."""
    if environment.verbosity is environment.Verbosity.VERBOSE:
        console.print(line)


def is_quiet() -> bool:
    """Whether remarks are shown to nobody."""
    return console.quiet or environment.verbosity is environment.Verbosity.QUIET


def use_stderr() -> None:
    """From here on lines and bars go to stderr: stdout is for what another program reads."""
    console.stderr = True


def progress_bars() -> Progress:
    """Bars with the time left, gone when they are done; nothing at all where the output is not a terminal."""
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
    """Inside, lines and bars are shown if `visible`, else nothing is."""
    before = console.quiet
    console.quiet = before or not visible
    try:
        yield
    finally:
        console.quiet = before


def render_text(lines: Iterable[RenderableType], *, wrapped: bool = False) -> str:
    """What printing `lines` would show, 120 columns wide; text that is longer goes on, or is wrapped."""
    sheet = Console(file=io.StringIO(), width=120, highlight=False, markup=False)
    for each in lines:
        sheet.print(each, soft_wrap=isinstance(each, str) and not wrapped)
    return "\n".join(line.rstrip() for line in sheet.file.getvalue().splitlines())  # type: ignore[attr-defined]
