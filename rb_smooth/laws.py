"""python -m rb_smooth.laws perturbation sam: check a method against the contract of its kind.

The exit code is 1 if a check fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rb_smooth.components import conformance
from rb_smooth.config.registry import find_component
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console
from rb_smooth.core.errors import Failed


def main() -> int:
    parser = make_parser("laws", __doc__)
    parser.add_argument("box", choices=conformance.METHOD_KINDS)
    parser.add_argument("name", help="as in a recipe")
    options = parser.parse_args()
    constructor, failed = find_component(options.box, options.name), 0
    checks = conformance.contract_checks(options.box)
    for check in checks:
        reason = _failure(check, constructor)
        failed += reason != ""
        console.print(
            f"{'BROKEN' if reason else 'holds '} {check.__name__.replace('_', ' ')}{reason and ': ' + reason}"
        )
    if failed:
        raise Failed(f"{failed} of {len(checks)} checks of {options.box} {options.name} failed (marked BROKEN above)")
    return 0


def _failure(check: conformance.Check, constructor: Callable[..., Any]) -> str:
    """Why the check fails; empty if it passes. An exception of the method fails it."""
    try:
        check(constructor)
    except Exception as error:
        return " ".join(str(error).split()) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(run_cli(main)())
