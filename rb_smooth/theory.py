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
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from rb_smooth.analysis.theory import implicit_statements, linear_statements, smoothing_statements
from rb_smooth.analysis.theory.results import BoundCheck
from rb_smooth.analysis.theory.tables import results_table
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console, log_info
from rb_smooth.core.errors import Failed, UserError, did_you_mean

STATEMENTS: dict[str, Callable[[np.random.Generator, float], list[BoundCheck]]] = {
    "Prop. 1": lambda rng, _: linear_statements.proposition_1(rng),
    "Lemma 1": lambda rng, _: implicit_statements.lemma_1(rng),
    "Lemma 2": lambda rng, _: linear_statements.lemma_2(rng),
    "Theorem 1": lambda rng, _: linear_statements.theorem_1(rng),
    "Lemma 3": lambda rng, _: linear_statements.lemma_3(rng),
    "Theorem 2": lambda rng, _: linear_statements.theorem_2(rng),
    "Lemma 4": lambda rng, _: implicit_statements.lemma_4(rng),
    "Lemma 5": lambda rng, _: implicit_statements.lemma_5(rng),
    "Theorem 3": smoothing_statements.theorem_3,
    "Eq. (77)": smoothing_statements.equation_77,
}
"""In the paper's order. Each takes random numbers and EntropySGD's gamma."""

GAMMAS = (0.1, 10.0)
"""Between which gamma may be: for others the integrals would need another grid."""


def check_statements(names: Iterable[str], seed: int, gamma: float) -> Iterator[tuple[str, BoundCheck]]:
    """(statement, row) of each named statement, all if none is, in the paper's order.

    A statement's random numbers depend on `seed` and its name alone. Raises UserError for an unknown name, a
    negative seed, and a gamma outside GAMMAS.
    """
    names = list(names) or list(STATEMENTS)
    for name in names:
        if name not in STATEMENTS:
            raise UserError(f"expected a statement, {did_you_mean(name, STATEMENTS)}")
    if seed < 0:
        raise UserError(f"expected seed >= 0, got {seed}; choose another")
    low, high = GAMMAS
    if not gamma > 0:
        raise UserError(f"expected gamma > 0, got {gamma:g}; enlarge it")
    if not low <= gamma <= high:
        raise UserError(f"expected gamma between {low:g} and {high:g}, got {gamma:g}; choose one in between")
    for name, rows_of in STATEMENTS.items():
        if name in names:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            yield from ((name, row) for row in rows_of(rng, gamma))


def main() -> int:
    options = _parse()
    found = list(check_statements(options.only, options.seed, options.gamma))
    if options.json:
        console.print(json.dumps([{"statement": name} | row.as_dict() for name, row in found], indent=2))
    else:
        console.print(results_table(found), soft_wrap=False)
    if options.write is not None:
        from rb_smooth.analysis.theory.tables import write_results

        write_results(found, options.write)
    if options.figures is not None:
        _draw(options.figures, quiet=options.json)
    _check_results(found)
    return 0


def _parse() -> argparse.Namespace:
    parser = make_parser("theory", __doc__)
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
    from rb_smooth.analysis.theory.figures import draw_all  # which costs matplotlib

    for path in draw_all(folder):
        if not quiet:
            log_info(f"drawn: {path}")


def _check_results(results: list[tuple[str, BoundCheck]]) -> None:
    """Raises Failed, naming them, if statements do not hold or do not break where they should."""
    faults = [f"{name}, {row.part} (does not hold)" for name, row in results if not row.holds]
    faults += [
        f"{name}, {row.part} (does not break)" for name, row in results if row.falsifier and not row.falsifier.breaks
    ]
    if faults:
        raise Failed(f"expected statements to hold, and to break beyond their assumptions, got {'; '.join(faults)}")


if __name__ == "__main__":
    sys.exit(run_cli(main)())
