"""python -m rb_smooth.tune DATASET METHOD …: search hyperparameters on validation images.

    python -m rb_smooth.tune digits at at+awp --trials 20 --space optimizer.lr=log:0.01..0.3
    python -m rb_smooth.tune mine.yaml --trials 20 --workers 2     the space is `tune:` in the file
    python -m rb_smooth.tune digits trades --trials 20 --epochs 10 --space objective.beta=3..8 model.width=int:16..64
    python -m rb_smooth.recipe runs/digits/tune/at.yaml            evaluate the best run

Every method has the same number of trials, and the first one is the recipe as it is. A trial is an ordinary run, which
is trained and not evaluated: no test image is used. Trials below the median of the others stop early, unless
--no-pruning. Repeating a command resumes it; more --trials continue it. Needs Optuna: pip install "rb_smooth[tune]".
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from rb_smooth.config import yaml
from rb_smooth.config.overrides import ResolvedRecipe, resolve_config
from rb_smooth.config.resolver import tune_texts
from rb_smooth.core import environment, files
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console, log_info, show_output
from rb_smooth.core.environment import Verbosity
from rb_smooth.core.errors import Failed, UserError
from rb_smooth.core.numbers import MAX_EPOCHS, seed_number, whole_number, worker_number
from rb_smooth.core.worker_pool import map_unordered
from rb_smooth.training.pipeline import RunOptions
from rb_smooth.training.tuning import trials
from rb_smooth.training.tuning.record import write_record
from rb_smooth.training.tuning.space import Space, check_space, parse_space, split_arguments
from rb_smooth.training.tuning.trials import Tuning

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


Task = tuple[int, "int | None"]
"""Index of a method, and the number of the trial to resume; None: a new one."""


def main() -> int:
    options = _parse()
    if environment.WORLD_SIZE > 1:
        raise UserError("expected one process, got several from torchrun; start without torchrun, with --workers")
    trials.import_optuna()
    tunings = _tunings(options)
    folder = tunings[0].storage.parent
    with _locked(folder):
        studies = [trials.open_study(tuning) for tuning in tunings]
        tasks = _tasks([trials.missing_trials(study, options.trials) for study in studies])
        log_info(f"{len(tasks)} trials to do, {len(tunings[0].devices)} at a time; results: {folder}")
        make = partial(trial_runner, tunings, environment.verbosity is Verbosity.VERBOSE)
        with closing(map_unordered(make, tasks, len(tunings[0].devices))) as done:
            for (index, _), trial in done:
                log_info(f"{tunings[index].recipe.method} {_line(trial)}")
                write_record(studies[index], tunings[index])
        failed = [_report(study, tuning) for study, tuning in zip(studies, tunings, strict=True)].count(False)
    if failed:
        raise Failed(f"{failed} of {len(tunings)} methods have no complete trial; the JSON files have the reasons")
    return 0


def trial_runner(tunings: Sequence[Tuning], is_verbose: bool) -> Callable[[Task], FrozenTrial]:
    """The function that carries out one trial in a worker process, on its share of the cores."""
    import torch

    workers = len(tunings[0].devices)
    if workers > 1:
        torch.set_num_threads(min(torch.get_num_threads(), environment.cores_per_worker(workers)))

    def run(task: Task) -> FrozenTrial:
        with show_output(is_verbose):
            return trials.run_trial(tunings[task[0]], task[1])

    return run


def _tasks(missing: Sequence[Sequence[int | None]]) -> list[Task]:
    """All methods' trials in turn, so that they can be compared early; trials to resume are first."""
    none = -1
    turns = zip_longest(*missing, fillvalue=none)
    return [(index, number) for turn in turns for index, number in enumerate(turn) if number != none]


def _tunings(options: argparse.Namespace) -> list[Tuning]:
    """Check every method's recipe and space before any trial starts. Raises UserError."""
    from rb_smooth.training.sweep.sweep import choose_devices

    targets = _targets(options.what)
    settings = [*options.set, *([] if options.seed is None else [f"train.seed={options.seed}"])]
    recipes = [resolve_config(*target, settings, options.epochs) for target in targets]
    names = [recipe.method for recipe in recipes]
    if len(set(names)) < len(names) or len({recipe.dataset for recipe in recipes}) > 1:
        raise UserError(f"expected different methods on one data set, got {' '.join(options.what)}; drop one")
    devices = tuple(choose_devices(None, options.workers, options.device))
    folder = options.out or options.runs / recipes[0].dataset / "tune"
    written = split_arguments(options.space)
    spaces = (
        _shared_space(parse_space(written), recipes)
        if written
        else [parse_space(tune_texts(*target)) for target in targets]
    )
    common = RunOptions(runs=options.runs, data_dir=options.data_dir)
    return [
        trials.make_tuning(
            recipe,
            space,
            storage=folder / "trials.db",
            options=common,
            devices=devices,
            prunes=not options.no_pruning,
        )
        for recipe, space in zip(recipes, spaces, strict=True)
    ]


