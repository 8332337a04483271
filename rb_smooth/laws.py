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
    constructor, broken = find_component(options.box, options.name), 0
    for law in conformance.contract_checks(options.box):
        found = _violation(law, constructor)
        broken += found != ""
        console.print(f"{'BROKEN' if found else 'holds '} {law.__name__.replace('_', ' ')}{found and ': ' + found}")
    if broken:
        raise Failed(f"expected {options.box} {options.name} to obey every law, got {broken} broken; mend it")
    return 0


def _violation(law: conformance.Check, constructor: Callable[..., Any]) -> str:
    """What contradicts the law; empty if it holds. A method that raises obeys nothing."""
    try:
        law(constructor)
    except Exception as error:
        return " ".join(str(error).split()) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(run_cli(main)())
