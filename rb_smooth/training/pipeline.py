"""Train or resume a run, and evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rb_smooth.config import registry
from rb_smooth.config.overrides import ResolvedRecipe
from rb_smooth.config.sections import Sections
from rb_smooth.core import crashes, environment, robustbench
from rb_smooth.core.console import console, is_quiet, log_info
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import counted
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training.run_folder.log import LogRow
from rb_smooth.training.run_folder.run import Progress, Run, run_path

if TYPE_CHECKING:
    import torch

    from rb_smooth.components.models import Normalized
    from rb_smooth.config.schema import Recipe
    from rb_smooth.data.splits import DataSplits


Goal = Literal["plan", "training", "evaluation", "entry"]
"""The stage after which a run stops. plan: after printing its estimated cost."""

AfterEpoch = Callable[[Sequence[LogRow]], None]


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that change no result.

    runs, data_dir, leaderboard: folders. device: auto, cpu, cuda, cuda:1, …
    workers: processes for AutoAttack's batches; None: as many as a small network leaves idle on a CPU.
    fresh: discard the run's files. replace: replace another run's entry of the same name.
    after_epoch: called with the log after every epoch, when the state is saved; an exception from it ends the training.
    """

    runs: Path = Path("runs")
    data_dir: Path = Path("data")
    leaderboard: Path = Path("leaderboard")
    device: str = "auto"
    workers: int | None = None
    fresh: bool = False
    replace: bool = False
    until: Goal = "entry"
    after_epoch: AfterEpoch | None = None

    @property
    def starts_over(self) -> bool:
        """Whether the run's files are ignored."""
        return self.fresh or self.until == "plan"


def run_recipe(resolved: tuple[str, str, Sections], options: RunOptions) -> Run:
    """Carry out the missing stages of the run of `resolved`, (dataset, method, sections), and print its score.

    Imports no torch if the run is finished.
    """
    resolved = ResolvedRecipe(*resolved)
    run = run_path(options.runs, resolved)
    if environment.WORLD_SIZE > 1 or not _is_done(run, resolved, options):
        _run_stages(run, resolved, options)
    if environment.RANK == 0 and options.until in ("evaluation", "entry"):
        _print_score(run)
    return run


def evaluate_run(run: Run, options: RunOptions, changes: Mapping[str, Any] | None = None) -> None:
    """Evaluate a trained run by its recipe, with `changes` to `evaluate:`. The stored recipe stays unchanged.

    Evaluations are cached by these settings. Raises UserError if the run is not trained.
    """
    recipe = run.recipe
    if not run.is_trained:
        raise UserError(f"expected a trained run in {run.path}, got one without last.pt; train it first")
    evaluate = {**recipe.sections["evaluate"], **(changes or {})}
    recipe = recipe._replace(sections={**recipe.sections, "evaluate": evaluate})
    options = replace(options, fresh=False, until="evaluation")
    if environment.WORLD_SIZE > 1 or not _is_done(run, recipe, options):
        registry.check_installed(run.training.get("packages", {}))
        _run_stages(run, recipe, options, write_recipe=False)


def _is_done(run: Run, resolved: ResolvedRecipe, options: RunOptions) -> bool:
    is_done = run.is_ready if options.until == "training" else run.is_finished
    return not options.starts_over and is_done(resolved.sections)


def _run_stages(run: Run, resolved: ResolvedRecipe, options: RunOptions, write_recipe: bool = True) -> None:
    """Carry out the run's missing stages. Checks recipe, device, data and initial weights before any file is written.

    write_recipe: whether to write `resolved` to recipe.yaml.
    """
    from rb_smooth.core import distributed
    from rb_smooth.training import validate
    from rb_smooth.training.cost import choose_attack_workers
    from rb_smooth.training.validate import check_device, resolve_device

    if options.workers is not None and options.workers < 1:
        raise UserError(f"expected --workers of at least 1, got {options.workers}; correct it")
    device = resolve_device(options.device)
    with distributed.process_group():
        if distributed.rank_zero_call(lambda: _is_done(run, resolved, options)):
            return
        progress = distributed.rank_zero_call(lambda: run.progress)
        if any(distributed.all_reduce_any(_is_further(run.progress, progress))):
            distributed.abort_all(
                f"expected {run.path} on a disk that all machines share, got a run on one machine only; "
                "choose another --runs"
            )
        progress = "new" if options.starts_over else progress
        with distributed.rank_zero_first():
            recipe = validate.check_recipe(*resolved, progress)
            check_device(recipe, device)
            robustbench.import_robustbench()
            data = _load_data(recipe, options, device, progress)
            network = _build_network(recipe, data, device, progress)
            spare = choose_attack_workers(recipe, data, network)
            workers = options.workers or (spare if device.type == "cpu" else 1)
        if data.extra is not None:  # devices may disagree on pseudo-labels
            distributed.broadcast([data.extra.y])
        announces = distributed.is_rank_zero() and progress != "trained"
        if options.until == "plan":
            if announces:
                _print_estimate(recipe, data, network, device, workers)
            return
        with distributed.rank_zero_context(run.locked()), crashes.record_crash_trace(run.crash_file):
            if announces:  # runs training steps, so a crash must be recorded
                _print_estimate(recipe, data, network, device, workers)
            if write_recipe:
                distributed.rank_zero_call(lambda: _open(run, resolved, options.fresh))
            if not distributed.rank_zero_call(lambda: run.is_trained):
                from rb_smooth.training.loop import train

                train(recipe, run, data, device, network, after_epoch=options.after_epoch)
            if options.until == "training":
                return
            if not distributed.rank_zero_call(lambda: run.restore_score(resolved.sections["evaluate"])):
                from rb_smooth.training.scoring import score_run

                if distributed.is_rank_zero() and progress == "trained":
                    _print_evaluation_estimate(recipe, data, network, device, workers)
                score_run(recipe, run, data, network, device, workers)


