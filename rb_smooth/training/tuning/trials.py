"""The trials of a method: an Optuna study in an SQLite file, each trial a run that is trained and never evaluated.

The objective is the robust accuracy on validation images of the epoch that the run selects. A trial's samples depend
on the seed, its number and the trials before it only, so that a resumed study draws what an uninterrupted one would. A
trial that was running when the process ended goes on from its run's folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.config.overrides import ResolvedRecipe
from rb_smooth.config.sections import result_config
from rb_smooth.core.determinism import derive_seed
from rb_smooth.core.errors import Diverged, UserError, first_line
from rb_smooth.training.pipeline import RunOptions, run_recipe
from rb_smooth.training.run_folder.log import LogRow, best_row, read_log
from rb_smooth.training.run_folder.run import run_path
from rb_smooth.training.tuning.space import Space, change, check_space, own_values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial


_UNPRUNED_TRIALS = 4
"""Trials before any is pruned."""


@dataclass(frozen=True)
class Tuning:
    """The search of one method. own: the recipe's values of the space's keys; devices: of the workers."""

    recipe: ResolvedRecipe
    space: Space
    own: dict[str, Any]
    storage: Path
    options: RunOptions
    devices: tuple[str, ...] = ("auto",)
    prunes: bool = True

    @property
    def seed(self) -> int:
        return int(self.recipe.sections["train"]["seed"])

    @property
    def description(self) -> dict[str, Any]:
        """What all trials share, as values for JSON."""
        return {
            "recipe": result_config(self.recipe.sections),
            "space": {key: dimension.text for key, dimension in self.space.items()},
            "pruning": self.prunes,
        }

    def values_of(self, params: dict[str, Any]) -> dict[str, Any]:
        """The values of a trial: sampled numbers are rounded, the recipe's own are not."""
        return {
            key: value if value == self.own[key] else self.space[key].rounded(value) for key, value in params.items()
        }

    def recipe_of(self, params: dict[str, Any]) -> ResolvedRecipe:
        """The recipe of a trial; with the recipe's own values the recipe itself, with its run."""
        changed = {key: value for key, value in self.values_of(params).items() if value != self.own[key]}
        return self.recipe._replace(sections=change(self.recipe.sections, changed))


def make_tuning(recipe: ResolvedRecipe, space: Space, **options: Any) -> Tuning:
    """Check recipe and space. Raises UserError, also for a recipe that uses test images."""
    name, train = f"{recipe.dataset}/{recipe.method}", recipe.sections["train"]
    if not space:
        raise UserError(f"expected a search space for {name}, got none; add --space, or `tune:` to the recipe's file")
    if train.get("select", "validation") != "validation" or not recipe.sections["data"].get("validation"):
        raise UserError(
            f"expected {name} to hold out validation images, got none; use --set train.select=validation "
            "data.validation=1000"
        )
    if train.get("log_test"):
        raise UserError(f"expected {name} to use no test image, got train.log_test; use --set train.log_test=0")
    check_space(recipe, space)
    return Tuning(recipe, space, own_values(recipe, space), **options)


