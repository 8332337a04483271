"""How `pytest -n` deals tests to its processes: a file whose tests share what takes seconds to make goes to one of
them, all other tests singly to whichever is free."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "test_extra.py",
    "test_program.py",
    "test_resume.py",
    "test_scale_out.py",
    "test_streaming.py",
    "test_sweep.py",
    "test_training.py",
}


class Dealing(LoadScopeScheduling):
    """The largest units go first: the files of TOGETHER, so that single tests even out the end.

    The mark xdist_group would say the same, but pytest-xdist 3.8 does not see it with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if PurePosixPath(file).name in TOGETHER else nodeid
