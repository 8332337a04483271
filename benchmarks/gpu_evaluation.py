"""AutoAttack standard of a briefly trained network on a GPU: seconds and flags of ours and of pyautoattack."""

from __future__ import annotations

from typing import Any

import torch
from attack_time import compare_with_pyautoattack
from gpu_steps import Cell, make_trainer, training_steps

from rb_smooth.components.checkpoints import export_state_dict
from rb_smooth.config.registry import build_model
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import measure_accuracy

BATCH_SIZE = 250
"""pyautoattack's default."""

_STEPS = 300
"""Minibatches of training: enough for points that withstand every attack."""


def measure_evaluation(
    cell: Cell, data: DataSplits, device: torch.device, points: int, steps: int = _STEPS
) -> dict[str, Any]:
    trainer = make_trainer(cell, "at", data, device)
    trainer.epoch = 0  # where the learning rate is large
    step = training_steps(trainer)
    for _ in range(steps):
        step()
    net, shape, classes = trainer.recipe.stage("model"), data.shape, len(data.source.classes)
    model = build_model(net.name, net.options, shape, classes).to(device).eval()
    with trainer.evaluation_model() as trained:
        model.load_state_dict(export_state_dict(trained))
    images, threat = data.test[:points].load(), trainer.recipe.threat
    found = compare_with_pyautoattack(model, images, threat, classes, BATCH_SIZE)
    about = {"points": len(images), "steps": steps, "batch_size": BATCH_SIZE, "clean": measure_accuracy(model, images)}
    return about | found
