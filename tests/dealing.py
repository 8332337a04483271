"""How `pytest -n` deals tests to its processes: a file whose tests share what takes seconds to make goes to one of
them whole, all other tests go singly to whichever is free."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling


class Dealing(LoadScopeScheduling):
    """The largest units go first: the files marked xdist_group, so that single tests even out the end.

    pytest-xdist 3.8 overlooks that mark with pytest 9.2, whose tests' ids it cannot change: so it is looked for in the
    files.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if _is_marked(self.config.rootpath / file) else nodeid


@cache
def _is_marked(file: Path) -> bool:
    return re.search(r"^pytestmark = .*xdist_group", file.read_text(encoding="utf-8"), re.MULTILINE) is not None
