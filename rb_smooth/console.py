"""The one console: lines for people, and progress bars where a terminal can show them."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rb_smooth import launch

console = Console(highlight=False, soft_wrap=True, markup=False, quiet=launch.RANK > 0)  # one of several speaks
if not console.is_terminal:
    console.width = 120  # a file or a pipe has no width; tables need one


def progress_bars() -> Progress:
    """Bars with the time left, gone when they are done; nothing at all where the output is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )
