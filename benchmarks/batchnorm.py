"""What BatchNorm's running statistics cost: the AWP authors' way of gathering them beside ours, at equal weights.

    python benchmarks/batchnorm.py [--seeds 0,1,2] [--write benchmarks/batchnorm.json]

Their attack's 11 forwards and a clean one for the log, all in train mode, move the running statistics; ours move by
training's own forwards, and are recalibrated before every evaluation. In train mode statistics do not act on training,
so that one run of `digits at` (or at+ensgd) shows all three: as they gather them, as training alone does, recalibrated.
Measured: how far the statistics lie from the recalibrated ones, and what the deployed weights score with each, on the
validation images.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch

from rb_smooth.components import batchnorm, weights
from rb_smooth.components.attacks import pgd
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training import validate
from rb_smooth.training.trainer import Trainer

CPU = torch.device("cpu")


def train(method: str, seed: int) -> dict[str, dict[str, float]]:
    """One run; for each way of gathering statistics, their distance from ours and the accuracies."""
    recipe = validate.check_recipe(*resolve_config("digits", method, [f"train.seed={seed}"]))
    data = split(digits(Path("data")), validation=200, split_seed=0, select="validation")
    state = Trainer(recipe, data, CPU)
    theirs = copy.deepcopy(state.model)
    for epoch in range(recipe.train.epochs):
        state.epoch, state.batch = epoch, 0
        order = state.batch_order()
        while state.batch < state.batches:
            before = copy.deepcopy(state.model.state_dict())
            state.run_batch(order)
            _forward_as_the_authors_do(theirs, before, state)
    ways = {"authors": batchnorm.running_stats(theirs), "training": batchnorm.running_stats(state.model)}
    ways = {way: [each.clone() for each in buffers] for way, buffers in ways.items()}
    with state.evaluation_model() as model:
        ours = [each.clone() for each in batchnorm.running_stats(model)]
        results = {"recalibrated": _measured(model, ours, ours, data, recipe)}
        for way, buffers in ways.items():
            results[way] = _measured(model, buffers, ours, data, recipe)
    return results


def _forward_as_the_authors_do(theirs: torch.nn.Module, before: dict[str, torch.Tensor], state: Trainer) -> None:
    """On this minibatch: 10 attack steps and a forward at their end, training's, and a clean one after the step."""
    x, x_adv, y = state.calibration_batches[-1]
    _take_parameters(theirs, before)
    theirs.train()
    with weights.no_param_grad(theirs):
        pgd(theirs, x, y, state.objective.threat, state.objective.steps)
    with torch.no_grad():
        for _ in range(2):
            theirs(x_adv)
        _take_parameters(theirs, state.model.state_dict())
        theirs(x)


def _take_parameters(model: torch.nn.Module, source: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source[name])


def _measured(model, buffers, ours, data, recipe) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """With `buffers` as the model's running statistics."""
    with weights.swapped(batchnorm.running_stats(model), buffers):
        moving = [(a.double(), b.double()) for a, b in zip(buffers, ours, strict=True) if a.ndim]
        return {
            "distance": (sum((a - b).square().sum() for a, b in moving) / sum(b.square().sum() for _, b in moving))
            .sqrt()
            .item(),
            "clean": measure_accuracy(model, data.validation),
            "pgd20": measure_accuracy(model, data.validation, recipe.threat),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found = {}
    for method in ("at", "at+ensgd"):
        runs = [train(method, seed) for seed in seeds]
        found[method] = {
            way: {key: [run[way][key] for run in runs] for key in runs[0][way]}
            for way in ("recalibrated", "training", "authors")
        }
        for way, figures in found[method].items():
            print(method, way, {key: [round(value, 4) for value in values] for key, values in figures.items()})
    if options.write:
        about = {"command": "python benchmarks/batchnorm.py", "seeds": seeds, "points": 200, "commit": git_commit()}
        files.write_json(options.write, about | {"versions": robustbench.package_versions(), "methods": found})


if __name__ == "__main__":
    main()
