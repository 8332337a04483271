"""One run, from its recipe to its score: train (or go on), evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rb_smooth.config import registry
from rb_smooth.config.sections import SECTIONS, Sections
from rb_smooth.core import crashes, environment, files, robustbench
from rb_smooth.core.console import console, is_quiet, log_info
from rb_smooth.core.errors import UserError
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training.run_folder.run import Progress, Run, run_path

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rb_smooth.config.schema import Recipe
    from rb_smooth.data.splits import DataSplits


Goal = Literal["plan", "training", "evaluation", "entry"]
"""How far a run is carried out. plan: not at all, but say what is ahead."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, and how far: nothing here changes a number.

    runs, data_dir, leaderboard: folders. device: auto, cpu, cuda, cuda:1, …
    workers: processes that AutoAttack's batches are dealt to; None: as many as a small net leaves idle on a CPU.
    fresh: forget what the run has done so far. replace: enter it in the place of another run's entry of its name.
    """

    runs: Path = Path("runs")
    data_dir: Path = Path("data")
    leaderboard: Path = Path("leaderboard")
    device: str = "auto"
    workers: int | None = None
    fresh: bool = False
    replace: bool = False
    until: Goal = "entry"

    @property
    def starts_over(self) -> bool:
        """Whether what is there already does not count."""
        return self.fresh or self.until == "plan"


def run_recipe(resolved: tuple[str, str, Sections], options: RunOptions) -> Run:
    """Whatever the run of `resolved`, (dataset, method, sections), still lacks; then its score in one line. A finished
    one costs no torch.
    """
    run = run_path(options.runs, *resolved)
    if environment.WORLD_SIZE > 1 or not _is_done(run, resolved[-1], options):
        _run_stages(run, resolved, options)
    if environment.RANK == 0 and options.until in ("evaluation", "entry"):
        _print_score(run)
    return run


def evaluate_run(run: Run, options: RunOptions, changes: Mapping[str, Any] | None = None) -> None:
    """Evaluate a trained run where it lies, as its recipe says but for `changes`, keys of its `evaluate:`, which stays
    as it is. What was measured so before is not measured again. Raises UserError for a run that is not trained.
    """
    header = run.header
    dataset, _, method = header["name"].partition("/")
    sections = {key: header[key] for key in SECTIONS}
    if not run.is_trained:
        raise UserError(f"expected a trained run in {run.path}, got one without last.pt; train it first")
    sections["evaluate"] = {**sections["evaluate"], **(changes or {})}
    options = replace(options, fresh=False, until="evaluation")
    if environment.WORLD_SIZE > 1 or not _is_done(run, sections, options):
        registry.check_installed(files.read_json(run.path / "training.json").get("packages", {}))
        _run_stages(run, (dataset, method, sections), options, write_recipe=False)


def _is_done(run: Run, sections: Sections, options: RunOptions) -> bool:
    is_done = run.is_ready if options.until == "training" else run.is_finished
    return not options.starts_over and is_done(sections)


def _run_stages(run: Run, resolved: tuple[str, str, Sections], options: RunOptions, write_recipe: bool = True) -> None:
    """Whatever this run still lacks. Recipe, packages, device and data are checked before anything is written.

    write_recipe: whether the run is to say of itself what `resolved` says.
    """
    from rb_smooth.core import distributed
    from rb_smooth.training import validate
    from rb_smooth.training.validate import check_device, resolve_device

    if options.workers is not None and options.workers < 1:
        raise UserError(f"expected --workers of at least 1, got {options.workers}; correct it")
    device = resolve_device(options.device)
    with distributed.process_group():
        if distributed.rank_zero_call(lambda: _is_done(run, resolved[-1], options)):
            return
        progress = distributed.rank_zero_call(lambda: run.progress)
        if any(distributed.all_reduce_any(_is_further(run.progress, progress))):
            distributed.abort_all(
                f"expected {run.path} on a disk that all machines share, got a run that only another machine has; "
                "choose another --runs"
            )
        progress = "new" if options.starts_over else progress
        with distributed.rank_zero_first():
            recipe = validate.check_recipe(*resolved, progress)
            check_device(recipe, device)
            robustbench.import_robustbench()
            data, workers = _load_data(recipe, options, device, progress)
        if data.extra is not None:  # pseudo-labels are the first one's, whatever the devices
            distributed.broadcast([data.extra.y])
        announces = distributed.is_rank_zero() and progress != "trained"
        if options.until == "plan":
            if announces:
                _announce(recipe, data, device, workers)
            return
        with distributed.rank_zero_context(run.locked()), crashes.record_crash_trace(run.crash_file):
            if announces:  # by timing steps of training: a crash of theirs is recorded as any other
                _announce(recipe, data, device, workers)
            if write_recipe:
                distributed.rank_zero_call(lambda: _open(run, resolved, options.fresh))
            if not distributed.rank_zero_call(lambda: run.is_trained):
                from rb_smooth.training.loop import train

                train(recipe, run, data, device)
            if options.until == "training":
                return
            if not distributed.rank_zero_call(lambda: run.restore_score(resolved[-1]["evaluate"])):
                score_run(recipe, run, data, device, workers)


def _is_further(one: Progress, other: Progress) -> bool:
    stages = get_args(Progress)
    return stages.index(one) > stages.index(other)


def _open(run: Run, resolved: tuple[str, str, Sections], fresh: bool) -> None:
    if fresh:
        run.discard()
    run.begin(*resolved)


def _load_data(recipe: Recipe, options: RunOptions, device: torch.device, progress: Progress) -> tuple[DataSplits, int]:
    """The data, loaded and split, on the CPU (extra images, which may be many, where they are needed); and how many
    processes attack at a time.
    """
    from rb_smooth.components import memory_format
    from rb_smooth.config.schema import load_raw_dataset
    from rb_smooth.data.image_spec import ImageSpec, known_image_spec
    from rb_smooth.data.splits import split
    from rb_smooth.training.cost import choose_attack_workers
    from rb_smooth.training.model_setup import build_network
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
    known = ImageSpec(data.shape, len(source.classes))
    if known_image_spec(section.name, section.options) is None:
        check_against_data(recipe, known, progress)
    if section.extra is not None and progress != "trained":
        from rb_smooth.training.batches import load_extra_images

        data = replace(data, extra=load_extra_images(section.extra, known, device))
    if recipe.train.channels_last is True and progress == "new":  # a run that goes on takes `true` for `auto`
        memory_format.choose_memory_format(
            build_network(recipe, data, starts_training=False), data.shape, device, requested=True
        )
    spare = choose_attack_workers(recipe, data)
    on_its_own = spare if device.type == "cpu" else 1
    return data, options.workers or on_its_own


def _announce(recipe: Recipe, data: DataSplits, device: torch.device, workers: int) -> None:
    if is_quiet():  # the estimate takes seconds
        return
    from rb_smooth.training.cost import estimate_cost

    train = recipe.train
    if train.scaled_from is not None:
        stages = f" ({recipe.stages_text})" if recipe.stages_text else ""
        log_info(
            f"{train.epochs} epochs in the shape of {train.scaled_from}: drops and stages moved in proportion{stages}"
        )
    plan = estimate_cost(recipe, data, device, environment.WORLD_SIZE, workers)
    log_info(f"{recipe.dataset} {recipe.title}, seed {train.seed}; {plan.sentence}")


def _print_score(run: Run) -> None:
    score = run.score or {}
    last, (low, high) = score["last"], score["interval"]
    console.print(
        f"best epoch: clean {score['clean']:.1%}, PGD-20 {score['pgd20']:.1%}, "
        f"{attack_title(score)} {score['autoattack']:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}); last epoch: clean {last['clean']:.1%}, PGD-20 {last['pgd20']:.1%}, "
        f"best minus last {100 * (score['pgd20'] - last['pgd20']):+.1f} points"
    )


def score_run(recipe: Recipe, run: Run, data: DataSplits, device: torch.device, workers: int = 1) -> None:
    """Measure best.pt in full and last.pt in short, on the first points of the test set; leaves score.json."""
    from rb_smooth.config.registry import build_model
    from rb_smooth.core import distributed
    from rb_smooth.core.determinism import full_float32
    from rb_smooth.evaluation.accuracy import measure_accuracy
    from rb_smooth.evaluation.evaluator import evaluate_model, network_config

    net, source = recipe.stage("model"), data.source
    shape, classes = data.shape, len(source.classes)
    model = build_model(net.name, net.options, shape, classes).to(device)
    points = data.test[: recipe.evaluate.n_examples].load()
    _load_weights(run, "last", model)
    with full_float32():
        last = {"clean": measure_accuracy(model, points), "pgd20": measure_accuracy(model, points, recipe.threat)}
    _load_weights(run, "best", model)
    measured = evaluate_model(
        model,
        points,
        recipe.threat,
        recipe.evaluate,
        classes=classes,
        weights_sha256=distributed.rank_zero_call(lambda: files.sha256(run.path / "best.pt")),
        parent=run.path,
        workers=workers,
    )
    if distributed.is_rank_zero():
        training = files.read_json(run.path / "training.json")
        run.set_score(
            {
                "asked": dict(recipe.sections["evaluate"]),
                "title": recipe.title,
                "board": source.board,
                **measured,
                "last": last,
                "whole": len(points) == len(data.test),
                "official": source.official,
                "selected_on": recipe.train.select,
                "packages": training.pop("packages", {}),
                "training": training,
                "model": network_config(net.name, net.options, shape, classes),
            }
        )


def _load_weights(run: Run, name: str, model: nn.Module) -> None:
    """The run's weights, which only the first process need be able to read."""
    from rb_smooth.core import distributed

    distributed.rank_zero_call(lambda: run.load_into(model, name))
    distributed.broadcast(model.state_dict().values())
