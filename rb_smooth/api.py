"""The programs in Python: train, evaluate, submit, compare; `leaderboard.zoo` has load_model, register, recipes.

    run = rb_smooth.train("cifar10/at+awp+ensgd", seed=1)
    print(rb_smooth.evaluate(run))
    entry = rb_smooth.submit(run)

Two of these take minutes to days, `train` and `evaluate`; they say how far they are, a line an epoch, unless they are
told verbose=False. The others print nothing. What a user can mend is raised as `UserError`, one line that says how;
what it calls --fresh is fresh=True here. Everything else that Python or torch may raise comes through as it is.
Random states, the number of torch's threads and the modes of a model are left as they were found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rb_smooth.config.overrides import resolve_config, to_set_args
from rb_smooth.core.console import render_text, show_output
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.entries import Entry, find_entry
from rb_smooth.training.pipeline import RunOptions, evaluate_run, run_recipe
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.run_folder.summary import is_run

if TYPE_CHECKING:
    from torch import nn

    from rb_smooth.evaluation.custom_model import Points
    from rb_smooth.evaluation.score import Score
    from rb_smooth.leaderboard.external import ExternalModel


def train(
    recipe: str | Path,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    set: Mapping[str, Any] | None = None,
    runs: str | Path = "runs",
    data_dir: str | Path = "data",
    device: str = "auto",
    fresh: bool = False,
    verbose: bool = True,
) -> Run:
    """Train by a recipe, or go on where its run stopped; what is trained already is returned at once.

    recipe:   "cifar10/at+ensgd", any that `recipes()` lists, or a file of yours, "mine.yaml".
    seed:     of initialisation, shuffling, augmentation, attacks' starts and noise; default: the recipe's, 0.
    epochs:   train this long; drops and stages move in proportion. Default: the recipe's.
    set:      single values of the recipe, as {"optimizer.lr": 0.05, "objective.eps": "8/255"}.
    runs:     where runs are kept: <runs>/<dataset>/<method>-s<seed>; other settings are another folder.
    data_dir: torchvision's folder, as RobustBench's. What is not there is downloaded.
    device:   "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
    fresh:    forget what this run has done so far, and begin again.

    Returns the run, a folder: best.pt and last.pt, log.csv with a row for each epoch, recipe.yaml. Raises UserError for
    a recipe, data, weights or a device that cannot be meant, before anything is written, and for a loss that is not
    finite; Interrupted after Ctrl-C, when all is saved and the same call goes on.
    """
    name = str(recipe)
    method: str | None = None
    if not name.endswith((".yaml", ".yml")):
        name, _, method = name.partition("/")
    if method == "":
        raise UserError(
            f"expected DATASET/METHOD, such as digits/at, or a .yaml file, got {str(recipe)!r}; see recipes()"
        )
    changes = {**(set or {}), **({} if seed is None else {"train.seed": seed})}
    resolved = resolve_config(name, method, to_set_args(changes), epochs)
    with _preserve_process_state(verbose):
        return run_recipe(
            resolved, RunOptions(Path(runs), Path(data_dir), device=device, fresh=fresh, until="training")
        )


def evaluate(
    what: Run | Entry | nn.Module | str | Path,
    points: Points | None = None,
    *,
    norm: Literal["Linf", "L2"] | None = None,
    eps: float | None = None,
    step_size: float | None = None,
    version: Literal["standard", "quick"] | None = None,
    n_examples: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    keep_adversarial: int | None = None,
    leaderboard: str | Path = "leaderboard",
    data_dir: str | Path = "data",
    device: str = "auto",
    workers: int = 1,
    verbose: bool = True,
) -> Score:
    """Clean, PGD-20 and AutoAttack accuracy on test points, with trust checks before and after the attack.

    what:   a run or its folder: its best epoch, by its recipe's protocol. Kept as score.json; one by another protocol
            that was there is kept beside it.
            An entry of `leaderboard`, or its name: as it stands there; by another protocol, from its stored weights.
            A torch module, images (B, C, H, W) in [0, 1] -> logits (B, classes), where it is. Nothing of it is kept.
    points: of a module alone: a data set's name ("cifar10", "digits", …), a recipe's section such as
            {"name": "folder", "root": "photos"}, or (x, y): x (N, C, H, W) uint8, or k/255 in [0, 1]; y (N,) whole.

    The protocol, where None is what the run or entry says, and of a module what stands in brackets:

    norm:       of the ball, "Linf" or "L2" ("Linf").
    eps:        its radius, > 0, where pixels are in [0, 1] (a module needs it told).
    step_size:  PGD-20's, same unit (eps / 4).
    version:    "standard": AutoAttack. "quick": two of its attacks, for an upper bound of its figure ("standard").
    n_examples: the first so many test points, >= 1 (10,000, or all there are).
    batch_size: points attacked at a time, part of the protocol since each batch has one random stream (250).
    seed:       of the attacks, >= 0 (0).
    keep_adversarial: of how many points, the first ones, adversarial examples are kept (12).

    workers:  processes to attack in, >= 1. More than one start Python anew: a script then needs
              `if __name__ == "__main__":` around what it does. Flags are the same for any number.

    A run's or an entry's evaluation that was stopped goes on; one that is there already costs nothing. Raises UserError
    for a protocol or points that cannot be meant, and for a model that cannot be measured (docs/trust.md).
    """
    protocol = {"norm": norm, "eps": eps, "step_size": step_size, "version": version, "n_examples": n_examples}
    protocol |= {"batch_size": batch_size, "seed": seed, "keep_adversarial": keep_adversarial}
    changes = {key: value for key, value in protocol.items() if value is not None}
    from rb_smooth.evaluation.custom_model import evaluate_module
    from rb_smooth.evaluation.score import Score
    from rb_smooth.leaderboard.verification import reevaluate_entry
    from rb_smooth.training.validate import resolve_device

    what = _run_or_entry(what, Path(leaderboard)) if isinstance(what, (str, Path)) else what
    if points is None and not isinstance(what, (Run, Entry)):
        raise UserError("expected points to measure a module on, got none; say a data set's name, or (x, y)")
    if points is not None and isinstance(what, (Run, Entry)):
        raise UserError("expected no points with a run or an entry, which have theirs; give load_model(…) instead")
    with _preserve_process_state(verbose):
        if isinstance(what, Run):
            evaluate_run(what, RunOptions(data_dir=Path(data_dir), device=device, workers=workers), changes)
            return Score.of(what.score or {})
        if isinstance(what, Entry):
            return reevaluate_entry(what, changes, Path(data_dir), resolve_device(device), workers)
        assert points is not None
        return evaluate_module(what, points, changes, Path(data_dir), workers)


def submit(
    what: Run | ExternalModel | str | Path,
    leaderboard: str | Path = "leaderboard",
    *,
    replace: bool = False,
    data_dir: str | Path = "data",
    device: str = "auto",
    workers: int = 1,
    verbose: bool = True,
) -> Entry:
    """Enter a model in a local leaderboard, a folder that is made if need be.

    what:    a run or its folder, which is evaluated by its recipe's protocol if it is not. Or an `ExternalModel`:
    weights in
             a file, and what the file does not say of itself; they are measured as ours are.
    replace: put it in the place of another model's entry of its name, which is kept in <leaderboard>/replaced/.

    Returns the entry: its name, `info` in RobustBench's own JSON with one block of ours, and the paths of its files.
    The weights have been loaded back through RobustBench's loader with equal logits by then. Raises UserError for a run
    that is not trained, for weights that are not the model's, and where another model's entry has the name.
    """
    from rb_smooth.leaderboard.external import ExternalModel, submit_checkpoint
    from rb_smooth.leaderboard.submission import submit as enter_run
    from rb_smooth.training.validate import resolve_device

    board = Path(leaderboard)
    with _preserve_process_state(verbose):
        if isinstance(what, ExternalModel):
            there = resolve_device(device)
            return submit_checkpoint(
                what, board, data_dir=Path(data_dir), device=there, workers=workers, replace=replace
            )
        run = what if isinstance(what, Run) else Run(Path(what))
        evaluate_run(run, RunOptions(data_dir=Path(data_dir), device=device, workers=workers))
        return enter_run(run, board, replace)


@dataclass(frozen=True)
class Comparison:
    """Models of one board side by side, in plain values; str() is the table.

    positions:   of each of our entries by name, its rank among the published ones, and who is next to it
                 (`board.neighbours.position`).
    differences: of every pair, the difference of their accuracies, its 95 % interval and test
                 (`board.matchup.differences`). Shares are in [0, 1].
    """

    positions: dict[str, dict[str, Any]]
    differences: list[dict[str, Any]]
    table: str = field(repr=False)

    def __str__(self) -> str:
        return self.table


def compare(
    *names: str,
    leaderboard: str | Path = "leaderboard",
    dataset: str | None = None,
    threat_model: str | None = None,
) -> Comparison:
    """Entries of one board side by side: ranks among RobustBench's, and by how much they differ, how surely.

    names:  of entries of `leaderboard`, one or more; after the first also of RobustBench's published ones.
    dataset, threat_model: "cifar10", "Linf", …: tell equal names on several boards apart.

    Two of ours are compared point by point, others as shares; figures of different balls or attacks are not compared.
    Prints nothing, trains nothing, and costs no torch. Raises UserError for an unknown name, with the nearest one.
    """
    from rb_smooth.leaderboard.reports.comparable import select_entries
    from rb_smooth.leaderboard.reports.comparison import compare_entries, comparison_table

    if not names:
        raise UserError("expected names of entries to compare, got none; say at least one")
    entries = select_entries(names, Path(leaderboard), dataset, threat_model)
    return Comparison(**compare_entries(entries), table=render_text(comparison_table(entries)))


def _run_or_entry(name: str | Path, leaderboard: Path) -> Run | Entry:
    return Run(Path(name)) if is_run(Path(name)) else find_entry(str(name), leaderboard)


@contextmanager
def _preserve_process_state(verbose: bool) -> Iterator[None]:
    """Inside, lines are shown if `verbose`. A program chooses its threads for a run; here others may want them back."""
    import torch

    threads = torch.get_num_threads()
    try:
        with show_output(verbose):
            yield
    finally:
        torch.set_num_threads(threads)
