"""Test every convolution kernel that oneDNN picks on this CPU against float64, in both memory layouts.

    python benchmarks/conv_layouts.py [--write benchmarks/conv-layouts.json] [--toy]

oneDNN's AVX2 kernel for 1x1 convolutions writes out of bounds (uxlfoundation/oneDNN issue 6035). This script finds for
which shapes: it compares output, input gradient and weight gradient of small convolutions with float64 in plain layout,
for 1 to 16, 20, 26 and 32 input channels, 8 and 9 pixels, kernels 1 and 3, strides 1 and 2, groups, 1 and 2 threads,
fp32 and bf16. Each set of cases runs in a child process with a timeout, under glibc's heap checker where the system
has it. If a child crashes or hangs, its cases run again in halves. The boundary found stands in
`rb_smooth.components.memory_format`.
It takes 11 minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CHANNELS = (*range(1, 17), 20, 26, 32)
OUT_CHANNELS = 16
SIZES = (8, 9)
"""Pixels of a side: with and without a remainder at stride 2."""
IMAGES, REPEATS, TIMEOUT_S = 64, 6, 120.0
TOLERANCE = {"fp32": 1e-5, "bf16": 4e-2}
"""Largest difference from float64, as a share of its largest entry."""
_HEAP_CHECKER = "libc_malloc_debug.so.0"


class Case(NamedTuple):
    """One convolution. groups: 0 for depthwise (as many groups as input channels)."""

    layout: str
    precision: str
    threads: int
    channels: int
    size: int
    kernel: int
    stride: int
    groups: int


def cases(channels: Sequence[int] = CHANNELS) -> Iterator[Case]:
    """Every combination that exists: two groups need an even number of channels."""
    layouts, precisions, threads = ("channels_last", "plain"), ("fp32", "bf16"), (1, 2)
    for case in itertools.product(layouts, precisions, threads, channels, SIZES, (1, 3), (1, 2), (1, 2, 0)):
        made = Case(*case)
        if not (made.groups == 2 and made.channels % 2) and not (made.groups == 0 and made.channels == 1):
            yield made


def errors(case: Case) -> dict[str, float]:
    """Largest error of output, input gradient and weight gradient over several repetitions, relative to float64."""
    groups = case.groups or case.channels
    out_channels = case.channels if case.groups == 0 else OUT_CHANNELS
    torch.manual_seed(0)
    options = {"stride": case.stride, "padding": case.kernel // 2, "groups": groups, "bias": False}
    reference = nn.Conv2d(case.channels, out_channels, case.kernel, **options, dtype=torch.float64)
    x = torch.rand(IMAGES, case.channels, case.size, case.size, dtype=torch.float64)
    shape = reference(x[:1]).shape[1:]
    g = torch.randn(IMAGES, *shape, dtype=torch.float64)
    expected = _pass(reference, x, g)
    kind = torch.float32 if case.precision == "fp32" else torch.bfloat16
    layout = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    found = {"output": 0.0, "input gradient": 0.0, "weight gradient": 0.0}
    for _ in range(REPEATS):
        tested = nn.Conv2d(case.channels, out_channels, case.kernel, **options).to(kind)
        tested.load_state_dict(reference.state_dict())
        tested.to(memory_format=layout)
        results = _pass(tested, x.to(kind).to(memory_format=layout), g.to(kind).to(memory_format=layout))
        for name, result, wanted in zip(found, results, expected, strict=True):
            found[name] = max(found[name], ((result.double() - wanted).abs().max() / wanted.abs().max()).item())
    return found


def _pass(conv: nn.Conv2d, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = conv(x)
    grad_x, grad_w = torch.autograd.grad(out, [x, conv.weight], g)
    return out.detach(), grad_x, grad_w


def run_child(chosen: Sequence[Case]) -> tuple[list[dict[str, Any]], str]:
    """Results of the cases that finished, and how the child ended: "" if all is well."""
    environment = os.environ | _heap_checker() | {"OMP_NUM_THREADS": str(chosen[0].threads)}
    command = [sys.executable, __file__, "--cases", json.dumps(chosen)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        output, end = done.stdout, "" if done.returncode == 0 else f"signal {-done.returncode}"
        if done.returncode > 0:
            raise RuntimeError(done.stderr)
    except subprocess.TimeoutExpired as error:
        output, end = (error.stdout or b"").decode(), f"no answer in {TIMEOUT_S:.0f} s"
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")], end


def run_split(chosen: Sequence[Case]) -> list[dict[str, Any]]:
    """One row for each case. Halves that crash are split further: damage to the heap can show in a later case."""
    results, end = run_child(chosen)
    if not end:
        return results
    if len(chosen) == 1:
        return [{"case": chosen[0]._asdict(), "end": end}]
    middle = len(chosen) // 2
    return run_split(chosen[:middle]) + run_split(chosen[middle:])


def _heap_checker() -> dict[str, str]:
    """glibc's checker aborts where a kernel has written beyond its memory."""
    probe = subprocess.run(["true"], env=os.environ | {"LD_PRELOAD": _HEAP_CHECKER}, capture_output=True, text=True)
    if sys.platform != "linux" or probe.stderr:
        return {}
    return {"LD_PRELOAD": _HEAP_CHECKER, "GLIBC_TUNABLES": "glibc.malloc.check=3"}


def measure(channels: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each case: its errors, or how it crashed."""
    rows = []
    for _, group in itertools.groupby(cases(channels), key=lambda case: case[:3]):
        chosen = list(group)
        results = run_split(chosen)
        rows += results
        print(f"{chosen[0][:3]}: {sum(is_wrong(row) for row in results)} of {len(results)} wrong", flush=True)
    return rows


def is_wrong(row: dict[str, Any]) -> bool:
    limit = TOLERANCE[row["case"]["precision"]]
    return "end" in row or not all(error <= limit for error in row["errors"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--toy", action="store_true", help="four numbers of channels only")
    parser.add_argument("--cases", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cases:
        for case in [Case(*each) for each in json.loads(options.cases)]:
            torch.set_num_threads(case.threads)
            print(json.dumps({"case": case._asdict(), "errors": errors(case)}), flush=True)
        return
    from speed import machine_kind

    from rb_smooth.components import memory_format
    from rb_smooth.core import files, robustbench
    from rb_smooth.core.environment import git_commit

    rows = measure((1, 4, 6, 7) if options.toy else CHANNELS)
    wrong = [row for row in rows if is_wrong(row)]
    print(f"{len(wrong)} of {len(rows)} cases wrong, on {memory_format.instruction_set()}")
    if options.write:
        about = {
            "command": "python benchmarks/conv_layouts.py",
            "commit": git_commit(),
            "versions": robustbench.package_versions(),
        }
        about |= {"machine": machine_kind(), "instruction_set": memory_format.instruction_set()}
        files.write_json(options.write, about | {"cases": len(rows), "tolerance": TOLERANCE, "wrong": wrong})


if __name__ == "__main__":
    main()
