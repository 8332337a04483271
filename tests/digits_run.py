"""One finished run of digits, made once for all test processes: small, but trained, attacked and entered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from run_program import run_program

from rb_smooth import recipe

SETTINGS = ("data.train_examples=256", "objective.steps=2", "model.width=4", "evaluate.batch_size=12")
QUICK = ["--epochs=2", "--n-examples=24", *(f"--set={setting}" for setting in SETTINGS)]


def digits_run(factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/ and leaderboard/ of `recipe digits at`. It is to be copied, not changed."""
    return make_once(factory, "digits-run", lambda: run_program(recipe.main, "digits", "at", *QUICK))


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], object]) -> Path:
    """The folder `name`, in which one of the processes of pytest -n has called `make`; the others wait for it."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = place.with_suffix(".made")
    with FileLock(place.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(place, ignore_errors=True)  # of one that failed
            place.mkdir()
            before = Path.cwd()
            os.chdir(place)
            try:
                assert not make()
            finally:
                os.chdir(before)
            made.touch()
    return place
