"""AutoAttack with few iterations: where it matters who makes its attacks, when and on which points, and not what the
last iterations find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def with_few_iterations(standard_attacks: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`robustbench.standard_attacks`, of which each attack gives up soon."""

    def short(*given: Any) -> dict[str, Any]:
        attacks = standard_attacks(*given)
        for attack in attacks.values():
            attack.__self__.n_iter, attack.__self__.n_queries = 10, 50  # the latter is Square's
        return attacks

    return short
