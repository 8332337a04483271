"""AutoAttack standard on a briefly trained network: ours beside pyautoattack called plainly, seconds and flags."""

from __future__ import annotations

import time
from typing import Any

import torch
from gpu_speed import synchronise
from gpu_steps import Cell, make_trainer
from torch import Tensor

from rb_smooth.components.checkpoints import export_state_dict
from rb_smooth.config.registry import build_model
from rb_smooth.core.robustbench_shims import isolate_autoattack
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.evaluation.autoattack import run_autoattack

PLAIN_BATCH_SIZE = 250
"""What pyautoattack takes by default."""

_STEPS = 300
"""Minibatches of training: enough for points that withstand, and seconds."""

_SEED = 0


def measure_evaluation(
    cell: Cell, data: DataSplits, device: torch.device, points: int, steps: int = _STEPS
) -> dict[str, Any]:
    """At pyautoattack's batch size the flags are to be equal; with all points in one batch they need not be."""
    trainer = make_trainer(cell, "at", data, device)
    trainer.epoch = 0  # where the learning rate is large
    while trainer.t < steps:
        trainer.batch = 0
        order = trainer.batch_order()
        while trainer.batch < trainer.batches and trainer.t < steps:
            trainer.run_batch(order)
    net, shape, classes = trainer.recipe.stage("model"), data.shape, len(data.source.classes)
    model = build_model(net.name, net.options, shape, classes).to(device)
    with trainer.evaluation_model() as deployed:
        model.load_state_dict(export_state_dict(deployed))
    images, threat = data.test[:points].load(), trainer.recipe.threat
    x, y = images.x.to(device).float() / 255, images.y.to(device)

    def ours(batch_size: int) -> Tensor:
        return run_autoattack(model, images, threat, classes=classes, batch_size=batch_size, seed=_SEED).robust

    def plainly() -> Tensor:
        from pyautoattack import AutoAttack

        with isolate_autoattack():
            adversary = AutoAttack(model.eval(), norm=threat.norm, eps=threat.eps, seed=_SEED, device=device)
            _, y_adv = adversary.run_standard_evaluation(x, y)
        return (y_adv.to(device) == y).cpu()

    ways = {"ours": lambda: ours(PLAIN_BATCH_SIZE), "plain": plainly}
    if len(images) > PLAIN_BATCH_SIZE:  # else it is one batch already
        ways["ours, one batch"] = lambda: ours(len(images))
    flags: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for way, run in ways.items():
        synchronise(device)
        start = time.perf_counter()
        flags[way] = run()
        synchronise(device)
        seconds[way] = time.perf_counter() - start
    return {
        "points": len(images),
        "steps": steps,
        "batch_size": PLAIN_BATCH_SIZE,
        "clean": measure_accuracy(model, images),
        "robust": {way: flag.double().mean().item() for way, flag in flags.items()},
        "seconds": seconds,
        "plain_over_ours": seconds["plain"] / seconds["ours"],
        "flags_that_differ": int((flags["ours"] != flags["plain"]).sum()),
    }
