"""On real digits each adversarial method learns what standard training does not: a sign that none is reversed."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from tiers import mark_slow_except

from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.schema import Recipe
from rb_smooth.core.threat import Threat
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training import validate
from rb_smooth.training.trainer import Trainer

METHODS = ["".join(parts) for parts in product(("at", "trades", "mart"), ("", "+awp"), ("", "+ensgd", "+ensgd2"))]
METHODS += ["at-l2", "mart-l2"]
SHORT = ["train.epochs=5", "schedule.drops=[3]", "model.width=8"]
STEP_SIZE = {"Linf": 0.08, "L2": 0.4}
CHAIN = ["optimizer.inner_steps=5", "optimizer.lr=1"]


def recipe_of(method: str, seed: int) -> Recipe:
    settings = [*SHORT, f"train.seed={seed}"]
    if method != "standard":
        settings += ["objective.steps=3", f"objective.step_size={STEP_SIZE['L2' if 'l2' in method else 'Linf']}"]
    settings += CHAIN if "ensgd" in method else []
    return validate.check_recipe(*resolve_config("digits", method, settings))


@cache
def pgd_accuracy(method: str, seed: int, threat: Threat) -> float:
    """On the validation images, after 5 epochs."""
    recipe = recipe_of(method, seed)
    data = split(digits(Path("unused")), validation=200, split_seed=0, select="validation")
    state = Trainer(recipe, data, torch.device("cpu"))
    for epoch in range(recipe.train.epochs):
        state.epoch, state.batch = epoch, 0
        order = state.batch_order()
        while state.batch < state.batches:
            state.run_batch(order)
    with state.evaluation_model() as model:
        return measure_accuracy(model, data.validation, threat)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.manual)])
@pytest.mark.parametrize("method", mark_slow_except(["mart+awp+ensgd2"], METHODS))
def test_an_adversarial_method_beats_standard_training_under_attack(method, seed):
    threat = recipe_of(method, seed).threat
    assert pgd_accuracy(method, seed, threat) > pgd_accuracy("standard", seed, threat) + 0.3
