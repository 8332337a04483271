"""Killed with SIGKILL at random moments, a run must end as if it had not been: python tests/stress/kill.py --moments 50

For every optimizer and perturbation one run is trained to the end, undisturbed. Then, again and again, the same run
is killed at a random moment and started again, until it ends. The state is saved after every minibatch, every other
time on a disk made slow, so that many moments fall into the writing of it. Best and last weights and the log, but for
the columns of time, must be the same bit for bit. The last line counts the runs; the exit code is 1 if any differs.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch._dynamo  # as the next: what the first optimizer imports, here once, and not in every process
import torch.utils.tensorboard

from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import DataSplits, split
from rb_smooth.training import loop, validate
from rb_smooth.training.run_folder import reporting
from rb_smooth.training.run_folder.run import Run

METHODS = ["".join(parts) for parts in itertools.product(["at"], ["", "+awp"], ["", "+ensgd", "+ensgd2"], ["+wa"])]
TINY = ["model.width=2", "objective.steps=1", "data.batch_size=32", "data.validation=60", "train.recalibrate=2"]
SHORT = ["train.epochs=3", "schedule.drops=[2]"]
TIMED = {"seconds", "images_per_s"}


def train(method: str, path: Path, data: DataSplits) -> None:
    chain = ["optimizer.inner_steps=2"] if "ensgd" in method else []
    recipe = validate.check_recipe(*resolve_config("digits", method, [*TINY, *SHORT, *chain]))
    run = Run(path)
    with run.locked():
        if not run.is_trained:
            loop.train(recipe, run, data, torch.device("cpu"), saved_every_s=0)


def child(method: str, path: Path, data: DataSplits, slow_disk: bool = False) -> int:
    """A process of its own that trains: its id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            if slow_disk:
                reach_disk = os.fsync
                os.fsync = lambda file: (time.sleep(0.05), reach_disk(file))[1]
            with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
                train(method, path, data)
            code = 0
        finally:
            os._exit(code)
    return process


def kill(method: str, path: Path, data: DataSplits, moments: random.Random, longest: float, slow_disk: bool) -> None:
    """Start a run and kill it at a random moment; again, if it had ended before."""
    while True:
        process = child(method, path, data, slow_disk)
        time.sleep(moments.uniform(0, longest))
        os.kill(process, signal.SIGKILL)
        if not ended(process):
            return
        shutil.rmtree(path)


def ended(process: int) -> bool:
    """Waits for it; whether it came to its own good end."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run ended with {code}, not with success or by being killed")
    return code == 0


def outcome(path: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    run = Run(path)
    weights = {f"{name}.{key}": value for name in ("best", "last") for key, value in run.load(name).items()}
    rows = csv.DictReader((path / "log.csv").open())
    return weights, [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


def equal_tree(one: Path, other: Path) -> bool:
    (weights, rows), (others, other_rows) = outcome(one), outcome(other)
    return rows == other_rows and all(torch.equal(weights[key], others[key]) for key in weights)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50, help="how often a run is killed (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reporting.draw_curves = lambda logs, path: None  # or half of the moments would fall into the picture
    moments = random.Random(options.seed)
    data = split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)
    identical = while_saving = 0
    with tempfile.TemporaryDirectory() as scratch:
        whole: dict[tuple[str, bool], tuple[Path, float]] = {}
        for trial in range(options.moments):
            method, slow_disk = METHODS[trial % len(METHODS)], trial // len(METHODS) % 2 == 1
            if (method, slow_disk) not in whole:
                start, path = time.monotonic(), Path(scratch, f"{method}-{slow_disk}")
                assert ended(child(method, path, data, slow_disk))
                whole[method, slow_disk] = path, time.monotonic() - start
            reference, duration = whole[method, slow_disk]
            path = Path(scratch, f"killed-{trial}")
            kill(method, path, data, moments, duration, slow_disk)
            while_saving += any(path.glob(".*.pt.*")) or (path / "resume-new.pt").exists()
            assert ended(child(method, path, data))
            identical += equal_tree(reference, path)
            if not equal_tree(reference, path):
                print(f"differs: {method}, moment {trial}", file=sys.stderr)
    print(f"{while_saving} of {options.moments} killed while they wrote weights or state")
    print(f"{identical} of {options.moments} identical")
    return int(identical < options.moments)


if __name__ == "__main__":
    sys.exit(main())
