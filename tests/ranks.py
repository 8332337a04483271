"""What the processes of one job do together, for test_scale_out.py to look at: python tests/ranks.py FOLDER

Each runs as torchrun would start it; alone, it makes what two of them must equal.
"""

from __future__ import annotations

import inspect
import itertools
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torchattacks.attacks.pgd
import torchattacks.attacks.pgdl2
import torchattacks.attacks.tpgd
from few_iterations import with_few_iterations
from torch import nn

from rb_smooth.components import batchnorm
from rb_smooth.components.attacks import pgd
from rb_smooth.components.averaging.ema import EMA
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_component, component_names, find_component
from rb_smooth.core import distributed, robustbench
from rb_smooth.core.determinism import derive_seed
from rb_smooth.core.errors import Interrupted, UserError
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.evaluation import accuracy as evaluation
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.evaluation.autoattack import run_autoattack
from rb_smooth.training import diagnostics, loop, model_setup, trainer, validate
from rb_smooth.training.run_folder import reporting
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.step import training_step

CPU = torch.device("cpu")
QUICK = ["objective.steps=1", "train.epochs=3", "schedule.drops=[2]", "model.width=2", "optimizer.inner_steps=2"]
BATCH, STEPS = 8, 10  # two outer steps of EntropySGD's
OBJECTIVES = [(name, {}) for name in component_names("objective")] + [
    (name, {"norm": "L2"})
    for name in component_names("objective")
    if "norm" in inspect.signature(find_component("objective", name)).parameters
]
COMBINATIONS = list(itertools.product(OBJECTIVES, component_names("perturbation"), component_names("optimizer")))


class Start:
    """Where torchattacks draws a random start, a fixed function of the image."""

    def __init__(self, images):
        self.images = images

    def uniform_(self, low, high):
        return low + (high - low) * (1e3 * self.images).frac()

    def normal_(self):
        return (1e3 * self.images).frac() - 0.5


class FixedStarts:
    """In the place of torch in torchattacks' modules."""

    empty_like = zeros_like = staticmethod(Start)

    @staticmethod
    def randn_like(images):
        return Start(images).normal_()

    def __getattr__(self, name):
        return getattr(torch, name)


def small_net():
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers).double()


def train_by_steps(objective, perturbation, optimizer):
    """The weights that are deployed after STEPS minibatches, of each of which this process has its share."""
    model = small_net()
    trained = distributed.wrap_ddp(model, CPU)
    options = {} if objective[0] == "standard" else {"steps": 2}
    objective, perturbation = (
        build_component("objective", objective[0], {**objective[1], **options}),
        build_component("perturbation", perturbation, {}),
    )
    noise = torch.Generator()
    options = {"lr": 0.05} if optimizer == "sgd" else {"lr": 1.0, "inner_steps": 5}
    optimizer = build_component("optimizer", optimizer, options, list(model.parameters()), generator=noise)
    average = EMA()
    images = torch.Generator().manual_seed(1)
    for t in range(STEPS):
        x = torch.rand(BATCH, 2, 6, 6, generator=images, dtype=torch.float64)
        y = torch.randint(5, (BATCH,), generator=images)
        noise.manual_seed(derive_seed(0, t))
        training_step(
            trained, objective, perturbation, optimizer, average, distributed.shard(x), distributed.shard(y), t
        )
    return [w.clone() for w in optimizer.deployed()] + average.average


def equality(folder):
    for module in (torchattacks.attacks.pgd, torchattacks.attacks.pgdl2, torchattacks.attacks.tpgd):
        module.torch = FixedStarts()
    results = [train_by_steps(*combination) for combination in COMBINATIONS]
    for module in (torchattacks.attacks.pgd, torchattacks.attacks.pgdl2, torchattacks.attacks.tpgd):
        module.torch = torch
    if distributed.is_rank_zero():
        torch.save(results, folder / f"equality-{distributed.world_size()}.pt")


