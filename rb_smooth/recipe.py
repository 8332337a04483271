"""python -m rb_smooth.recipe DATASET METHOD: train (or resume), evaluate, submit, compare.

    python -m rb_smooth.recipe digits at+ensgd                     minutes on two cores, no download
    python -m rb_smooth.recipe cifar10 at+awp --epochs 30          its schedule scaled to 30 epochs
    python -m rb_smooth.recipe cifar10 at --set optimizer.lr=0.05  one value changed, in its own run folder
    python -m rb_smooth.recipe mine.yaml                           your recipe; `base: cifar10/at` inherits
    python -m rb_smooth.recipe cifar10 at at+awp --seeds 0-2       six runs, one per GPU, and their table
    python -m rb_smooth.recipe list [DATASET]                      available recipes
    python -m rb_smooth.recipe show cifar10 at+awp+ensgd           the resolved and validated recipe
    python -m rb_smooth.recipe keys [objective.at]                 every key: values, default, meaning, source

Repeating a command resumes it, skips finished work and prints the table. Exit codes: 0 success, 1 at least one of
several runs failed, 2 user error (one line says what to do), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.config import resolver, yaml
from rb_smooth.config.listing import print_overview, print_recipes, recipes_as_dict
from rb_smooth.config.overrides import ResolvedRecipe, resolve_config
from rb_smooth.core import environment
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console, use_stderr
from rb_smooth.core.errors import UserError
from rb_smooth.core.numbers import MAX_EPOCHS, seed_number, whole_number, worker_number

if TYPE_CHECKING:
    from rb_smooth.training.run_folder.run import Run
    from rb_smooth.training.sweep.sweep import SweepRun


_MAX_SEEDS = 1000
"""Largest length of one range such as 0-2; a longer one is taken for a typing error."""


def main() -> int:
    options = _parse()
    command, rest = options.what[0], options.what[1:]
    if options.json:
        use_stderr()
    if command == "list":
        _list(rest, options)
    elif command == "show":
        _show(*_target(rest), options)
    elif command == "keys":
        _show_keys(rest, options)
    elif options.seeds is not None or len(options.what) > (1 if _is_file(command) else 2):
        from rb_smooth.training.sweep.sweep import run_sweep

        path = run_sweep(_sweep_runs(options), options)
        if options.json and path is not None:
            print(path.read_text(encoding="utf-8"))
    elif options.gpus is not None:
        raise UserError("expected several methods or --seeds with --gpus, got one run; choose its --device")
    else:
        from rb_smooth.training.pipeline import RunOptions, run_recipe

        run = run_recipe(
            _resolve(*_target(options.what), options),
            RunOptions(
                runs=options.runs,
                data_dir=options.data_dir,
                leaderboard=options.leaderboard,
                device=options.device,
                workers=options.workers,
                fresh=options.fresh,
                replace=options.replace,
                until="plan" if options.plan else "evaluation" if options.no_submit else "entry",
            ),
        )
        if environment.RANK == 0 and not (options.plan or options.no_submit):
            _submit_and_report(run, options.leaderboard, options.replace)
        if options.json:
            _print_json({"run": str(run.path), **(run.score or {})})
    return 0


def _submit_and_report(run: Run, leaderboard: Path, replace: bool) -> None:
    """Submit the run and print its rank."""
    from rb_smooth.leaderboard.reports.ranking import ranking_table
    from rb_smooth.leaderboard.submission import submit

    entry = submit(run, leaderboard, replace)
    for each in ranking_table(entry):
        console.print(each)
    console.print(f"entry: {entry.path}")


def _parse() -> argparse.Namespace:
    parser = make_parser("recipe", __doc__)
    parser.add_argument(
        "what",
        nargs="+",
        metavar="DATASET METHOD",
        help="or FILE.yaml, or list, show …, keys …; several methods: a sweep",
    )
    parser.add_argument(
        "--seed", type=seed_number, help="for initialisation, shuffling, augmentation, attacks' starts and noise"
    )
    parser.add_argument(
        "--seeds",
        type=_parse_numbers,
        metavar="0,1,2|0-2",
        help="train each method with each seed, and print one table",
    )
    parser.add_argument(
        "--epochs",
        type=whole_number(1, MAX_EPOCHS),
        help="train this long; learning-rate drops and stages scale in proportion",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one value; repeatable"
    )
    parser.add_argument("--n-examples", type=whole_number(1), help="test points to attack (the first ones)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("data"),
        help="folder of data sets, as for torchvision and RobustBench (default: data)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument(
        "--leaderboard", type=Path, default=Path("leaderboard"), help="folder of entries (default: leaderboard)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    parser.add_argument(
        "--gpus",
        type=_parse_numbers,
        metavar="0,1,…",
        help="for several runs: GPUs to use, one run on each at a time (default: all)",
    )
    parser.add_argument(
        "--workers", type=worker_number, help="processes: runs at a time for several runs, attack workers for one"
    )
    parser.add_argument("--fresh", action="store_true", help="delete this run's results and start again")
    parser.add_argument("--replace", action="store_true", help="replace an entry of the same name from another run")
    parser.add_argument("--no-submit", action="store_true", help="train and evaluate only")
    parser.add_argument("--plan", action="store_true", help="time three steps, print the estimated cost, and stop")
    parser.add_argument(
        "--json", action="store_true", help="JSON on stdout: the output of list, show or keys, or the score"
    )
    options = parser.parse_args()
    if options.json and options.plan:
        raise UserError("expected --json or --plan, got both; drop one")
    return options


def _list(datasets: list[str], options: argparse.Namespace) -> None:
    if options.json:
        _print_json(recipes_as_dict(datasets or resolver.list_datasets()))
    elif datasets:
        print_recipes(datasets)
    else:
        print_overview()


def _target(what: list[str]) -> tuple[str, str | None]:
    """(dataset, method), or (file, None)."""
    if len(what) == 1 and _is_file(what[0]):
        return what[0], None
    if len(what) != 2:
        known = ", ".join(resolver.list_datasets())
        raise UserError(
            f"expected DATASET METHOD, got {' '.join(what) or 'nothing'!r}; datasets: {known}; methods: `recipe list`"
        )
    return what[0], what[1]


def _sweep_runs(options: argparse.Namespace) -> list[SweepRun]:
    """All methods with all seeds, ordered by seed, so that methods can be compared early."""
    if options.seeds is not None and options.seed is not None:
        raise UserError("expected --seed or --seeds, got both; drop one")
    seeds = [options.seed] if options.seeds is None else options.seeds
    first, *rest = options.what
    targets = [[name] if _is_file(name) else [first, name] for name in ([first, *rest] if _is_file(first) else rest)]
    if not targets:
        _target(options.what)
    from rb_smooth.leaderboard.submission import is_entered
    from rb_smooth.training.sweep.sweep import SweepRun

    sweep_runs = []
    for seed in seeds:
        chosen = argparse.Namespace(**vars(options) | {"seed": seed})
        sweep_runs += [SweepRun(tuple(what), _resolve(*_target(what), chosen), options, is_entered) for what in targets]
    return sweep_runs


def _parse_numbers(text: str) -> list[int]:
    """`0,2,5-7` -> 0, 2, 5, 6, 7. Raises UserError for other text and for duplicates."""
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip(), re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not 0 <= last - first < _MAX_SEEDS:
            raise UserError(f"expected numbers such as 0,1,2 or 0-2, got {text!r}; correct it")
        numbers += range(first, last + 1)
    if len(set(numbers)) < len(numbers):
        raise UserError(f"expected each number once, got {text!r}; drop the duplicates")
    return numbers


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _show(target: str, method: str | None, options: argparse.Namespace) -> None:
    from rb_smooth.training import validate

    recipe = validate.check_recipe(*_resolve(target, method, options))
    if options.json:
        return _print_json({"dataset": recipe.dataset, "method": recipe.method, **recipe.sections})
    console.print(f"# {recipe.dataset}/{recipe.title}")
    console.print(yaml.dump_sections(dict(recipe.sections)), end="")


def _print_json(what: Any) -> None:
    if environment.RANK == 0:
        print(json.dumps(what, indent=2, ensure_ascii=False))


def _show_keys(topics: list[str], options: argparse.Namespace) -> None:
    from rb_smooth.config import reference

    if options.json:
        _print_json(reference.keys_as_dicts(topics))
    else:
        reference.print_keys(topics)


def _resolve(target: str, method: str | None, options: argparse.Namespace) -> ResolvedRecipe:
    shorthands = {"train.seed": options.seed, "evaluate.n_examples": options.n_examples}
    settings = [*options.set, *(f"{key}={value}" for key, value in shorthands.items() if value is not None)]
    return resolve_config(target, method, settings, options.epochs)


if __name__ == "__main__":
    sys.exit(run_cli(main)())
