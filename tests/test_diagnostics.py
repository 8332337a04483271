"""NaN, collapse and overfitting stop training or print a warning within an epoch; healthy training prints none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiers import mark_slow_except

from rb_smooth.config.overrides import resolve_config
from rb_smooth.core.errors import UserError
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import loop, measurement, trainer, validate
from rb_smooth.training.diagnostics import stage_warnings, training_warnings
from rb_smooth.training.run_folder.log import read_log
from rb_smooth.training.run_folder.resume import load_state
from rb_smooth.training.run_folder.run import Run

CPU = torch.device("cpu")
QUICK = ["objective.steps=1", "train.epochs=3", "schedule.drops=[2]", "model.width=2"]
HEALTHY_ROW = {"val_top_class": 0.12, "val_fgsm": 0.6, "val_robust": 0.5, "loss": 1.0}

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def data():
    return split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


def train_with(data, path, *settings, method="at"):
    run = Run(path)
    loop.train(validate.check_recipe(*resolve_config("digits", method, [*QUICK, *settings])), run, data, CPU)
    return run


@pytest.mark.parametrize("bad", mark_slow_except([4], [3, 4, 8]))
def test_a_nan_loss_stops_training_with_step_and_minibatch(data, tmp_path, monkeypatch, bad):
    real, seen = trainer.training_step, []

    def failing(*arguments):
        x_adv, outcome = real(*arguments)
        seen.append(arguments[5].clone())
        return x_adv, outcome._replace(loss=outcome.loss * torch.nan) if len(seen) == bad + 1 else outcome

    monkeypatch.setattr(trainer, "training_step", failing)
    where = rf"finite loss, got nan or inf at step {bad} \(epoch {bad // 3 + 1}, minibatch {bad % 3 + 1}, saved in .*\)"
    with pytest.raises(UserError, match=where):
        train_with(data, tmp_path / "run", "data.augment=[flip]")
    run = Run(tmp_path / "run")
    kept = run.load("diverged")
    assert kept["step"] == bad
    assert torch.equal(kept["x"], seen[bad])
    assert load_state(run.path)[0]["position"][2] == bad // 3 * 3  # the good state before


def test_infinite_weights_stop_training_before_they_are_saved(data, tmp_path, monkeypatch):
    real = trainer.Trainer.run_batch

    def poisoned(self, order):
        real(self, order)
        if self.t == 6:
            self.model.net[0].weight.data[0] = torch.inf

    monkeypatch.setattr(trainer.Trainer, "run_batch", poisoned)
    with pytest.raises(UserError, match=r"finite weights, got nan or inf at step 5 \(epoch 2, minibatch 3"):
        train_with(data, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert all(value.isfinite().all() for value in load_state(run.path)[0]["model"].values())
    assert all(value.isfinite().all() for value in run.load("best").values())


def test_a_nan_in_the_inner_iterate_stops_training_while_w_is_finite(data, tmp_path, monkeypatch):
    """EntropySGD's w moves once in inner_steps minibatches; until then only w' holds the NaN."""
    real = trainer.Trainer.run_batch

    def poisoned(self, order):
        real(self, order)
        if self.t == 6:
            next(self.model.parameters()).data.view(-1)[0] = torch.nan

    monkeypatch.setattr(trainer.Trainer, "run_batch", poisoned)
    with pytest.raises(UserError, match=r"finite weights, got nan or inf at step 5 \(epoch 2, minibatch 3"):
        train_with(data, tmp_path / "run", "optimizer.inner_steps=20", method="at+ensgd")
    assert all(value.isfinite().all() for value in load_state(tmp_path / "run")[0]["model"].values())


@pytest.mark.parametrize("fault", mark_slow_except(["optimizer.lr=300"], ["optimizer.lr=300", "perturbation.gamma=30"]))
def test_divergence_prints_a_warning_within_three_epochs(data, tmp_path, capsys, fault):
    run = train_with(data, tmp_path / "run", fault, method="at+awp")
    assert "warning: diverging" in capsys.readouterr().out
    assert "diverging" in json.loads((run.path / "training.json").read_text())["concerns"]["epoch 3"][-1]


def test_overfitting_to_one_step_prints_a_warning_in_its_epoch(data, tmp_path, monkeypatch, capsys):
    """Planted: from the second epoch on PGD-20 always succeeds, and FGSM as rarely as before."""
    pgd20 = iter([0.5, 0.0, 0.0])
    monkeypatch.setattr(
        loop, "measure_accuracy", lambda model, images, threat=None: 0.9 if threat is None else next(pgd20)
    )
    monkeypatch.setattr(measurement, "measure_accuracy", lambda *_, **more: 0.4 if more == {"steps": 1} else 0.0)
    run = train_with(data, tmp_path / "run")
    assert capsys.readouterr().out.count("warning: catastrophic overfitting") == 2
    concerns = json.loads((run.path / "training.json").read_text())["concerns"]
    found = [epoch for epoch, warnings in concerns.items() if "catastrophic" in " ".join(warnings)]
    assert found == ["epoch 2", "epoch 3"]


def test_standard_training_is_not_said_to_overfit_to_one_step_nor_to_attack_minibatches(
    data, tmp_path, monkeypatch, capsys
):
    """Its PGD-20 accuracy may fall to 0 while FGSM's does not, and it has no steps to raise."""
    pgd20 = iter([0.5, 0.0, 0.0])
    monkeypatch.setattr(
        loop, "measure_accuracy", lambda model, images, threat=None: 0.9 if threat is None else next(pgd20)
    )
    recipe = resolve_config("digits", "standard", [each for each in QUICK if not each.startswith("objective")])
    loop.train(validate.check_recipe(*recipe), Run(tmp_path / "run"), data, CPU)
    out = capsys.readouterr().out
    assert "warning:" not in out
    assert "minibatches clean" in out
    assert "val_fgsm" not in (tmp_path / "run" / "log.csv").read_text()


