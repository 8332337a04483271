"""Console output: lines, progress bars, and rendering to text."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rb_smooth.core import environment

IN_NOTEBOOK = Console().is_jupyter
_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "force_jupyter": False}
"""In a notebook, rich would display HTML and write nothing to the console's file."""

console = Console(
    soft_wrap=True,
    quiet=environment.RANK > 0,  # only rank 0 prints
    force_terminal=False if IN_NOTEBOOK else None,  # Jupyter sets FORCE_COLOR, which rich takes for a terminal
    **_PLAIN,
)
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
    """Progress bars with the remaining time, removed on completion; only in a terminal or a notebook."""
    return (_NotebookProgress if IN_NOTEBOOK else Progress)(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=is_quiet() or not (console.is_terminal or IN_NOTEBOOK),
    )


class _NotebookProgress(Progress):
    """Progress bars as one output of a notebook's cell, replaced at most twice a second. Needs no ipywidgets.

    rich's own bars in notebooks hold back lines that are printed meanwhile.
    """

    _shown: Any = None
    _next = 0.0

    def start(self) -> None:
        from IPython.display import DisplayHandle

        if not self.disable:
            self._shown = DisplayHandle()
            self._shown.display(_as_output(""), raw=True)

    def stop(self) -> None:
        if self._shown is not None:
            self._shown.update(_as_output(""), raw=True)
            self._shown = None

    def refresh(self) -> None:
        if self._shown is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.5
            self._shown.update(_as_output(render_text([self.get_renderable()])), raw=True)

    def update(self, *given: Any, **changed: Any) -> None:
        super().update(*given, **changed)
        self.refresh()

    def advance(self, *given: Any) -> None:
        super().advance(*given)
        self.refresh()


def _as_output(text: str) -> dict[str, str]:
    return {"text/plain": text}


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
    sheet = Console(file=io.StringIO(), width=120, force_terminal=False, **_PLAIN)
    for each in lines:
        sheet.print(each, soft_wrap=isinstance(each, str) and not wrapped)
    return "\n".join(line.rstrip() for line in sheet.file.getvalue().splitlines())  # type: ignore[attr-defined]