def statistics(folder):
    """BatchNorm's, of two layers deep in a net that are fed the same by all processes, from each one's share."""
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5)).double()
    images = torch.rand(3, BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    images[:, ::2] *= 3  # the shares are not alike
    y = torch.arange(BATCH) % 5
    batches = [(x, x, y) for x in images]
    batchnorm.recalibrate(
        model, build_component("objective", "at", {}), [tuple(map(distributed.shard, b)) for b in batches]
    )
    seen = [distributed.gather(each) for each in batchnorm.running_stats(model)]
    if distributed.is_rank_zero():
        torch.save((images, seen), folder / f"statistics-{distributed.world_size()}.pt")


def tiny(*settings):
    recipe = validate.check_recipe(
        *resolve_config("digits", "trades+awp+ensgd2+wa", [*QUICK, "data.validation=60", *settings])
    )
    return recipe, split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


def stop_rank(rank, batches):
    """SIGTERM reaches one process only, in the middle of minibatch number `batches`."""
    count = itertools.count()

    def stopping(*arguments):
        if next(count) == batches and distributed.rank() == rank:
            signal.raise_signal(signal.SIGTERM)
        return training_step(*arguments)

    trainer.training_step = stopping


def whole_and_interrupted_runs(folder):
    recipe, data = tiny()
    loop.train(recipe, Run(folder / "whole"), data, CPU)
    stop_rank(1, 7)
    try:
        loop.train(recipe, Run(folder / "interrupted"), data, CPU)
    except Interrupted as interrupted:
        write_message(folder, "interrupted", str(interrupted))
    trainer.training_step = training_step
    copy = Run(folder / "by another number")
    if distributed.is_rank_zero():
        copy.path.mkdir()
        (copy.path / "resume.pt").write_bytes((folder / "interrupted" / "resume.pt").read_bytes())
    loop.train(recipe, Run(folder / "interrupted"), data, CPU)


def drift(folder):
    """One process's weights differ by one bit in one number."""
    recipe, data = tiny()
    drifting = trainer.Trainer(recipe, data, CPU)
    drifting.run_batch(drifting.batch_order())
    diagnostics.check_replicas(drifting)
    if distributed.rank() == 1:
        with torch.no_grad():
            next(drifting.model.parameters()).view(-1).view(torch.int32)[0] ^= 1
    try:
        diagnostics.check_replicas(drifting)
    except (UserError, SystemExit) as refused:
        write_message(folder, "drift", str(refused))


def bad_loss(folder):
    """An image of one process only makes the loss no number."""
    recipe, data = tiny()
    run = Run(folder / "bad")

    def spoilt(*arguments):
        x_adv, outcome = training_step(*arguments)
        bad = distributed.rank() == 1 and arguments[-1] == 2
        return x_adv, outcome._replace(loss=outcome.loss * float("nan")) if bad else outcome

    trainer.training_step = spoilt
    try:
        loop.train(recipe, run, data, CPU)
    except (UserError, SystemExit) as refused:
        write_message(folder, "bad", str(refused))
    trainer.training_step = training_step


def other_data(folder):
    recipe, data = tiny()
    mine = (
        data
        if distributed.is_rank_zero()
        else split(digits(Path("unused")), validation=60, split_seed=1, select="validation")
    )
    try:
        loop.train(recipe, Run(folder / "other"), mine, CPU)
    except (UserError, SystemExit) as refused:
        write_message(folder, "other", str(refused))


def compiled(folder):
    """Two minibatches, of a compiled network in another layout and of a plain one."""
    model_setup._COMPILER = "aot_eager"
    weights = []
    for wish in ("false", "true"):
        recipe, data = tiny(f"train.compile={wish}", "train.channels_last=true", "model.width=8")
        trained = trainer.Trainer(recipe, data, CPU)
        for _ in range(2):
            trained.run_batch(trained.batch_order())
        diagnostics.check_replicas(trained)
        weights.append([w.clone() for w in trained.optimizer.deployed()])
    write_message(
        folder, "compiled", max((one - other).abs().max().item() for one, other in zip(*weights, strict=True))
    )


def compiling_fails(folder):
    """In one process, as where another machine has no compiler; what the others do is torchrun's to end."""
    recipe, data = tiny("train.compile=true")

    def broken(graph, inputs):
        raise ZeroDivisionError("no compiler here")

    model_setup._COMPILER = broken
    try:
        failing = trainer.Trainer(recipe, data, CPU)
        failing.run_batch(failing.batch_order())
    except UserError as refused:
        write_message(folder, "compiling", str(refused))


def attacked(folder):
    """Accuracies and AutoAttack's flags, in batches small enough that each process gets some."""
    recipe, data = tiny()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    points = data.test[:24]
    with torch.no_grad():
        points = replace(points, y=model(points.x.float() / 255).argmax(1))  # right at first, in every batch
    seeds, evaluation.pgd = [], lambda *given: (seeds.append(torch.initial_seed()), pgd(*given))[1]
    accuracies = [measure_accuracy(model, points, threat, batch_size=5) for threat in (None, recipe.threat)]
    evaluation.pgd = pgd
    write_message(folder, f"seeds-{distributed.world_size()}", seeds)
    threat = recipe.threat._replace(eps=0.04)
    result = run_autoattack(model, points, threat, classes=10, batch_size=5, seed=0)
    if distributed.is_rank_zero():
        torch.save((accuracies, result.robust), folder / f"attacked-{distributed.world_size()}.pt")


def write_message(folder, name, message):
    (folder / f"{name}-{distributed.rank()}.json").write_text(json.dumps(message))


def main(folder):
    torch.set_num_threads(1)
    robustbench.standard_attacks = with_few_iterations(robustbench.standard_attacks)
    reporting.draw_curves = lambda logs, path: None  # no test looks at them
    with distributed.process_group():
        together = (
            [whole_and_interrupted_runs, drift, bad_loss, other_data, compiled, compiling_fails]
            if distributed.world_size() > 1
            else []
        )
        for part in [equality, statistics, attacked, *together]:
            part(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