def test_a_standard_first_stage_is_not_said_to_overfit_to_one_step(data, tmp_path, monkeypatch, capsys):
    pgd20 = iter([0.5, 0.0, 0.5])
    monkeypatch.setattr(
        loop, "measure_accuracy", lambda model, images, threat=None: 0.9 if threat is None else next(pgd20)
    )
    monkeypatch.setattr(measurement, "measure_accuracy", lambda *_, **more: 0.4 if more == {"steps": 1} else 0.0)
    dataset, method, sections = resolve_config("digits", "at", QUICK)
    stages = [{"name": "standard", "from_epoch": 0}, sections["objective"] | {"from_epoch": 2}]
    recipe = validate.check_recipe(dataset, method, sections | {"objective": stages})
    loop.train(recipe, Run(tmp_path / "run"), data, CPU)
    assert "catastrophic" not in capsys.readouterr().out
    rows = read_log(tmp_path / "run" / "log.csv")
    assert [row["val_fgsm"] for row in rows] == [None, None, 0.4]


def test_a_run_begun_before_fgsm_was_measured_on_validation_images_goes_on_without_that_warning():
    earlier = {key: value for key, value in HEALTHY_ROW.items() if key != "val_fgsm"}
    assert training_warnings([earlier, {**earlier, "val_robust": 0.01}], 10) == []
    assert training_warnings([earlier, {**HEALTHY_ROW, "val_robust": 0.01}], 10) != []


@pytest.mark.slow
def test_healthy_training_prints_no_warning(data, tmp_path, capsys):
    run = train_with(data, tmp_path / "run", method="at+awp")
    assert json.loads((run.path / "training.json").read_text())["concerns"] == {}
    assert "warning:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ([HEALTHY_ROW], {"val_top_class": 0.99}, "collapsed: 99%"),
        ([{**HEALTHY_ROW, "val_top_class": 1.0}] * 2, {"val_top_class": 1.0}, "collapsed: 100%"),
        ([HEALTHY_ROW], {"val_robust": 0.01}, "catastrophic overfitting: validation accuracy under FGSM 60%"),
        ([HEALTHY_ROW], {"loss": 2.4}, "diverging: loss 2.4 (best 1, guessing 2.3)"),
    ],
)
def test_each_warning_gives_its_numbers_and_a_fix(before, now, said):
    (warning,) = training_warnings([*before, {**HEALTHY_ROW, **now}], 10)
    assert said in warning
    assert "; " in warning


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([], {"val_top_class": 1.0, "loss": 9.0}),  # no warning in the first epoch
        ([{**HEALTHY_ROW, "val_top_class": 1.0}], {"val_top_class": 1.0}),
        ([HEALTHY_ROW], {"val_robust": 0.2}),
        ([HEALTHY_ROW], {"val_robust": 0.01, "val_fgsm": 0.1}),  # FGSM accuracy is lost too
        ([HEALTHY_ROW], {"loss": 1.4}),
        ([{**HEALTHY_ROW, "loss": 2.2}], {"loss": 2.3}),  # no worse than guessing
        ([{**HEALTHY_ROW, "loss": 2.9}], {"loss": 2.9}),  # an objective may need a few epochs
    ],
)
def test_no_warning_without_a_sign_of_failure(before, now):
    assert training_warnings([*before, {**HEALTHY_ROW, **now}], 10) == []


def plan_warnings(batches, dataset, method, *settings, epochs=None):
    return stage_warnings(
        validate.check_recipe(*resolve_config(dataset, method, list(settings), epochs=epochs)), batches
    )


def test_a_learning_rate_too_short_for_entropy_sgd_is_warned_of_with_its_numbers():
    (warning,) = plan_warnings(19, "digits", "at+ensgd", "optimizer.lr=0.1", epochs=20)
    assert "190 of" not in warning  # ten epochs at lr 0.1, where 171 are needed
    assert "95 of 340 (entropy_sgd, epochs 11 to 15, lr 0.01)" in warning
    assert "95 of 1457 (entropy_sgd, epochs 16 to 20, lr 0.001)" in warning
    (warning,) = plan_warnings(19, "digits", "at+ensgd2")
    assert ": 190 of 340 (entropy_sgd2, epochs 31 to 40, lr 0.01), " in warning


@pytest.mark.parametrize(
    ("batches", "dataset", "method", "settings"),
    [
        (382, "cifar10", "at+ensgd", []),
        (382, "cifar10", "trades+awp+ensgd", []),
        (19, "digits", "at+ensgd-tuned", []),
        (1, "digits", "at", []),  # SGD has no time constant
        (1, "digits", "at+ensgd", ["schedule.name=cosine"]),  # no rate lasts
    ],
)
def test_no_learning_rate_is_warned_of_where_the_weights_can_follow(batches, dataset, method, settings):
    assert plan_warnings(batches, dataset, method, *settings) == []


@pytest.mark.slow
def test_fgsm_is_one_step_and_catches_less_than_pgd_where_training_saw_one_step_only(data, tmp_path):
    """One-step training with large steps, which overfits to FGSM."""
    run = train_with(data, tmp_path / "run", "objective.step_size=0.3", "train.epochs=12", "model.width=8")
    last = run.path.joinpath("log.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(",")))
    assert float(row["val_fgsm"]) > float(row["val_robust"])
