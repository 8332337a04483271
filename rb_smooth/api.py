"""Python API: train, evaluate, submit and compare models. `leaderboard.zoo` has load_model, register and recipes.

    run = rb_smooth.train("cifar10/at+awp+ensgd", seed=1)
    print(rb_smooth.evaluate(run))
    entry = rb_smooth.submit(run)

`train` and `evaluate` take minutes to days and print a line per epoch unless verbose=False; the others print nothing.
Errors that the user can fix raise `UserError`, whose message is one line with the fix; for --fresh in it, pass
fresh=True. Other exceptions of Python and torch propagate unchanged. Random states, torch's number of threads and the
modes of a model are restored.
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
    """Train a recipe, or resume its run. A finished run is returned without training.

    recipe:   "cifar10/at+ensgd", any that `recipes()` lists, or a path such as "mine.yaml".
    seed:     for initialisation, shuffling, augmentation, attacks' starts and noise; default: the recipe's, 0.
    epochs:   train this long; learning-rate drops and stages scale in proportion. Default: the recipe's.
    set:      overrides of single values, such as {"optimizer.lr": 0.05, "objective.eps": "8/255"}.
    runs:     folder of runs: <runs>/<dataset>/<method>-s<seed>; overrides add a suffix to the name.
    data_dir: folder of data sets, as for torchvision and RobustBench. Missing data are downloaded.
    device:   "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
    fresh:    delete this run's results and start again.

    Returns the run, a folder with best.pt, last.pt, log.csv (a row per epoch) and recipe.yaml. Raises UserError for an
    invalid recipe, invalid data, weights or device, before anything is written, and for a loss that is not finite.
    Raises Interrupted after Ctrl-C, when all is saved; the same call resumes.
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
    """Measure clean, PGD-20 and AutoAttack accuracy on test points, with trust checks before and after the attack.

    what:   a run or its folder: its best epoch, with its recipe's protocol. Writes score.json; an existing one of
            another protocol is renamed.
            An entry of `leaderboard`, or its name: its stored score; with another protocol, its stored weights.
            A torch module, images (B, C, H, W) in [0, 1] -> logits (B, classes), on its device. Nothing is saved.
    points: for a module only: a data set's name ("cifar10", "digits", …), a `data` section such as
            {"name": "folder", "root": "photos"}, or (x, y): x (N, C, H, W) uint8, or k/255 in [0, 1]; y (N,) integers.

    The protocol; None is the value of the run or entry, and for a module the value in brackets:

    norm:       of the threat model, "Linf" or "L2" ("Linf").
    eps:        its radius, > 0, for pixels in [0, 1] (required for a module).
    step_size:  of PGD-20, same unit (eps / 4).
    version:    "standard": AutoAttack. "quick": two of its attacks, an upper bound of its accuracy ("standard").
    n_examples: number of test points, the first ones, >= 1 (10,000, or all).
    batch_size: points per attack batch; part of the protocol since each batch has one random stream (250).
    seed:       of the attacks, >= 0 (0).
    keep_adversarial: number of points, the first ones, whose adversarial examples are stored (12).

    workers:  attack processes, >= 1. More than one are started as new Python processes: a script then needs
              `if __name__ == "__main__":`. Results are equal for any number.

    An interrupted evaluation of a run or an entry resumes; a finished one is read. Raises UserError for an invalid
    protocol, invalid points, and a model that cannot be evaluated (docs/trust.md).
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
        raise UserError("expected points to evaluate a module on, got none; pass a data set's name, or (x, y)")
    if points is not None and isinstance(what, (Run, Entry)):
        raise UserError("expected no points with a run or an entry, got some; pass load_model(…) instead")
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
    """Submit a model to a local leaderboard, a folder that is created if missing.

    what:    a run or its folder, which is evaluated first if necessary; or an `ExternalModel`, a file of weights with
             metadata, which is evaluated as a run is.
    replace: replace another model's entry of the same name, which moves to <leaderboard>/replaced/.

    Returns the entry: its name, `info` (RobustBench's JSON with one additional block), and the paths of its files. Its
    weights are verified to give equal logits through RobustBench's loader. Raises UserError for a run that is not
    trained, for weights of another model, and if another model's entry has the name.
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
    """A comparison of models of one board, in plain values; str() is the table.

    positions:   by name, a model's rank among all comparable models of its board, and its neighbours there.
    differences: for every pair, the difference of accuracies, its 95 % interval and test. Shares are in [0, 1].
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
    """Compare models: ranks on the board, ours and RobustBench's, and differences with intervals and tests.

    names:  one or more entries of `leaderboard` or RobustBench's published models.
    dataset, threat_model: "cifar10", "Linf", …: the board, if a name occurs on several.

    Two entries are compared point by point, published models as shares. Accuracies for different threat models or
    attacks are not compared. Does not import torch. Raises UserError for an unknown name, with the closest one.
    """
    from rb_smooth.leaderboard.reports.comparison import compare_entries, comparison_table
    from rb_smooth.leaderboard.reports.lookup import find_models

    if not names:
        raise UserError("expected names of entries to compare, got none; pass at least one")
    models = find_models(names, Path(leaderboard), dataset, threat_model)
    return Comparison(**compare_entries(models), table=render_text(comparison_table(models)))


def _run_or_entry(name: str | Path, leaderboard: Path) -> Run | Entry:
    return Run(Path(name)) if is_run(Path(name)) else find_entry(str(name), leaderboard)


@contextmanager
def _preserve_process_state(verbose: bool) -> Iterator[None]:
    """Context manager: print lines only if `verbose`; restore torch's number of threads, which a run changes."""
    import torch

    threads = torch.get_num_threads()
    try:
        with show_output(verbose):
            yield
    finally:
        torch.set_num_threads(threads)