def _is_further(one: Progress, other: Progress) -> bool:
    stages = get_args(Progress)
    return stages.index(one) > stages.index(other)


def _open(run: Run, resolved: ResolvedRecipe, fresh: bool) -> None:
    if fresh:
        run.discard()
    run.begin(resolved)


def _load_data(recipe: Recipe, options: RunOptions, device: torch.device, progress: Progress) -> DataSplits:
    """Load and split the data, on the CPU; extra images, which may be many, on `device`."""
    from rb_smooth.config.schema import load_raw_dataset
    from rb_smooth.data.image_spec import ImageSpec, known_image_spec
    from rb_smooth.data.splits import split
    from rb_smooth.training.validate import check_against_data

    section = recipe.data
    source = load_raw_dataset(recipe.sections["data"], options.data_dir)
    data = split(
        source,
        validation=section.validation,
        split_seed=section.split_seed,
        select=recipe.train.select,
        train_examples=section.train_examples,
        batch_size=section.batch_size,
    )
    image_spec = ImageSpec(data.shape, len(source.classes))
    if known_image_spec(section.name, section.options) is None:
        check_against_data(recipe, image_spec, progress)
    if section.extra is not None and progress != "trained":
        from rb_smooth.training.batches import load_extra_images

        data = replace(data, extra=load_extra_images(section.extra, image_spec, device))
    return data


def _build_network(recipe: Recipe, data: DataSplits, device: torch.device, progress: Progress) -> Normalized:
    """Build the network of estimate, training and evaluation; check its initial weights if training starts."""
    from rb_smooth.components import memory_format
    from rb_smooth.core.determinism import preserve_rng
    from rb_smooth.training.model_setup import build_network, load_initial_weights

    with preserve_rng():
        network = build_network(recipe, data)
        if progress == "new":
            load_initial_weights(network, recipe, len(data.source.classes))
            if recipe.train.channels_last is True:  # a resumed run treats `true` as `auto`
                memory_format.choose_memory_format(network, data.shape, device, requested=True)
    return network


def _print_estimate(recipe: Recipe, data: DataSplits, network: Normalized, device: torch.device, workers: int) -> None:
    from rb_smooth.training.cost import estimate_cost
    from rb_smooth.training.diagnostics import stage_warnings

    for warning in stage_warnings(recipe, len(data.train) // recipe.data.batch_size):
        console.print(f"warning: {warning}")
    if is_quiet():  # the estimate takes seconds
        return
    train = recipe.train
    if train.scaled_from is not None:
        stages = f" ({recipe.stages_text})" if recipe.stages_text else ""
        epochs = counted(train.epochs, "epoch")
        log_info(f"Schedule scaled from {counted(train.scaled_from, 'epoch')} to {epochs}{stages}")
    estimate = estimate_cost(recipe, data, network, device, environment.WORLD_SIZE, workers)
    log_info(f"{data.source.board} {recipe.title}, seed {train.seed}; {estimate.sentence}")


def _print_evaluation_estimate(
    recipe: Recipe, data: DataSplits, network: Normalized, device: torch.device, workers: int
) -> None:
    from rb_smooth.training.cost import evaluation_estimate

    if is_quiet():  # the estimate takes a moment
        return
    points, processes = data.test[: recipe.evaluate.n_examples], workers * environment.WORLD_SIZE
    estimate = evaluation_estimate(network.to(device), points, recipe.evaluate, device, processes)
    log_info(f"{data.source.board} {recipe.title}, seed {recipe.train.seed}; {estimate}")


def _print_score(run: Run) -> None:
    score = run.score or {}
    last, (low, high) = score["last"], score["interval"]
    console.print(
        f"best epoch: clean {score['clean']:.1%}, PGD-20 {score['pgd20']:.1%}, "
        f"{attack_title(score)} {score['autoattack']:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}); last epoch: clean {last['clean']:.1%}, PGD-20 {last['pgd20']:.1%}, "
        f"best minus last {100 * (score['pgd20'] - last['pgd20']):+.1f} points"
    )
