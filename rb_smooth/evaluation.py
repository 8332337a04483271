"""How robust a model is: clean accuracy, PGD, and AutoAttack standard, on points that training never saw."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

import torch
from rich.progress import Progress
from torch import Tensor, nn

from rb_smooth import bridge, files, processes, weights
from rb_smooth.attacks import crafting, pgd
from rb_smooth.batchnorm import modes_kept
from rb_smooth.console import console, progress_bars
from rb_smooth.contracts import Threat
from rb_smooth.declaration import Recipe
from rb_smooth.images import AnyImages, batches
from rb_smooth.labelling import likeliest
from rb_smooth.provenance import commit
from rb_smooth.registry import build_model
from rb_smooth.run_folder import Run
from rb_smooth.seeding import random_state_kept
from rb_smooth.splits import Dataset, fingerprint
from rb_smooth.standins import undisturbed

PGD_STEPS = 20
"""Steps of the PGD by which the best epoch is selected; Kanai et al.'s evaluation attack for CIFAR-100 and SVHN."""

FORWARDS = {"apgd-ce": 103, "apgd-t": 920, "fab-t": 1829, "square": 5004}
"""Forward passes of each attack over a batch of which no point breaks, and one to see so: the most there can be."""

BACKWARDS = {"apgd-ce": 101, "apgd-t": 909, "fab-t": 900, "square": 0}
"""Backward passes, to the input, that go with them."""


@dataclass(frozen=True)
class AttackResult:
    """robust: the share of all points that are still classified rightly after this attack and those before it."""

    robust: float
    seconds: float


@dataclass(frozen=True)
class AutoAttackResult:
    """robust: (N,) bool, True where no attack succeeded. warnings: what AutoAttack itself said."""

    robust: Tensor
    clean: float
    attacks: dict[str, AttackResult]
    warnings: list[str]


def accuracy(
    model: nn.Module,
    images: AnyImages,
    threat: Threat | None = None,
    *,
    steps: int = PGD_STEPS,
    batch_size: int = 500,
    seed: int = 0,
) -> float:
    """The share, in [0, 1], of images that `model` classifies rightly: as they are, or after PGD in `threat`.

    Images may be on the CPU. The model is evaluated in eval mode and left as found, the random state too. Of several
    processes each takes some of the batches; the share is the same for any number of them.
    """
    device = _device(model)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    with random_state_kept(), crafting(model, "eval"):
        for number in range(processes.rank(), math.ceil(len(images) / batch_size), processes.size()):
            ((x, y),) = batches(images[number * batch_size :][:batch_size], batch_size, device)
            if threat is not None:
                torch.manual_seed(seed + number)
                x = pgd(model, x, y, threat, steps)
            with torch.no_grad():
                correct += (model(x).argmax(1) == y).sum()
    return int(processes.add_up(correct)) / len(images)


def health(model: nn.Module, validation: AnyImages, train: AnyImages, threat: Threat) -> dict[str, float]:
    """By what `guards.concerns` sees that training has gone wrong, as columns of the log; shares in [0, 1].

    val_top_class: of validation images, those given the commonest class. train_clean, train_fgsm, train_pgd20: of
    training images, those classified rightly as they are, after one step of eps from a random start, and after PGD-20.
    """
    with crafting(model, "eval"):
        given = likeliest(model, validation, _device(model))
    return {
        "val_top_class": given.bincount().max().item() / len(given),
        "train_clean": accuracy(model, train),
        "train_fgsm": accuracy(model, train, threat._replace(step_size=threat.eps), steps=1),
        "train_pgd20": accuracy(model, train, threat),
    }


