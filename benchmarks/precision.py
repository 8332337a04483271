"""What bfloat16 and channels_last cost and gain on a CPU: accuracy paired with fp32 by seed, and a step's time.

    python benchmarks/precision.py [--epochs 15] [--seeds 0,1,2] [--write benchmarks/precision.json]

Accuracy: digits, on which `auto` is fp32 (the net is small), trained in both forms from the same seeds: the same
images, starts and noise; on one thread. On the validation images, of what the last epoch deploys. Time: one training
step of a small, a middling and a large net in four forms, in turn, as ratios to fp32 NCHW; by them the size was chosen
from which `auto` is bfloat16.
"""

from __future__ import annotations

import argparse
import math
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import torch
from gpu import machine
from gpu_data import random_images
from gpu_speed import spread, time_interleaved_on_device
from gpu_steps import training_steps

from rb_smooth.components.flops import forward_flops
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import DataSplits, split
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


def train_run(data: DataSplits, method: str, seed: int, form: str, epochs: int) -> dict[str, float]:
    """One run; accuracies on the validation images, shares in [0, 1]."""
    recipe = validate.check_recipe(*resolve_config("digits", method, [f"train.seed={seed}", *FORMS[form]], epochs))
    trainer = Trainer(recipe, data, CPU)
    while trainer.epoch < epochs:
        order = trainer.batch_order()
        while trainer.batch < trainer.batches:
            trainer.run_batch(order)
        trainer.next_epoch()
    with trainer.evaluation_model() as model:
        return {
            "clean": measure_accuracy(model, data.validation),
            "pgd20": measure_accuracy(model, data.validation, recipe.threat),
        }


def paired_interval(one: list[float], other: list[float]) -> dict[str, float]:
    """The mean of one - other, and Student's 95 % interval of it."""
    from scipy.stats import t

    differences = [a - b for a, b in zip(one, other, strict=True)]
    mean, n = statistics.mean(differences), len(differences)
    half = t.ppf(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def accuracies(seeds: list[int], epochs: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    data, found = _digits(), {}
    for method in METHODS:
        runs = {form: [train_run(data, method, seed, form, epochs) for seed in seeds] for form in (PLAIN, NARROW)}
        figures = {form: {key: [run[key] for run in of] for key in of[0]} for form, of in runs.items()}
        differences = {key: paired_interval(figures[NARROW][key], figures[PLAIN][key]) for key in ("clean", "pgd20")}
        found[method] = figures | {f"{NARROW} minus {PLAIN}": differences}
        print(method, figures, differences)
    return found


def step_times(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (dataset, settings, threads) in NETS.items():
        torch.set_num_threads(threads)
        data = _digits() if dataset == "digits" else random_images(138, 0, 32)
        steps = [] if dataset == "digits" else ["objective.steps=1"]
        trainers = {
            form: Trainer(validate.check_recipe(*resolve_config(dataset, "at", [*settings, *steps, *wish])), data, CPU)
            for form, wish in FORMS.items()
        }
        ways = {form: training_steps(trainer) for form, trainer in trainers.items()}
        for way in ways.values():
            way()
        times = time_interleaved_on_device(dict.fromkeys(ways.values()), rounds, 0.1, CPU)
        plain, one = times[ways[PLAIN]], trainers[PLAIN]
        found[name] = {
            "forward_flop": forward_flops(one.model, data.shape) * one.recipe.data.batch_size,
            "threads": threads,
            "over fp32 NCHW": {
                form: spread([a / b for a, b in zip(times[way], plain, strict=True)]) for form, way in ways.items()
            },
        }
        print(name, found[name])
    return found


def _digits() -> DataSplits:
    return split(digits(Path("data")), validation=200, split_seed=0, select="validation")


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
