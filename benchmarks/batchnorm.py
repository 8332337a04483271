"""Effect of how BatchNorm's running statistics are collected: the AWP authors' way and ours, at equal weights.

    python benchmarks/batchnorm.py [--seeds 0,1,2] [--write benchmarks/batchnorm.json]

In the authors' scripts the attack's 11 forward passes and a clean one for the log, in train mode, update the running
statistics. Ours are updated by the training passes only and recalibrated before every evaluation. In train mode they do
not influence training, so one run of `digits at` (or at+ensgd) shows all three: the authors', training's, recalibrated.
Measured are the distance from the recalibrated statistics, and validation accuracy with each.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from benchmark_runs import on_digits, train_epochs

from rb_smooth.components import batchnorm, weights
from rb_smooth.components.attacks import pgd
from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training.trainer import Trainer


def train(method: str, seed: int) -> dict[str, dict[str, float]]:
    """One run; for each way of collecting statistics, their distance from ours and the accuracies."""
    trainer = on_digits(method, f"train.seed={seed}")
    theirs = copy.deepcopy(trainer.model)
    train_epochs(trainer, lambda before: _forward_as_the_authors_do(theirs, before, trainer))
    ways = {"authors": batchnorm.running_stats(theirs), "training": batchnorm.running_stats(trainer.model)}
    ways = {way: [each.clone() for each in buffers] for way, buffers in ways.items()}
    with trainer.evaluation_model() as model:
        ours = [each.clone() for each in batchnorm.running_stats(model)]
        return {way: _measure(model, buffers, ours, trainer) for way, buffers in {"recalibrated": ours, **ways}.items()}


def _forward_as_the_authors_do(theirs: torch.nn.Module, before: dict[str, torch.Tensor], trainer: Trainer) -> None:
    """On the last minibatch: 10 attack steps, a forward pass, the training pass, and a clean one after the step."""
    x, x_adv, y = trainer.calibration_batches[-1]
    _take_parameters(theirs, before)
    theirs.train()
    with weights.no_param_grad(theirs):
        pgd(theirs, x, y, trainer.objective.threat, trainer.objective.steps)
    with torch.no_grad():
        for _ in range(2):
            theirs(x_adv)
        _take_parameters(theirs, trainer.model.state_dict())
        theirs(x)


def _take_parameters(model: torch.nn.Module, source: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source[name])


def _measure(
    model: torch.nn.Module, buffers: list[torch.Tensor], ours: list[torch.Tensor], trainer: Trainer
) -> dict[str, float]:
    """With `buffers` as the model's running statistics."""
    with weights.swapped(batchnorm.running_stats(model), buffers):
        moving = [(a.double(), b.double()) for a, b in zip(buffers, ours, strict=True) if a.ndim]
        return {
            "distance": (sum((a - b).square().sum() for a, b in moving) / sum(b.square().sum() for _, b in moving))
            .sqrt()
            .item(),
            "clean": measure_accuracy(model, trainer.data.validation),
            "pgd20": measure_accuracy(model, trainer.data.validation, trainer.recipe.threat),
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
