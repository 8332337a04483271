"""Effect of bfloat16 and channels_last on a CPU: accuracy paired with fp32 by seed, and the time of a step.

    python benchmarks/precision.py [--epochs 15] [--seeds 0,1,2] [--write benchmarks/precision.json]

Accuracy: digits, where `auto` is fp32 because the net is small, trained in both forms from the same seeds, on one
thread; validation accuracy of the last epoch's evaluation weights. Time: one training step of a small, a medium and a
large net in four forms, interleaved, as ratios to fp32 NCHW. `auto` is bfloat16 from the size on that they suggest.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import torch
from benchmark_runs import on_digits, train_epochs
from gpu import machine
from gpu_data import random_images
from gpu_speed import spread
from gpu_steps import training_steps
from interleaved_timing import ratios, time_interleaved

from rb_smooth.components.flops import forward_flops
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.core.statistics import paired_t_test
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training import validate
from rb_smooth.training.trainer import Trainer

CPU = torch.device("cpu")
METHODS = ("at+awp", "at+awp+ensgd")
FORMS = {
    f"{precision} {'channels_last' if last else 'NCHW'}": [
        f"train.precision={precision}",
        f"train.channels_last={str(last).lower()}",
    ]
    for precision, last in product(("fp32", "bf16"), (False, True))
}
PLAIN, NARROW = "fp32 NCHW", "bf16 channels_last"
ROUNDS = 7
NETS = {  # name: recipe, settings, threads
    "small_preactresnet, 8x8, batch 64": ("digits", [], 1),
    "small_preactresnet, 32x32, batch 64": ("cifar10", ["model.name=small_preactresnet", "data.batch_size=64"], 2),
    "preactresnet18, 32x32, batch 16": ("cifar10", ["data.batch_size=16"], 2),
}


def train_run(method: str, seed: int, form: str, epochs: int) -> dict[str, float]:
    """One run on digits; accuracies on the validation images, in [0, 1]."""
    trainer = on_digits(method, f"train.seed={seed}", *FORMS[form], epochs=epochs)
    train_epochs(trainer)
    validation = trainer.data.validation
    with trainer.evaluation_model() as model:
        return {
            "clean": measure_accuracy(model, validation),
            "pgd20": measure_accuracy(model, validation, trainer.recipe.threat),
        }


def paired_interval(one: list[float], other: list[float]) -> dict[str, float]:
    """The mean of one - other, and Student's 95 % interval of it."""
    test = paired_t_test(dict(enumerate(one)), dict(enumerate(other)))
    return {key: test[key] for key in ("mean", "low", "high")}


def accuracies(seeds: list[int], epochs: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    found = {}
    for method in METHODS:
        runs = {form: [train_run(method, seed, form, epochs) for seed in seeds] for form in (PLAIN, NARROW)}
        figures = {form: {key: [run[key] for run in of] for key in of[0]} for form, of in runs.items()}
        differences = {key: paired_interval(figures[NARROW][key], figures[PLAIN][key]) for key in ("clean", "pgd20")}
        found[method] = figures | {f"{NARROW} minus {PLAIN}": differences}
        print(method, figures, differences)
    return found


def step_times(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (dataset, settings, threads) in NETS.items():
        torch.set_num_threads(threads)
        trainers = {form: _trainer(dataset, [*settings, *changes]) for form, changes in FORMS.items()}
        ways = {form: training_steps(trainer) for form, trainer in trainers.items()}
        times = time_interleaved(ways, seconds=0, fewest=rounds, round_s=0.1)
        one = trainers[PLAIN]
        found[name] = {
            "forward_flop": forward_flops(one.model, one.data.shape) * one.recipe.data.batch_size,
            "threads": threads,
            "over fp32 NCHW": {form: spread(ratios(times, form, PLAIN)) for form in FORMS},
        }
        print(name, found[name])
    return found


def _trainer(dataset: str, settings: list[str]) -> Trainer:
    """`at` on digits, or with one attack step on random images of CIFAR-10's shape."""
    if dataset == "digits":
        return on_digits("at", *settings)
    recipe = validate.check_recipe(*resolve_config(dataset, "at", [*settings, "objective.steps=1"]))
    return Trainer(recipe, random_images(138, 0, 32), CPU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=15, help="of the recipes' 40, their drops in proportion")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    here = machine(CPU)
    found = {"step": step_times(ROUNDS), "accuracy": accuracies(seeds, options.epochs)}
    if options.write:
        command = f"python benchmarks/precision.py --seeds {options.seeds} --epochs {options.epochs}"
        about = {"command": command, "commit": git_commit(), "seeds": seeds, "epochs": options.epochs, "points": 200}
        files.write_json(options.write, about | {"versions": robustbench.package_versions(), "machine": here} | found)


if __name__ == "__main__":
    main()
