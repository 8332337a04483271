"""python -m rb_smooth.theory: check the statements of Kanai et al. (arXiv 2103.01400) numerically.

    python -m rb_smooth.theory                     every statement: bound, measured value, counterexample
    python -m rb_smooth.theory --only "Lemma 2"    one statement; repeatable
    python -m rb_smooth.theory --seed 1            other random parameters
    python -m rb_smooth.theory --gamma 0.5         another gamma in Theorem 3 and Eq. (77)
    python -m rb_smooth.theory --figures figures   also draw the paper's toy figures into that folder
    python -m rb_smooth.theory --json              the results as JSON

Each statement is checked on problems where both of its sides can be computed, and a counterexample violates one of its
assumptions. The exit code is 1 if a statement does not hold, or its counterexample does not break it.
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
from rb_smooth.analysis.theory.results import BoundCheck, results_table
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console, log_info
from rb_smooth.core.errors import Failed, UserError, did_you_mean
from rb_smooth.core.numbers import real_number, seed_number

STATEMENTS: dict[str, Callable[[np.random.Generator, float], Iterator[BoundCheck]]] = {
    "Prop. 1": lambda rng, _: linear_statements.proposition_1(rng),
    "Eq. (13)": lambda rng, _: linear_statements.equation_13(rng),
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
"""In the paper's order. Arguments: random numbers and EntropySGD's gamma."""

GAMMA_RANGE = (0.1, 10.0)
"""Smallest and largest gamma; others would need another quadrature grid."""


def check_statements(names: Iterable[str], seed: int, gamma: float) -> Iterator[tuple[str, BoundCheck]]:
    """Yield (statement, check) for the statements in `names`, or for all if it is empty, in the paper's order.

    A statement's random numbers depend only on `seed` and its name. Raises UserError for an unknown name, a negative
    seed, and a gamma outside GAMMA_RANGE.
    """
    names = list(names) or list(STATEMENTS)
    for name in names:
        if name not in STATEMENTS:
            raise UserError(f"expected a statement, {did_you_mean(name, STATEMENTS)}")
    if seed < 0:
        raise UserError(f"expected seed >= 0, got {seed}; raise it")
    low, high = GAMMA_RANGE
    if not low <= gamma <= high:
        raise UserError(f"expected gamma between {low:g} and {high:g}, got {gamma:g}; correct it")
    for name, check in STATEMENTS.items():
        if name in names:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            yield from ((name, row) for row in check(rng, gamma))


def main() -> int:
    options = _parse()
    results = list(check_statements(options.only, options.seed, options.gamma))
    if options.json:
        console.print(json.dumps([{"statement": name} | row.as_dict() for name, row in results], indent=2))
    else:
        console.print(results_table(results), soft_wrap=False)
    if options.figures is not None:
        from rb_smooth.analysis.theory.figures import draw_all  # imports matplotlib

        for path in draw_all(options.figures):
            if not options.json:
                log_info(f"drawn: {path}")
    _require_expected(results)
    return 0


def _parse() -> argparse.Namespace:
    parser = make_parser("theory", __doc__)
    names = ", ".join(STATEMENTS)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"one statement: {names}")
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the random parameters (default: 0)")
    low, high = GAMMA_RANGE
    parser.add_argument(
        "--gamma",
        type=real_number(low, high),
        default=1.0,
        help=f"gamma of EntropySGD, {low:g} to {high:g} (default: 1)",
    )
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the paper's toy figures into this folder")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args()


def _require_expected(results: list[tuple[str, BoundCheck]]) -> None:
    """Raise Failed with the statements that do not hold, or whose counterexample does not break them."""
    faults = [f"{name}, {row.part} (does not hold)" for name, row in results if not row.holds]
    faults += [
        f"{name}, {row.part} (counterexample does not break it)"
        for name, row in results
        if row.counterexample and not row.counterexample.breaks
    ]
    if faults:
        raise Failed(f"expected every statement to hold and every counterexample to break one, got {'; '.join(faults)}")


if __name__ == "__main__":
    sys.exit(run_cli(main)())