def open_study(tuning: Tuning) -> Study:
    """The study, made if necessary, with the recipe's own values as its first trial.

    Raises UserError without Optuna, for a damaged file, and for a study of another search.
    """
    optuna = import_optuna()
    from sqlalchemy.exc import DatabaseError

    epochs = tuning.recipe.sections["train"]["epochs"]
    pruner = optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, n_warmup_steps=epochs // 3)
    tuning.storage.parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{tuning.storage.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        study = optuna.create_study(
            storage=storage,
            study_name=f"{tuning.recipe.dataset}/{tuning.recipe.method}",
            direction="maximize",
            pruner=pruner if tuning.prunes else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    except DatabaseError as error:
        raise UserError(
            f"expected trials in {tuning.storage}, got {first_line(error)}; restore or delete the file"
        ) from None
    if "tuning" not in study.user_attrs:
        study.set_user_attr("tuning", tuning.description)
    elif differing := _difference(study.user_attrs["tuning"], tuning.description):
        raise UserError(f"expected {tuning.storage} to hold this search, got {differing}; choose another --out")
    if not study.trials:
        study.enqueue_trial(tuning.own)
    return study


def import_optuna() -> Any:
    """The module optuna, which logs warnings only. Raises UserError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError("expected Optuna, got no such package; pip install 'rb_smooth[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def missing_trials(study: Study, total: int) -> list[int | None]:
    """Numbers of the trials to finish, and None for each one to begin, up to `total` trials."""
    begun = [trial for trial in study.trials if trial.state.name != "WAITING"]
    running: list[int | None] = [trial.number for trial in begun if trial.state.name == "RUNNING"]
    return [*running, *[None] * (total - len(begun))]


def run_trial(tuning: Tuning, number: int | None = None) -> FrozenTrial:
    """Begin a trial, or go on with the one of this number, to its end. Returns it as it is stored.

    A trial that diverges fails; other errors are raised and leave it to be resumed.
    """
    optuna = import_optuna()
    study = open_study(tuning)
    trial = study.ask() if number is None else optuna.trial.Trial(study, study.trials[number]._trial_id)
    recipe = tuning.recipe_of(_sample(study, trial, tuning))
    run = run_path(tuning.options.runs, recipe)
    trial.set_user_attr("folder", run.path.name)
    reported = set(study.trials[trial.number].intermediate_values)

    def report(rows: Sequence[LogRow], may_prune: bool = True) -> None:
        for row in rows:
            if row["epoch"] not in reported:
                trial.report(row["val_robust"], row["epoch"])
                reported.add(row["epoch"])
        if may_prune and len(rows) < recipe.sections["train"]["epochs"] and trial.should_prune():
            raise optuna.TrialPruned

    options = replace(
        tuning.options,
        until="training",
        after_epoch=report,
        device=tuning.devices[trial.number % len(tuning.devices)],
    )
    log = run.path / "log.csv"
    try:
        if log.exists():  # of a process that ended, perhaps before it reported
            report(read_log(log), may_prune=not run.is_trained)
        run_recipe(recipe, options)
        rows = read_log(log)
        report(rows, may_prune=False)
        _describe(trial, rows)
        study.tell(trial, best_row(rows)["val_robust"])
    except optuna.TrialPruned:
        _describe(trial, read_log(log))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except Diverged as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return study.trials[trial.number]


def _sample(study: Study, trial: Trial, tuning: Tuning) -> dict[str, Any]:
    """The trial's parameters; stored ones are read. Each has a random stream of its own."""
    from optuna.samplers import TPESampler

    params = {}
    for index, (key, its) in enumerate(tuning.space.items()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental options
            seed = derive_seed(tuning.seed, trial.number, index) % 2**32
            study.sampler = TPESampler(seed=seed, multivariate=False, constant_liar=True)
        if its.choices:
            params[key] = trial.suggest_categorical(key, its.choices)
        elif its.is_int:
            params[key] = trial.suggest_int(key, int(its.low), int(its.high), log=its.is_log)
        else:
            params[key] = trial.suggest_float(key, its.low, its.high, log=its.is_log)
    return params


def _describe(trial: Trial, rows: Sequence[LogRow]) -> None:
    about = {
        "epochs": len(rows),
        "best_epoch": best_row(rows)["epoch"] + 1,
        "last": rows[-1]["val_robust"],
        "seconds": sum(row["seconds"] for row in rows),
    }
    for key, value in about.items():
        trial.set_user_attr(key, value)


def _difference(stored: dict[str, Any], asked: dict[str, Any]) -> str:
    """`the space optimizer.lr=1..2`: in what the stored search differs; empty if it does not."""
    if stored["space"] != asked["space"]:
        return f"the space {' '.join(f'{key}={text}' for key, text in stored['space'].items())}"
    if stored["recipe"] != asked["recipe"]:
        keys = [key for key in stored["recipe"] if stored["recipe"][key] != asked["recipe"].get(key)]
        return f"one with another {' and '.join(keys)}"
    return "one with other pruning" if stored != asked else ""