def autoattack(
    model: nn.Module,
    images: AnyImages,
    threat: Threat,
    *,
    classes: int,
    batch_size: int,
    seed: int,
    bars: Progress | None = None,
) -> AutoAttackResult:
    """AutoAttack standard: APGD-CE, APGD-T, FAB-T and Square in turn, each on the points that are still robust.

    Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    arXiv 2003.01690. The attacks are pyautoattack's; the loop over survivors is ours, so that its units, an attack's
    batches, can be counted and dealt. At equal batch size and seed the flags equal pyautoattack's own bit for bit, for
    any number of processes, each of which takes some of an attack's batches.
    """
    device = _device(model)
    ((x, y),) = batches(images, len(images), device)
    results: dict[str, AttackResult] = {}
    with (
        undisturbed(),
        bridge.warnings_of_autoattack() as warnings,
        modes_kept(model),
        weights.frozen(model),
        torch.no_grad(),
    ):
        model.eval()
        robust = torch.cat([model(part).argmax(1) for part in x.split(batch_size)]) == y
        robust = processes.keep_least(robust.byte()).bool()  # on which all agree, whatever their devices
        clean = robust.double().mean().item()
        for name, attack in bridge.standard_attacks(model, threat, classes, seed, device).items():
            start = time.monotonic()
            survivors = robust.nonzero().flatten().split(batch_size) if robust.any() else ()
            with _counting(model, bars, name, math.ceil(len(survivors) / processes.size())):
                for index in survivors[processes.rank() :: processes.size()]:
                    x_adv = attack(x[index], y[index])
                    robust[index] = model(x_adv).argmax(1) == y[index]
            robust = processes.keep_least(robust.byte()).bool()
            results[name] = AttackResult(robust.double().mean().item(), time.monotonic() - start)
    return AutoAttackResult(robust.cpu(), clean, results, warnings)


def score(recipe: Recipe, run: Run, data: Dataset, device: torch.device) -> None:
    """Measure best.pt in full and last.pt in short, on the first points of the test set; leaves score.json."""
    asked, threat, source = recipe.evaluate, recipe.threat, data.source
    net, classes = recipe.stage("model"), len(source.classes)
    model = build_model(net.name, net.options, data.shape, classes).to(device)
    points = data.test[: asked.n_examples].loaded()
    _load(run, "last", model)
    last = {"clean": accuracy(model, points), "pgd20": accuracy(model, points, threat)}
    _load(run, "best", model)
    best = {"clean": accuracy(model, points), "pgd20": accuracy(model, points, threat)}
    console.print(
        f"best epoch on {len(points)} test points: clean {best['clean']:.1%}, PGD-{PGD_STEPS} {best['pgd20']:.1%}; "
        "AutoAttack …"
    )
    with progress_bars() as bars:
        result = autoattack(
            model, points, threat, classes=classes, batch_size=asked.batch_size, seed=asked.seed, bars=bars
        )
    if not processes.is_first():
        return
    robust = result.robust.double().mean().item()
    run.set_score(
        {
            "asked": dict(recipe.sections["evaluate"]),
            "title": recipe.title,
            "board": source.board,
            **best,
            "autoattack": robust,
            "interval": interval(robust, len(points)),
            "attacks": {name: asdict(attack) for name, attack in result.attacks.items()},
            "warnings": result.warnings,
            "last": last,
            "n": len(points),
            "whole": len(points) == len(data.test),
            "official": source.official,
            "fingerprint": fingerprint(points),
            "threat": threat._asdict(),
            "version": asked.version,
            "seed": asked.seed,
            "batch_size": asked.batch_size,
            "selected_on": recipe.train.select,
            "training": files.read_json(run.path / "training.json"),
            "processes": processes.size(),
            "commit": commit(),
            "backend": bridge.backend(),
            "versions": bridge.versions(),
            "model": {"name": net.name, "options": dict(net.options), "shape": list(data.shape), "classes": classes},
        },
    )


def _load(run: Run, name: str, model: nn.Module) -> None:
    """The run's weights, which only the first process need be able to read."""
    processes.from_first(lambda: run.load_into(model, name))
    processes.copy_from_first(model.state_dict().values())


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share measured on n points."""
    from scipy.stats import binomtest

    bounds = binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    return float(bounds.low), float(bounds.high)


class _counting:
    """Inside, each forward pass of `model` moves the attack's bar: an attack has no other moment to report from."""

    def __init__(self, model: nn.Module, bars: Progress | None, name: str, batches: int) -> None:
        self.model, self.bars, self.name, self.batches = model, bars, name, batches

    def __enter__(self) -> None:
        if self.bars is None:
            return
        bars, total = self.bars, FORWARDS[self.name] * self.batches
        self.task = bars.add_task(f"AutoAttack {self.name}", total=total)
        self.hook = self.model.register_forward_hook(lambda *_: bars.advance(self.task))

    def __exit__(self, *exception: object) -> None:
        if self.bars is not None:
            self.hook.remove()
            self.bars.remove_task(self.task)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
