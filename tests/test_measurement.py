"""What is measured after an epoch: how often, and how many passes it takes, of which `--plan` gives the time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import cost, loop, measurement, validate
from rb_smooth.training.model_setup import build_network
from rb_smooth.training.run_folder.log import read_log
from rb_smooth.training.run_folder.run import Run

CPU = torch.device("cpu")
QUICK = ["objective.steps=1", "train.epochs=3", "schedule.drops=[2]", "model.width=2", "train.recalibrate=0"]

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def data():
    return split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


def test_everything_is_measured_after_every_fifth_epoch_and_the_last():
    assert [epoch + 1 for epoch in range(12) if measurement.is_complete(epoch, 12)] == [5, 10, 12]


@pytest.mark.parametrize("method", ["at", "at+wa", "standard"])
def test_the_passes_of_all_that_is_measured_are_counted(data, tmp_path, monkeypatch, method):
    monkeypatch.setattr(measurement, "EVERY", 2)
    settings = QUICK[method == "standard" :]  # which has no objective.steps
    recipe = validate.check_recipe(*resolve_config("digits", method, [*settings, "train.log_test=30"]))
    images = Counter()

    def measure(trainer, run):
        def count(model, inputs, logits):
            images["forward"] += len(logits)
            images["backward"] += len(logits) * logits.requires_grad

        with trainer.model.register_forward_hook(count):
            return real(trainer, run)

    real, run = loop.end_epoch, Run(tmp_path / "run")
    monkeypatch.setattr(loop, "end_epoch", measure)
    loop.train(recipe, run, data, CPU)
    assert (images["forward"], images["backward"]) == measurement.count_passes(recipe, data)
    found = [row["train_pgd20"] is not None for row in read_log(run.path / "log.csv")]
    assert found == [False, True, True]


def test_the_estimate_has_the_time_of_all_that_is_measured(data, monkeypatch):
    monkeypatch.setattr(cost, "_pass_seconds", lambda *_: (1.0, 100.0))
    recipe = validate.check_recipe(*resolve_config("digits", "at", QUICK))
    estimate = cost.estimate_cost(recipe, data, build_network(recipe, data), CPU)
    forwards, backwards = measurement.count_passes(recipe, data)
    assert estimate.validation_s == forwards + 100 * backwards
    assert " in all, AutoAttack at most " in estimate.sentence
