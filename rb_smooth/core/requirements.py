"""Check that the packages which every program imports are installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from rb_smooth.core.errors import USER_ERROR

_PACKAGES = {"rich": "rich", "yaml": "pyyaml", "filelock": "filelock", "numpy": "numpy", "scipy": "scipy"}
"""What the programs import before they can check an installation, and the packages that have it."""


def require_packages() -> None:
    """Raise ModuleNotFoundError if a package is missing; `python -m rb_smooth.…` prints the line and exits."""
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if not missing:
        return
    message = (
        f"expected the packages of rb_smooth in {sys.executable}, got none of the name {missing[0]}; "
        "start .venv/bin/python, which `make demo` sets up, or install with `pip install .`"
    )
    if sys.argv[:1] == ["-m"]:  # while Python looks for the program
        print(f"rb_smooth: {message}", file=sys.stderr)
        raise SystemExit(USER_ERROR)
    raise ModuleNotFoundError(message)
