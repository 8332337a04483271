"""Each method with each seed, as processes of their own, and then one table of them all: a paper's, in one command."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rb_smooth.config.sections import Sections, digest_of
from rb_smooth.core import environment, files, robustbench
from rb_smooth.core.console import console, remark
from rb_smooth.core.environment import commit
from rb_smooth.core.errors import Failed, Refused
from rb_smooth.training.run_folder.run import Run, place
from rb_smooth.training.sweep.comparison import Result, groups
from rb_smooth.training.sweep.job_queue import Failure, Job, work_off
from rb_smooth.training.sweep.tables import drawn

_OWN_OPTIONS = {"what", "seed", "seeds", "gpus", "workers", "device", "plan", "json"}
"""Those that its processes are not given, or are given in another form."""

_NOT_OF_THE_SHAPE = {
    *("batch_size", "augment", "standardise", "extra", "validation", "split_seed", "train_examples"),
    *("stream", "workers"),
}
"""Keys of `data` on which no image's shape depends; others are a data set's own options."""


@dataclass(frozen=True, eq=False)
class Member:
    """A run of the sweep. what: the words that name it on a command line; options: those of the whole command;
    is_entered: whether a run stands on a leaderboard.
    """

    what: tuple[str, ...]
    dataset: str
    method: str
    sections: Sections
    options: argparse.Namespace
    is_entered: Callable[[Run, Path], bool]

    @property
    def seed(self) -> Any:
        return self.sections["train"]["seed"]

    @cached_property
    def run(self) -> Run:
        return place(self.options.runs, self.dataset, self.method, self.sections)

    @property
    def job(self) -> Job:
        command = (sys.executable, "-m", "rb_smooth.recipe", *self.what, f"--seed={self.seed}")
        name, command = f"{self.method}, seed {self.seed}", (*command, *_passed_on(self.options))
        return Job(name, self.run, command, self.is_done, self.network)

    @property
    def network(self) -> str:
        """The same for runs that compute the same layers on images of the same shape."""
        data = {key: value for key, value in self.sections["data"].items() if key not in _NOT_OF_THE_SHAPE}
        return digest_of([data, self.sections["model"]])

    def is_done(self) -> bool:
        """Whether no process is needed any more. Costs no torch. What is damaged is left to a process to name."""
        if self.options.fresh:
            return False
        try:
            finished = self.run.is_finished(self.sections)
            return finished and (self.options.no_submit or self.is_entered(self.run, self.options.leaderboard))
        except Refused:
            return False

    def result(self) -> Result | None:
        """What was measured, if it was."""
        try:
            score = self.run.score if self.run.is_finished(self.sections) else None
        except Refused:
            return None
        return None if score is None else Result(self.method, self.seed, score)


def carry_out_all(members: Sequence[Member], options: argparse.Namespace) -> Path | None:
    """Whatever the runs still lack, then their table. Finished ones cost no process, and no torch if all are.

    Returns the file of every figure, if there are any.
    Raises Failed, or Refused if the user can mend them all, when some runs failed; the others are not touched by it.
    """
    _check_distinct(members)
    ahead = [member for member in members if options.plan or not member.is_done()]
    failures: list[Failure] = []
    if ahead:
        _check(ahead)
        devices = choose_devices(options.gpus, options.workers, options.device)[: len(ahead)]
        if options.plan:
            _plan(members, devices)
            return None
        remark(f"{len(ahead)} of {len(members)} runs ahead, {len(devices)} at a time")
        failures = work_off([member.job for member in ahead], devices, _threads(len(devices)))
    record = _report(members, failures, options, anew=bool(ahead))
    if failures:
        first, more = failures[0], f"; {len(failures) - 1} more above" if len(failures) > 1 else ""
        line = (
            f"{len(failures)} of {len(members)} runs failed ({first.job.name}: {first.line}{more}); mend what their "
            "output.txt tell, and the same command goes on from there"
        )
        raise Refused(line) if all(failure.refused for failure in failures) else Failed(line)
    return record


def choose_devices(gpus: Sequence[int] | None, workers: int | None, device: str) -> list[str]:
    """The device of each worker: the GPUs asked for, or `workers` dealt over what there is, or one for every GPU."""
    import torch

    there = torch.cuda.device_count()
    if gpus is not None:
        if workers is not None or device != "auto":
            other = "--device" if workers is None else "--workers"
            raise Refused(f"expected --gpus or {other}, got both; drop one")
        if absent := [gpu for gpu in gpus if gpu >= there]:
            has = f"{there} GPUs, from 0" if there else "no GPU: use --workers"
            raise Refused(f"expected GPUs that this machine has, got {absent[0]}; it has {has}")
        return [f"cuda:{gpu}" for gpu in gpus]
    if device != "auto":
        from rb_smooth.training.validate import existing_device

        existing_device(device)
    devices = [device] if device != "auto" else [f"cuda:{gpu}" for gpu in range(there)] or ["cpu"]
    if workers is None:
        return devices
    if workers < 1:
        raise Refused(f"expected --workers of at least 1, got {workers}; correct it")
    return [devices[worker % len(devices)] for worker in range(workers)]


def _check_distinct(members: Sequence[Member]) -> None:
    if environment.SIZE > 1:
        raise Refused("expected one process for several runs, got torchrun's; start it without, or give it one run")
    datasets = sorted({member.dataset for member in members})
    if len(datasets) > 1:
        raise Refused(f"expected runs on one data set, got {' and '.join(datasets)}; give each a command of its own")
    seen: set[tuple[str, Any]] = set()
    for member in members:
        if (member.method, member.seed) in seen:
            raise Refused(f"expected each method once, got {member.method} twice; drop one, or name it anew")
        seen.add((member.method, member.seed))


def _check(members: Sequence[Member]) -> None:
    """All recipes before any process: what is wrong in the last one is said now."""
    from rb_smooth.training import validate

    robustbench.robustbench()
    for member in members:
        new = member.options.fresh or member.options.plan
        validate.check(member.dataset, member.method, member.sections, "new" if new else member.run.progress)


def _plan(members: Sequence[Member], devices: Sequence[str]) -> None:
    """What is ahead for one run of each method, and how many there are."""
    from rb_smooth.training.pipeline import Options, carry_out

    first = {member.method: member for member in reversed(members)}
    workers = 1 if len(devices) > 1 else None  # to attack in: of the command's own each is a run
    for member in reversed(first.values()):
        where = {"runs": member.options.runs, "data_dir": member.options.data_dir, "device": devices[0]}
        carry_out((member.dataset, member.method, member.sections), Options(**where, workers=workers, until="plan"))
    seeds = len({member.seed for member in members})
    console.print(f"{len(members)} runs, {seeds} of each method, {len(devices)} at a time on {', '.join(devices)}")


def _report(
    members: Sequence[Member], failures: Sequence[Failure], options: argparse.Namespace, anew: bool
) -> Path | None:
    """Print the table, and leave every figure in sweep-….json beside the runs; one that says nothing new stays."""
    old = {failure.job.run.path for failure in failures if options.fresh}  # what is there is of before
    measured = [(member, member.result()) for member in members if member.run.path not in old]
    results = {member: result for member, result in measured if result is not None}
    if not results:
        return None
    order = list(dict.fromkeys(member.method for member in members))  # as typed, whatever failed
    compared = groups(sorted(results.values(), key=lambda result: order.index(result.method)))
    for each in drawn(members[0].dataset, compared):
        console.print(each)
    names = [[member.run.path.name, member.sections["evaluate"]] for member in members]
    path = options.runs / members[0].dataset / f"sweep-{digest_of(names)}.json"
    if anew or not path.exists():
        files.write_json(path, _record(results, compared, failures))
    console.print(f"every figure: {path}")
    return path


def _record(
    results: dict[Member, Result], compared: list[dict[str, Any]], failures: Sequence[Failure]
) -> dict[str, Any]:
    """Where the figures come from, the figures compared, and those of each run, with the commit that measured it; the
    record's own commit is that of the program that compared them.
    """
    first = next(iter(results))
    return {
        "command": f"python -m rb_smooth.recipe {shlex.join(sys.argv[1:])}",
        "commit": commit(),
        "versions": robustbench.versions(),
        "dataset": first.dataset,
        "settings": first.options.set,
        "groups": compared,
        "runs": [
            {
                "method": member.method,
                "seed": member.seed,
                "folder": member.run.path.name,
                "identity": member.run.identity,
                **result.figures,
                **{key: result.score[key] for key in ("n", "training", "backend", "versions", "commit")},
            }
            for member, result in results.items()
        ],
        "failed": {failure.job.name: failure.line for failure in failures},
    }


def _threads(workers: int) -> int | None:
    """CPU threads of each process; None: torch's own number."""
    return environment.cores_each(workers) if workers > 1 else None


def _passed_on(options: argparse.Namespace) -> Iterator[str]:
    """The command's options, for one of its processes."""
    for key, value in vars(options).items():
        flag = f"--{key.replace('_', '-')}"
        if key in _OWN_OPTIONS or value is None or value is False:
            continue
        if value is True:
            yield flag
        else:
            yield from (f"{flag}={each}" for each in (value if isinstance(value, list) else [value]))
