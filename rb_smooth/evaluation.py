"""How robust a model is: clean accuracy, PGD, and AutoAttack, on points that training never saw."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth import bridge, files, processes
from rb_smooth.attacks import crafting, pgd
from rb_smooth.console import console, progress_bars
from rb_smooth.contracts import Threat
from rb_smooth.declaration import Recipe
from rb_smooth.entries import attack_title
from rb_smooth.exactness import full_float32
from rb_smooth.images import AnyImages, batches
from rb_smooth.labelling import likeliest
from rb_smooth.protocols import autoattack
from rb_smooth.provenance import commit
from rb_smooth.registry import build_model
from rb_smooth.run_folder import Run
from rb_smooth.seeding import random_state_kept
from rb_smooth.splits import Dataset, fingerprint
from rb_smooth.units import UnitStore

PGD_STEPS = 20
"""Steps of the PGD by which the best epoch is selected; Kanai et al.'s evaluation attack for CIFAR-100 and SVHN."""


def accuracy(
    model: nn.Module,
    images: AnyImages,
    threat: Threat | None = None,
    *,
    steps: int = PGD_STEPS,
    batch_size: int = 500,
    seed: int = 0,
) -> float:
    """The share, in [0, 1], of images that `correct` says are classified rightly."""
    return share(correct(model, images, threat, steps=steps, batch_size=batch_size, seed=seed))


def correct(
    model: nn.Module,
    images: AnyImages,
    threat: Threat | None = None,
    *,
    steps: int = PGD_STEPS,
    batch_size: int = 500,
    seed: int = 0,
) -> Tensor:
    """(N,) bool, on the CPU: which images `model` classifies rightly: as they are, or after PGD in `threat`.

    Images may be on the CPU. The model is evaluated in eval mode and left as found, the random state too. Of several
    processes each takes some of the batches; the flags are the same for any number of them.
    """
    device = _device(model)
    flags = torch.zeros(len(images), dtype=torch.uint8, device=device)
    with random_state_kept(), crafting(model, "eval"):
        for number in range(processes.rank(), math.ceil(len(images) / batch_size), processes.size()):
            part = slice(number * batch_size, (number + 1) * batch_size)
            ((x, y),) = batches(images[part], batch_size, device)
            if threat is not None:
                torch.manual_seed(seed + number)
                x = pgd(model, x, y, threat, steps)
            with torch.no_grad():
                flags[part] = model(x).argmax(1) == y
    return processes.add_up(flags).bool().cpu()


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


def score(recipe: Recipe, run: Run, data: Dataset, device: torch.device, workers: int = 1) -> None:
    """Measure best.pt in full and last.pt in short, on the first points of the test set; leaves score.json.

    workers: processes among which AutoAttack's batches are dealt. What they find is kept in the run's folder as it
    comes: an evaluation that was stopped goes on from there.
    """
    asked, threat, source = recipe.evaluate, recipe.threat, data.source
    net, classes = recipe.stage("model"), len(source.classes)
    model = build_model(net.name, net.options, data.shape, classes).to(device)
    points = data.test[: asked.n_examples].loaded()
    _load(run, "last", model)
    with full_float32():
        last = {"clean": accuracy(model, points), "pgd20": accuracy(model, points, threat)}
        _load(run, "best", model)
        withstood = correct(model, points, threat)
        best = {"clean": accuracy(model, points), "pgd20": share(withstood)}
    console.print(
        f"best epoch on {len(points)} test points: clean {best['clean']:.1%}, PGD-{PGD_STEPS} {best['pgd20']:.1%}; "
        f"{attack_title(recipe.sections['evaluate'])} …"
    )
    batches_each = math.ceil(math.ceil(len(points) / asked.batch_size) / processes.size())
    workers = min(workers, batches_each)
    store = UnitStore(run.path, _binding(recipe, run, points, device))
    processes.from_first(store.open)
    with progress_bars() as bars:
        result = autoattack(
            model,
            points,
            threat,
            classes=classes,
            batch_size=asked.batch_size,
            seed=asked.seed,
            version=asked.version,
            standing=None if asked.version == "standard" else withstood,
            workers=workers,
            store=store,
            bars=bars,
        )
    if not processes.is_first():
        return
    robust = share(result.robust)
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
            "processes": processes.size() * workers,
            "commit": commit(),
            "backend": bridge.backend(),
            "versions": bridge.versions(),
            "model": {"name": net.name, "options": dict(net.options), "shape": list(data.shape), "classes": classes},
        },
    )


def _binding(recipe: Recipe, run: Run, points: AnyImages, device: torch.device) -> dict[str, Any]:
    """Everything that AutoAttack's findings depend on; torch and the kind of device, since each rounds in its way."""
    asked = recipe.evaluate
    return {
        "weights": processes.from_first(lambda: files.sha256(run.path / "best.pt")),
        "points": fingerprint(points),
        "n": len(points),
        "threat": recipe.threat._asdict(),
        "version": asked.version,
        "batch_size": asked.batch_size,
        "seed": asked.seed,
        "backend": bridge.backend(),
        "torch": torch.__version__,
        "device": device.type,
    }


def _load(run: Run, name: str, model: nn.Module) -> None:
    """The run's weights, which only the first process need be able to read."""
    processes.from_first(lambda: run.load_into(model, name))
    processes.copy_from_first(model.state_dict().values())


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share measured on n points."""
    from scipy.stats import binomtest

    bounds = binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    return float(bounds.low), float(bounds.high)


def share(flags: Tensor) -> float:
    """The share of (N,) bool flags that are up, in [0, 1]."""
    return flags.double().mean().item()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
