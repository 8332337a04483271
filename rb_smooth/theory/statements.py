"""The statements by name, and the rows that each comes to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from rb_smooth.refusal import Refused, nearest
from rb_smooth.theory import implicit_statements, linear_statements, smoothing_statements
from rb_smooth.theory.rows import Row

STATEMENTS: dict[str, Callable[[np.random.Generator, float], list[Row]]] = {
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


def examine(names: Iterable[str], seed: int, gamma: float) -> Iterator[tuple[str, Row]]:
    """(statement, row) of each named statement, all if none is, in the paper's order.

    A statement's random numbers depend on `seed` and its name alone. Raises Refused for an unknown name, a
    negative seed, and a gamma outside GAMMAS.
    """
    names = list(names) or list(STATEMENTS)
    for name in names:
        if name not in STATEMENTS:
            raise Refused(f"expected a statement, {nearest(name, STATEMENTS)}")
    if seed < 0:
        raise Refused(f"expected seed >= 0, got {seed}; choose another")
    low, high = GAMMAS
    if not gamma > 0:
        raise Refused(f"expected gamma > 0, got {gamma:g}; enlarge it")
    if not low <= gamma <= high:
        raise Refused(f"expected gamma between {low:g} and {high:g}, got {gamma:g}; choose one in between")
    for name, rows_of in STATEMENTS.items():
        if name in names:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            yield from ((name, row) for row in rows_of(rng, gamma))
