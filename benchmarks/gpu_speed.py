"""Time of a training step on a GPU: the steps of `gpu_steps`, timed in interleaved rounds in one process."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from bare_passes import BarePasses
from benchmark_runs import first_minibatch
from gpu_steps import COMPARED_AS, METHODS, Cell, StepFunction, authors_step, make_trainer, training_steps
from interleaved_timing import ratios, seconds_per_call, synchronise, time_interleaved

from rb_smooth.core.errors import first_line
from rb_smooth.data.splits import DataSplits
from rb_smooth.training.trainer import Trainer

EPOCH = 49_000
"""Images of an epoch of CIFAR-10, of which 1,000 are held out."""

_WARM_UP = 3
"""Steps; CUDA graphs are recorded in the second."""


def measure_cell(cell: Cell, data: DataSplits, device: torch.device) -> dict[str, Any]:
    """Times of all methods of one cell, ratios within rounds, and each goal with the value found."""
    _allow_many_programs()
    peak = _peak_flop_per_s(device)
    trainers = {method: make_trainer(cell, method, data, device) for method in METHODS}
    compiled: dict[str, Trainer] = {}
    if cell.without_graphs:
        compiled = {method: make_trainer(cell, method, data, device, "train.compile=true") for method in METHODS}
    ways: dict[tuple[str, str], StepFunction] = {}
    for method, trainer in trainers.items():
        ways[method, "ours"] = training_steps(trainer)
        if method in compiled:
            ways[method, "compiled"] = training_steps(compiled[method])
        same = COMPARED_AS.get(method)
        ways[method, "floor"] = ways[same, "floor"] if same else BarePasses(trainer, *first_minibatch(trainer))
        ways[method, "authors"] = ways[same, "authors"] if same else authors_step(trainer, method)
    warm_up_s, failed = _warm_up(ways, device)
    waits = {method: _sync_warning(ways[method, "ours"], device) for method in METHODS}
    memory = {method: _memory(trainers[method], ways[method, "ours"], device) for method in METHODS}
    times = time_interleaved(
        {run: run for run in ways.values()},
        seconds=0,
        fewest=cell.rounds,
        warm_up=False,
        round_s=cell.round_s,
        device=device,
    )

    def ratio(one: tuple[str, str], other: tuple[str, str]) -> dict[str, Any] | None:
        if not {one, other} <= ways.keys():
            return None
        return spread(ratios(times, ways[one], ways[other]))

    methods: dict[str, Any] = {}
    for method in METHODS:
        step_s = statistics.median(times[ways[method, "ours"]])
        trainer = trainers[method]
        flop = cell.batch_size * BarePasses(trainer, *first_minibatch(trainer)).flop_per_image()
        methods[method] = {
            "step_s": {way: spread(times[run]) for (of, way), run in ways.items() if of == method},
            "images_per_s": cell.batch_size / step_s,
            "epoch_s": EPOCH // cell.batch_size * step_s,
            "ours_over_floor": ratio((method, "ours"), (method, "floor")),
            "authors_over_ours": ratio((method, "authors"), (method, "ours")),
            "compiled_over_ours": ratio((method, "compiled"), (method, "ours")),
            "step_flop": flop,
            "share_of_peak": flop / step_s / peak,
            "over_at": ratio((method, "ours"), ("at", "ours")),
            "warm_up_s": {way: warm_up_s[run] for (of, way), run in ways.items() if of == method},
            "memory_in_weights": memory[method],
            "waits": waits[method],
        }
    return {
        "precision": trainers["at"].precision,
        "compiled": {  # False where compiling failed, and training went on without
            "ours": {method: trainer.compiled for method, trainer in trainers.items()},
            "compiled": {method: trainer.compiled for method, trainer in compiled.items()},
        },
        "tf32": {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32},
        "bf16_peak_flop_per_s": peak,
        "failed": failed,
        "methods": methods,
        "goals": _goals(methods, cell),
    }


def spread(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def _warm_up(
    ways: dict[tuple[str, str], StepFunction], device: torch.device
) -> tuple[dict[StepFunction, float], dict[str, str]]:
    """Seconds of the first steps of each way, compilation included; ways that fail are removed, with the reason."""
    seconds: dict[StepFunction, float] = {}
    failed: dict[str, str] = {}
    for (method, way), run in list(ways.items()):
        if run in seconds:
            continue
        try:
            seconds[run] = _WARM_UP * seconds_per_call(run, _WARM_UP, device)
        except Exception as error:
            if way != "compiled":  # the only one that is not a default
                raise
            failed[f"{method} {way}"] = f"{type(error).__name__}: {first_line(error)}"
            del ways[method, way]
    return seconds, failed


def _sync_warning(step: StepFunction, device: torch.device) -> str | None:
    """torch's message about the first operation in a step that waits for the GPU; None if nothing waits."""
    if device.type != "cuda":
        return "not seen without a GPU"
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return first_line(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def _memory(trainer: Trainer, step: StepFunction, device: torch.device) -> float | None:
    """Peak memory of two steps above what is held between them, in copies of the weights."""
    if device.type != "cuda":
        return None
    synchronise(device)
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    step()
    synchronise(device)
    of_weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return (torch.cuda.max_memory_allocated(device) - held) / of_weights


def _peak_flop_per_s(device: torch.device) -> float:
    """The best of five bfloat16 matrix products that are large enough to fill the GPU."""
    n, calls = (8192, 20) if device.type == "cuda" else (256, 2)
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    torch.mm(a, a)
    return max(2 * n**3 / seconds_per_call(lambda: torch.mm(a, a), calls, device) for _ in range(5))


def _allow_many_programs() -> None:
    """Five methods in two forms compile one network more often than torch's default limit."""
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64


def _goals(methods: dict[str, Any], cell: Cell) -> dict[str, dict[str, Any]]:
    """Each goal with the value found; None where the cell or the device does not show it."""
    at = {name: methods[name]["over_at"]["median"] for name in ("at+ensgd", "at+awp")}
    memory = [methods[name]["memory_in_weights"] for name in ("at", "at+awp")]
    large = cell.batch_size >= 512
    found = {
        "authors over ours, least": (">=", 5.0, min(each["authors_over_ours"]["median"] for each in methods.values())),
        "share of peak, at": (">=", 0.25, methods["at"]["share_of_peak"] if large else None),
        "EntropySGD over SGD": ("<=", 1.03, at["at+ensgd"]),
        "AWP over none": ("<=", 1.10, at["at+awp"]),
        "AWP's memory in weights": ("<=", 1.0, None if None in memory else memory[1] - memory[0]),
    }
    return {
        what: {"goal": f"{sign} {goal}", "found": value, "met": _is_reached(sign, goal, value)}
        for what, (sign, goal, value) in found.items()
    }


def _is_reached(sign: str, goal: float, value: float | None) -> bool | None:
    if value is None:
        return None
    return value >= goal if sign == ">=" else value <= goal