def _shared_space(space: Space, recipes: Sequence[ResolvedRecipe]) -> list[Space]:
    """For each recipe the keys that it has. Raises UserError for a key that none has, and names the others."""
    found: list[Space] = [{} for _ in recipes]
    for key, dimension in space.items():
        errors = []
        for own, recipe in zip(found, recipes, strict=True):
            try:
                check_space(recipe, {key: dimension})
                own[key] = dimension
            except UserError as refused:
                errors.append((recipe.method, str(refused)))
        if len(errors) == len(recipes):
            raise UserError(f"--space {key}={dimension.text}: {errors[0][1]}")
        for method, error in errors:
            console.print(f"not searched for {method}: {key} ({error})")
    return found


def _targets(what: Sequence[str]) -> list[tuple[str, str | None]]:
    if all(name.endswith((".yaml", ".yml")) for name in what):
        return [(name, None) for name in what]
    if len(what) < 2:
        raise UserError(f"expected DATASET METHOD or FILE.yaml, got {what[0]!r}; methods: `recipe list`")
    return [(what[0], name) for name in what[1:]]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises UserError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0.2):
            yield
    except filelock.Timeout:
        raise UserError(f"expected {folder} to be free, got another process there; wait, or choose --out") from None


def _line(trial: FrozenTrial) -> str:
    """One line about an ended trial."""
    values = " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
    )
    about, state = trial.user_attrs, trial.state.name
    if state == "COMPLETE":
        found = f"{trial.value:.1%} robust on validation images, epoch {about['best_epoch']}"
    else:
        found = f"pruned after epoch {about['epochs']}" if state == "PRUNED" else f"failed: {about['error']}"
    return f"trial {trial.number}: {found}; {values}"


def _report(study: Study, tuning: Tuning) -> bool:
    """Write the record, the pictures and the best recipe, and print the result. Returns whether there is a best one."""
    from rb_smooth.analysis.tuning_plot import draw_tuning

    record = write_record(study, tuning, with_importance=True)
    method, folder = record["method"], tuning.storage.parent
    draw_tuning(record, folder / method)
    if record["best"] is None:
        console.print(f"{method}: no complete trial; {folder / method}.json")
        return False
    best = study.trials[record["best"]]
    content = {"name": f"{tuning.recipe.dataset}/{method}", **tuning.recipe_of(best.params).sections}
    files.write_text(folder / f"{method}.yaml", yaml.dump_sections(content))
    console.print(f"{method}, best of {len(record['trials'])}: {_line(best)}")
    console.print(f"evaluate it: python -m rb_smooth.recipe {shlex.quote(str(folder / f'{method}.yaml'))}")
    return True


def _parse() -> argparse.Namespace:
    parser = make_parser("tune", __doc__)
    parser.add_argument("what", nargs="+", metavar="DATASET METHOD", help="one or more methods, or FILE.yaml …")
    parser.add_argument(
        "--trials",
        type=whole_number(1, MAX_EPOCHS),
        required=True,
        help="trials of each method, the recipe itself included",
    )
    parser.add_argument(
        "--space",
        nargs="+",
        default=[],
        metavar="SECTION.KEY=RANGE",
        help="log:0.01..0.3, 3..8, int:16..64 or a,b; default: `tune:` of the recipe's files",
    )
    parser.add_argument(
        "--epochs", type=whole_number(1, MAX_EPOCHS), help="train this long; the schedule scales in proportion"
    )
    parser.add_argument("--seed", type=seed_number, help="of every run, and of the search (default: the recipe's, 0)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for all trials")
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its last epoch")
    parser.add_argument("--workers", type=worker_number, default=1, help="trials at a time (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of data sets (default: data)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--out", type=Path, help="folder of trials and results (default: RUNS/DATASET/tune)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_cli(main)())
