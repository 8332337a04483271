"""python -m rb_smooth.recipe DATASET METHOD: train (or go on), evaluate, submit, compare.

    python -m rb_smooth.recipe digits at+ensgd                     minutes on two cores, no download
    python -m rb_smooth.recipe cifar10 at+awp --epochs 30          the recipe's shape in 30 epochs
    python -m rb_smooth.recipe cifar10 at --set optimizer.lr=0.05  other settings, other folder
    python -m rb_smooth.recipe mine.yaml                           your own; `base: cifar10/at` starts from a recipe
    python -m rb_smooth.recipe list [DATASET]                      what there is
    python -m rb_smooth.recipe show cifar10 at+awp+ensgd           what it means, resolved and checked

The same command again goes on where it stopped, skips what is finished, and prints the table. Exit codes: 0 done,
2 something to mend (one line says what), 130 stopped by you.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rb_smooth import bridge, cookbook, notation, run_folder
from rb_smooth.console import console
from rb_smooth.listing import print_recipes
from rb_smooth.refusal import Refused, answering
from rb_smooth.sections import SECTIONS, Sections
from rb_smooth.settings import gather

if TYPE_CHECKING:
    import torch

    from rb_smooth.declaration import Recipe
    from rb_smooth.splits import Dataset


def main() -> int:
    options = _parse()
    command, rest = options.what[0], options.what[1:]
    if command == "list":
        print_recipes(rest or cookbook.datasets())
    elif command == "show":
        _show(*_target(rest), options)
    else:
        _run(*_target(options.what), options)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rb_smooth.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", metavar="DATASET METHOD", help="or FILE.yaml, or list, or show …")
    parser.add_argument(
        "--seed", type=int, help="of initialisation, shuffling, augmentation, attacks' starts and noise"
    )
    parser.add_argument("--epochs", type=int, help="train this long; drops and stages move in proportion")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one value; repeatable"
    )
    parser.add_argument("--n-examples", type=int, help="test points to attack (the first ones)")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="torchvision's folder, as RobustBench's (default: data)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument(
        "--leaderboard", type=Path, default=Path("leaderboard"), help="where entries go (default: leaderboard)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    parser.add_argument("--fresh", action="store_true", help="forget what this run has done so far, and begin again")
    parser.add_argument("--replace", action="store_true", help="replace an entry of the same name made by another run")
    parser.add_argument("--no-submit", action="store_true", help="train and evaluate only")
    parser.add_argument("--plan", action="store_true", help="time three steps, say what is ahead, and stop")
    return parser.parse_args()


def _target(what: list[str]) -> tuple[str, str | None]:
    """(dataset, method), or (file, None)."""
    if len(what) == 1 and what[0].endswith((".yaml", ".yml")):
        return what[0], None
    if len(what) != 2:
        known = ", ".join(cookbook.datasets())
        raise Refused(
            f"expected DATASET METHOD, got {' '.join(what) or 'nothing'!r}; datasets: {known}; methods: `recipe list`"
        )
    return what[0], what[1]


def _show(target: str, method: str | None, options: argparse.Namespace) -> None:
    from rb_smooth import schema

    recipe = schema.check(*_gathered(target, method, options))
    console.print(f"# {recipe.dataset}/{recipe.title}")
    console.print(notation.dump(dict(recipe.sections)), end="")


def _gathered(target: str, method: str | None, options: argparse.Namespace) -> tuple[str, str, Sections]:
    return gather(target, method, _settings(options), options.epochs)


def _settings(options: argparse.Namespace) -> tuple[str, ...]:
    shorthands = {"train.seed": options.seed, "evaluate.n_examples": options.n_examples}
    return (*options.set, *(f"{key}={value}" for key, value in shorthands.items() if value is not None))


def _run(target: str, method: str | None, options: argparse.Namespace) -> None:
    gathered = _gathered(target, method, options)
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
    same_training = {key: header[key] for key in SECTIONS} == {**sections, "evaluate": header["evaluate"]}
    return same_training and score["asked"] == sections["evaluate"]


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


if __name__ == "__main__":
    sys.exit(answering(main)())
