"""Time functions in turn within one process, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

Times = dict[Any, list[float]]
"""Of each function, seconds per call in each round."""


def time_interleaved(
    functions: Mapping[Any, Callable[[], object]],
    *,
    seconds: float,
    fewest: int = 5,
    most: int = 25,
    warm_up: bool = True,
    round_s: float = 0.0,
    device: torch.device | None = None,
) -> Times:
    """Rounds in which every function is timed once; the order rotates from round to round.

    There are as many rounds as `seconds` allow, at least `fewest` and at most `most`. warm_up: one untimed call of each
    before. round_s: within a round a function is called as often as fills this time. device: waited for.
    """
    order = list(functions)
    for work in functions.values() if warm_up else ():
        work()
    calls = {name: _calls_in(round_s, functions[name], device) for name in order}
    times: Times = {name: [] for name in order}
    start = time.perf_counter()
    while len(times[order[0]]) < most and (len(times[order[0]]) < fewest or time.perf_counter() - start < seconds):
        for name in order:
            times[name].append(seconds_per_call(functions[name], calls[name], device))
        order = order[1:] + order[:1]
    return times


def _calls_in(round_s: float, function: Callable[[], object], device: torch.device | None) -> int:
    return max(1, round(round_s / seconds_per_call(function, 1, device))) if round_s else 1


def seconds_per_call(function: Callable[[], object], calls: int = 1, device: torch.device | None = None) -> float:
    synchronise(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    synchronise(device)
    return (time.perf_counter() - start) / calls


def synchronise(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def ratios(times: Times, numerator: Any, denominator: Any) -> list[float]:
    """One ratio per round: within a round the load is much the same."""
    return [a / b for a, b in zip(times[numerator], times[denominator], strict=True)]
