"""A folder in which the documents' commands work as printed, and take seconds: whatever they name is there, and small.

The recipes that we ship have their names and parts, but a narrow network, two epochs and a dozen test points; CIFAR-10
is a handful of images in its own file format, RobustBench's model a network of ten layers. A sweep's processes, and
workers, are this process.
"""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from cifar_files import write_cifar10
from run_program import run_program

from rb_smooth.analysis.theory.figures import draw_examples
from rb_smooth.components.attacks import pgd
from rb_smooth.config import resolver, yaml
from rb_smooth.config.registry import build_model
from rb_smooth.config.sections import STAGED
from rb_smooth.core import environment, files, robustbench
from rb_smooth.core.environment import data_roots
from rb_smooth.evaluation import accuracy
from rb_smooth.training import cost
from rb_smooth.training.sweep import sweep

ROOT = Path(__file__).parents[1]
PUBLISHED = ("cifar10", "Linf", "Wong2020Fast")
DATA = {
    "digits": {"batch_size": 64, "validation": 60, "train_examples": 128},
    "cifar10": {"batch_size": 20},
    "cifar10_small": {"batch_size": 8, "validation": 4, "train_examples": 16},
}
LESS = {"epochs": 2, "steps": 2, "inner_steps": 2, "drops": [1], "n_examples": 12, "batch_size": 12}


@contextmanager
def small_recipes(folder: Path) -> Iterator[None]:
    """Inside, what we ship is what `write_sandbox` has put into `folder`."""
    before = resolver.data_roots
    resolver.data_roots = lambda: [folder, *data_roots()]
    try:
        yield
    finally:
        resolver.data_roots = before


def write_sandbox(world: Path, page: Path, monkeypatch: Any) -> None:
    """Put small recipes into `world`, and what commands expect to find into `page`, the folder where they are typed."""
    for path in (ROOT / "recipes").glob("*/*.yaml"):
        sections = yaml.parse_yaml(path.read_text(), str(path))
        small = {key: _smaller(key, value) for key, value in sections.items()}
        files.write_text(world / "recipes" / path.parent.name / path.name, yaml.dump_sections(small))
    write_cifar10(page / "data", monkeypatch)
    monkeypatch.setitem(robustbench.zoo_table(*PUBLISHED[:2]), PUBLISHED[2], {"model": _published, "gdrive_id": "x"})
    files.save_tensors(page.joinpath("models", *PUBLISHED).with_suffix(".pt"), _published().state_dict())
    small, wide = ("small_preactresnet", {"width": 2}), ("wideresnet", {"depth": 10, "width": 1})
    for name, network in {"net.pt": small, "pretrained.pt": small, "wrn.pt": wide}.items():
        files.save_tensors(page / name, build_model(*network, (3, 32, 32), 10).state_dict())
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    files.write_arrays(page / "1m.npz", {"image": images, "label": np.arange(40) % 10})
    files.write_arrays(page / "unlabelled.npz", {"image": images})
    shutil.copytree(ROOT / "docs", page / "docs", ignore=shutil.ignore_patterns("results", "figures"))
    monkeypatch.setattr("rb_smooth.analysis.theory.figures.TOY_FIGURES", {"figure-1": draw_examples})
    monkeypatch.setattr(accuracy, "pgd", lambda *given: pgd(*given[:4], steps=2))
    monkeypatch.setattr(cost, "_TIMED_STEPS", 1)
    monkeypatch.setattr(sweep, "run_jobs", _one_after_the_other)
    monkeypatch.setattr(environment, "usable_cores", lambda: 1)


def _smaller(key: str, section: Any) -> Any:
    """A section of a recipe's file, as small as may be."""
    if key == "model":
        return {"name": "small_preactresnet", "width": 2}
    if isinstance(section, list) and key in STAGED:
        stages = [section[0], section[-1]]  # the first epoch's, and the second's
        return [_smaller(key, each) | {"from_epoch": number} for number, each in enumerate(stages)]
    if not isinstance(section, dict):
        return section
    if key == "data":
        return section | {"validation": 10} | DATA.get(section.get("name"), {})
    return section | {option: value for option, value in LESS.items() if option in section}


def _published() -> Any:
    return robustbench.architectures("wide_resnet").WideResNet(depth=10, num_classes=10, widen_factor=1)


def _one_after_the_other(jobs: Sequence[Any], devices: Sequence[str], threads: int | None = None) -> list[Any]:
    for job in jobs:
        _, module, *arguments = job.command[1:]
        assert run_command(module.removeprefix("rb_smooth."), arguments) == 0, job.command
    return []


def run_command(program: str, arguments: Sequence[str]) -> int:
    """The exit code of one of our programs, in this process."""
    return run_program(program_module(program).main, *arguments)


def program_module(program: str) -> Any:
    """What has the `main` of a program: of `python -m rb_smooth.<program>`, or of a file of the checkout."""
    if program.endswith(".py"):
        return SimpleNamespace(main=lambda: runpy.run_path(str(ROOT / program), run_name="__main__") and 0)
    module = import_module(f"rb_smooth.{program}")
    return import_module(f"rb_smooth.{program}.__main__") if hasattr(module, "__path__") else module
