"""What a run shows of itself while it trains: curves.png, and scalars for TensorBoard. Neither ever ends a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rb_smooth.console import console
from rb_smooth.curves import draw_curves
from rb_smooth.logs import Row
from rb_smooth.run_folder import Run
from rb_smooth.scalars import Scalars

DRAWN_EVERY_S = 30.0
"""Seconds between two drawings, of which each costs about half a second."""


class Reports:
    """Of one process that trains `run`, as a context: however training ends, its curves show every epoch finished."""

    def __init__(self, run: Run, epochs: int) -> None:
        self.run, self.epochs = run, epochs
        self.scalars = Scalars(run.path / "tensorboard")
        self.rows: Sequence[Row] = ()
        self.drawn, self.drawn_at = 0, time.monotonic()
        self._failed: set[str] = set()

    def update(self, rows: Sequence[Row]) -> None:
        """To be called with the whole log after every epoch, and when a run is taken up again."""
        self.rows = list(rows)
        self._attempt("tensorboard/", lambda: self.scalars.write(self.rows))
        if len(rows) == self.epochs or time.monotonic() - self.drawn_at > DRAWN_EVERY_S:
            self._draw()

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return  # a second Ctrl-C waits for no picture
        if self.drawn < len(self.rows):
            self._draw()
        self._attempt("tensorboard/", self.scalars.close)

    def _draw(self) -> None:
        path = self.run.path
        name = f"{path.parent.name}/{path.name}"
        self._attempt("curves.png", lambda: draw_curves({name: self.rows}, path / "curves.png"))
        self.drawn, self.drawn_at = len(self.rows), time.monotonic()

    def _attempt(self, what: str, write: Callable[[], None]) -> None:
        """Whatever fails is said once, and not attempted again."""
        if what in self._failed:
            return
        try:
            write()
        except Exception as error:
            self._failed.add(what)
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            console.print(f"not written: {self.run.path / what} ({cause}); training does without")
