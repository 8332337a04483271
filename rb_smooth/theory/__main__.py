"""python -m rb_smooth.theory: what Kanai et al. (arXiv 2103.01400) prove, against numbers.

    python -m rb_smooth.theory                     every statement: its bound, what was measured, and where it breaks
    python -m rb_smooth.theory --only "Lemma 2"    one of them; may be repeated
    python -m rb_smooth.theory --seed 1            other random parameters
    python -m rb_smooth.theory --gamma 0.5         another gamma in Theorem 3 and Eq. (77)
    python -m rb_smooth.theory --figures figures   and the paper's figures of toy problems, into that folder
    python -m rb_smooth.theory --json              the same for programs
    python -m rb_smooth.theory --write docs/theory.md   the rows within a document, where it has a place for them

Each statement is tried on problems in which both of its sides can be computed, and is broken where one of its
assumptions is left out. The exit code is 1 if a statement does not hold, or does not break there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rb_smooth.commandline import program
from rb_smooth.console import console, remark
from rb_smooth.refusal import Failed, answering
from rb_smooth.theory.rows import Row
from rb_smooth.theory.statements import GAMMAS, STATEMENTS, examine
from rb_smooth.theory.table import table_of


def main() -> int:
    options = _parse()
    found = list(examine(options.only, options.seed, options.gamma))
    if options.json:
        console.print(json.dumps([{"statement": name} | row.as_dict() for name, row in found], indent=2))
    else:
        console.print(table_of(found), soft_wrap=False)
    if options.write is not None:
        from rb_smooth.theory.document import write_rows

        write_rows(found, options.write)
    if options.figures is not None:
        _draw(options.figures, quiet=options.json)
    _judge(found)
    return 0


def _parse() -> argparse.Namespace:
    parser = program("theory", __doc__)
    named = ", ".join(STATEMENTS)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"one statement: {named}")
    parser.add_argument("--seed", type=int, default=0, help="of the random parameters (default: 0)")
    low, high = GAMMAS
    parser.add_argument("--gamma", type=float, default=1.0, help=f"of EntropySGD, {low:g} to {high:g} (default: 1)")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the paper's toy figures into this folder")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the rows into a document's places for them")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.parse_args()


def _draw(folder: Path, quiet: bool) -> None:
    from rb_smooth.theory.figures import draw_all  # which costs matplotlib

    for path in draw_all(folder):
        if not quiet:
            remark(f"drawn: {path}")


def _judge(found: list[tuple[str, Row]]) -> None:
    """Raises Failed, naming them, if statements do not hold or do not break where they should."""
    faults = [f"{name}, {row.part} (does not hold)" for name, row in found if not row.holds]
    faults += [
        f"{name}, {row.part} (does not break)" for name, row in found if row.falsifier and not row.falsifier.breaks
    ]
    if faults:
        raise Failed(f"expected statements to hold, and to break beyond their assumptions, got {'; '.join(faults)}")


if __name__ == "__main__":
    sys.exit(answering(main)())
