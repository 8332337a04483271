"""Contenders timed in turn in one process, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Times = dict[str, list[float]]
"""Of each contender, seconds per round."""


def time_interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    fewest: int = 5,
    most: int = 25,
    warm_up: bool = True,
) -> Times:
    """Rounds in which every contender works once; who begins changes from round to round.

    There are as many rounds as `seconds` allow, but at least `fewest` and at most `most`. With `warm_up` one goes
    before, untimed: libraries load and memory is found.
    """
    order = list(functions)
    times: Times = {name: [] for name in order}
    for work in functions.values() if warm_up else ():
        work()
    start = time.perf_counter()
    while len(times[order[0]]) < most and (len(times[order[0]]) < fewest or time.perf_counter() - start < seconds):
        for name in order:
            begun = time.perf_counter()
            functions[name]()
            times[name].append(time.perf_counter() - begun)
        order = order[1:] + order[:1]
    return times


def ratios(times: Times, numerator: str, denominator: str) -> list[float]:
    """One ratio per round: within a round the machine was much the same."""
    return [a / b for a, b in zip(times[numerator], times[denominator], strict=True)]
