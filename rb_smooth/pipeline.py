"""One run, from its recipe to its place in the table: train (or go on), evaluate, submit, compare."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from rb_smooth import bridge, run_folder
from rb_smooth.console import console
from rb_smooth.refusal import Refused
from rb_smooth.sections import SECTIONS, Sections, substance

if TYPE_CHECKING:
    import torch

    from rb_smooth.declaration import Recipe
    from rb_smooth.splits import Dataset


def carry_out(gathered: tuple[str, str, Sections], options: argparse.Namespace) -> None:
    """Whatever the run of `gathered`, (dataset, method, sections), still lacks; then its table. `options` are those of
    `recipe`. A finished run costs no torch.
    """
    run = run_folder.place(options.runs, *gathered)
    if options.plan or options.fresh or not _is_finished(run, gathered[-1]):
        _work(run, gathered, options)
    if not options.plan:
        _report(run, options)


def _work(run: run_folder.Run, gathered: tuple[str, str, Sections], options: argparse.Namespace) -> None:
    """Whatever this run still lacks. Recipe, packages, device and data are checked before anything is written."""
    from rb_smooth import schema

    progress: run_folder.Progress = "new" if options.fresh or options.plan else run.progress
    recipe = schema.check(*gathered, progress)
    bridge.robustbench()
    device = _device(options.device)
    data = _prepared(recipe, options, device, progress)
    if options.plan:
        return _announce(recipe, data, device)
    with run.locked():
        if options.fresh:
            run.discard()
        run.begin(*gathered)
        if not run.is_trained:
            from rb_smooth.training import train

            _announce(recipe, data, device)
            train(recipe, run, data, device)
        if not run.recall_score(gathered[-1]["evaluate"]):
            from rb_smooth.evaluation import score

            score(recipe, run, data, device)


def _is_finished(run: run_folder.Run, sections: Sections) -> bool:
    """Whether the run holds this very recipe and its score answers what `evaluate` asks. Costs no torch."""
    if not run.is_trained or (score := run.score) is None:
        return False
    header = run.header
    trained, asked = substance({key: header[key] for key in SECTIONS}), substance(sections)
    return trained == {**asked, "evaluate": trained["evaluate"]} and score["asked"] == sections["evaluate"]


def _prepared(
    recipe: Recipe, options: argparse.Namespace, device: torch.device, progress: run_folder.Progress
) -> Dataset:
    """The data, loaded and split, on the CPU; extra images, which may be many, where they are needed."""
    from rb_smooth.outlines import Outline, outline
    from rb_smooth.plan import choose_threads
    from rb_smooth.preflight import inspect
    from rb_smooth.registry import make
    from rb_smooth.splits import split

    section = recipe.data
    source = make("data", section.name, section.options, options.data_dir)
    data = split(
        source,
        validation=section.validation,
        split_seed=section.split_seed,
        select=recipe.train.select,
        train_examples=section.train_examples,
        batch_size=section.batch_size,
    )
    known = Outline(data.shape, len(source.classes))
    if outline(section.name, section.options) is None:
        inspect(recipe, known, progress)
    if section.extra is not None and progress != "trained":
        from rb_smooth.labelling import extra_images

        data = replace(data, extra=extra_images(section.extra, known, device))
    choose_threads(recipe, data)
    return data


def _announce(recipe: Recipe, data: Dataset, device: torch.device) -> None:
    from rb_smooth.plan import estimate

    train = recipe.train
    if train.scaled_from is not None:
        stages = f" ({recipe.staged})" if recipe.staged else ""
        console.print(
            f"{train.epochs} epochs in the shape of {train.scaled_from}: drops and stages moved in proportion{stages}"
        )
    console.print(f"{recipe.dataset} {recipe.title}, seed {train.seed}; {estimate(recipe, data, device).sentence}")


def _report(run: run_folder.Run, options: argparse.Namespace) -> None:
    from rb_smooth.leaderboard import standings, submit

    score = run.score or {}
    last, (low, high) = score["last"], score["interval"]
    console.print(
        f"best epoch: clean {score['clean']:.1%}, PGD-20 {score['pgd20']:.1%}, AutoAttack {score['autoattack']:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}); last epoch: clean {last['clean']:.1%}, PGD-20 {last['pgd20']:.1%}, "
        f"best minus last {100 * (score['pgd20'] - last['pgd20']):+.1f} points"
    )
    if options.no_submit:
        return
    entry = submit(run, options.leaderboard, options.replace)
    for each in standings(entry):
        console.print(each)
    console.print(f"entry: {entry.path}")


def _device(name: str) -> torch.device:
    """A device that this machine has; a GPU becomes the current one, so that its random state is the one kept."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("rb_smooth runs on cpu and cuda")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise Refused(f"expected a device that this machine has, got {name!r} ({cause}); use --device cpu") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
