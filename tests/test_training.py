"""The loop: exact resume, a look at the deployed model that leaves no trace, stages, selection, schedules."""

from __future__ import annotations

import csv
import math
import signal
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from interruptions import stop_after
from model_snapshots import equal_snapshots, snapshot
from run_program import run_program
from tiers import mark_slow_except

from rb_smooth import recipe as recipe_program
from rb_smooth.components import batchnorm, schedules
from rb_smooth.components.checkpoints import export_state_dict
from rb_smooth.config import registry, resolver
from rb_smooth.config import yaml as config_yaml
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import worker_pool
from rb_smooth.core.determinism import AUGMENT, derive_seed
from rb_smooth.core.errors import Interrupted, UserError
from rb_smooth.core.worker_pool import catch_stop_signals
from rb_smooth.data.augmentations import flip
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training import loop, measurement, trainer, validate
from rb_smooth.training.run_folder.run import Run

CPU = torch.device("cpu")
QUICK = [
    "data.train_examples=200",
    "data.validation=60",
    "objective.steps=2",
    "train.epochs=3",
    "schedule.drops=[2]",
    "model.width=4",
]

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def source():
    return digits(Path("unused"))


def recipe_and_data(source, method="at+ensgd", *settings):
    inner = ["optimizer.inner_steps=2"] if "ensgd" in method else []  # several outer steps even in so short a run
    recipe = validate.check_recipe(*resolve_config("digits", method, [*QUICK, *inner, *settings]))
    section = recipe.data
    data = split(
        source,
        validation=section.validation,
        split_seed=0,
        select=recipe.train.select,
        train_examples=section.train_examples,
    )
    return recipe, data


def trained(source, path, *arguments):
    recipe, data = recipe_and_data(source, *arguments)
    run = Run(path)
    loop.train(recipe, run, data, CPU)
    return run


@pytest.fixture(scope="module")
def uninterrupted(source, tmp_path_factory):
    """A run of the method that nothing has stopped; one of each."""
    return cache(lambda method: trained(source, tmp_path_factory.mktemp("runs") / "whole", method))


@pytest.mark.parametrize(
    "method", mark_slow_except(["at+awp+ensgd+wa"], ["at", "at+awp+ensgd+wa", "trades+awp+ensgd2+wa", "mart"])
)
@pytest.mark.parametrize(
    "batches", mark_slow_except([4], [0, 1, 4])
)  # of three in an epoch: first, inside, in the second epoch
def test_a_stopped_run_goes_on_to_the_very_same_end(source, tmp_path, monkeypatch, uninterrupted, method, batches):
    whole = uninterrupted(method)
    with monkeypatch.context() as patched:
        stop_after(patched, batches)
        with pytest.raises(Interrupted, match="same command"):
            trained(source, tmp_path / "parts", method)
    assert not Run(tmp_path / "parts").is_trained
    torch.rand(5)  # the world moves on
    parts = trained(source, tmp_path / "parts", method)
    for name in ("best", "last"):
        one, other = whole.load(name), parts.load(name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    rows = [list(csv.DictReader((run.path / "log.csv").open())) for run in (whole, parts)]
    timeless = [[{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in r] for r in rows]
    assert timeless[0] == timeless[1]
    assert len(timeless[0]) == 3
    assert not (parts.path / "resume.pt").exists()


def test_signals_are_given_back(source, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    stop_after(monkeypatch, 1)
    with pytest.raises(Interrupted):
        trained(source, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_training_leaves_the_global_random_state_as_found(source, tmp_path):
    before = torch.random.get_rng_state()
    trained(source, tmp_path / "run")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_a_seed_fixes_everything_and_another_changes_it(source, tmp_path, uninterrupted):
    one, again = uninterrupted("at+ensgd").load("last"), trained(source, tmp_path / "2").load("last")
    other = trained(source, tmp_path / "3", "at+ensgd", "train.seed=1").load("last")
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("method", ["at+ensgd", "at+ensgd+wa"])
def test_looking_at_the_deployed_model_leaves_no_trace(source, method):
    state = trainer.Trainer(*recipe_and_data(source, method), CPU)
    for _ in range(3):
        state.run_batch(state.batch_order())
    before, deployed = snapshot(state.model), [w.clone() for w in state.averaging.weights(state.optimizer.deployed())]
    statistics = state.model.net[4].running_mean.clone()
    with state.evaluation_model() as model:
        assert not model.training
        assert all(torch.equal(p, w) for p, w in zip(model.parameters(), deployed))
        assert not torch.equal(model.net[4].running_mean, statistics)  # recalibrated
    assert equal_snapshots(before, snapshot(state.model))
    with pytest.raises(ZeroDivisionError), state.evaluation_model():
        raise ZeroDivisionError
    assert equal_snapshots(before, snapshot(state.model))


@pytest.mark.parametrize("method", mark_slow_except(["at+ensgd+wa"], ["at", "at+ensgd", "at+ensgd+wa"]))
def test_what_is_saved_is_what_is_deployed_recalibrated(source, tmp_path, monkeypatch, method):
    """w or its average, not the chain nor the initial weights; statistics from the last minibatches at w."""
    trainers = []
    real = trainer.Trainer.__init__
    monkeypatch.setattr(
        trainer.Trainer, "__init__", lambda self, *a, **k: (real(self, *a, **k), trainers.append(self))[0]
    )
    run = trained(source, tmp_path / "run", method)
    (state,) = trainers
    last, names = run.load("last"), [name for name, _ in state.model.named_parameters()]
    deployed = state.averaging.weights(state.optimizer.deployed())
    assert all(torch.equal(last[name], w) for name, w in zip(names, deployed))
    torch.manual_seed(derive_seed(0, 0))
    initial = trainer.Trainer(state.recipe, split(source, validation=60, split_seed=0, select="validation"), CPU).model
    assert any(not torch.equal(last[name], p) for name, p in initial.named_parameters())
    if method != "at":
        assert any(not torch.equal(last[name], p) for name, p in state.model.named_parameters())
    if method == "at+ensgd+wa":
        assert any(not torch.equal(last[name], w) for name, w in zip(names, state.optimizer.deployed()))
    with torch.no_grad():
        for p, w in zip(state.model.parameters(), deployed):
            p.copy_(w)
    batchnorm.recalibrate(state.model.train(), state.objective, state.calibration_batches)
    assert all(torch.equal(last[key], value) for key, value in state.model.state_dict().items())


def test_recalibrate_zero_leaves_statistics_alone(source):
    state = trainer.Trainer(*recipe_and_data(source, "at", "train.recalibrate=0"), CPU)
    state.run_batch(state.batch_order())
    statistics = state.model.net[4].running_mean.clone()
    with state.evaluation_model() as model:
        assert torch.equal(model.net[4].running_mean, statistics)


def test_the_last_minibatches_are_kept_as_training_saw_them(source):
    state = trainer.Trainer(*recipe_and_data(source, "at", "train.recalibrate=2", "data.batch_size=32"), CPU)
    for _ in range(4):
        state.run_batch(state.batch_order())
    assert len(state.calibration_batches) == 2
    x, x_adv, y = state.calibration_batches[-1]
    index = state.batch_order().train[3]
    assert torch.equal(x, state.data.train.x[index].float() / 255)
    assert torch.equal(y, state.data.train.y[index])
    assert 0 < (x_adv - x).abs().max() <= 0.15 + 1e-6


def test_each_epoch_is_one_pass_in_a_fresh_order(source):
    state = trainer.Trainer(*recipe_and_data(source, "at"), CPU)
    first = state.batch_order().train
    assert first.shape == (3, 64)  # the last, incomplete minibatch is dropped
    assert len(set(first.flatten().tolist())) == 3 * 64
    assert torch.equal(first, state.batch_order().train)
    state.epoch = 1
    assert not torch.equal(first, state.batch_order().train)


def test_the_best_epoch_is_the_earliest_of_the_most_robust(source, tmp_path, monkeypatch):
    shares = iter([0.9, 0.3, 0.9, 0.5, 0.9, 0.5])  # clean and robust, epoch by epoch
    monkeypatch.setattr(loop, "measure_accuracy", lambda *_: next(shares))
    run = trained(source, tmp_path / "run", "at")
    rows = list(csv.DictReader((run.path / "log.csv").open()))
    assert [row["best"] for row in rows] == ["True", "True", "False"]
    assert any(not torch.equal(run.load("best")[key], run.load("last")[key]) for key in run.load("best"))


def test_training_accuracy_of_the_deployed_weights_is_of_a_fixed_sample_of_all_classes(source, tmp_path, monkeypatch):
    """Even of images in the order of their classes, as those of a folder are."""
    seen = []

    def capture(model, images, threat=None, **more):
        if len(images) == 40 and not more:  # FGSM, on validation images, says its steps
            seen.append((images.y, dict(export_state_dict(model))))
        return real(model, images, threat, **more)

    real = measurement.measure_accuracy
    monkeypatch.setattr(measurement, "measure_accuracy", capture)
    monkeypatch.setattr(measurement, "SAMPLE_IMAGES", 40)
    monkeypatch.setattr(measurement, "EVERY", 1)
    recipe, data = recipe_and_data(source, "at+ensgd")
    data = replace(data, train=data.train[data.train.y.argsort(stable=True)])
    run = Run(tmp_path / "run")
    loop.train(recipe, run, data, CPU)
    assert all(torch.equal(y, seen[0][0]) for y, _ in seen)
    assert (seen[0][0].bincount(minlength=10) >= 3).all()
    assert len(seen[0][0]) == 40
    last = run.load("last")
    assert all(torch.equal(value, seen[-1][1][key]) for key, value in last.items())


def test_standard_training_selects_by_clean_accuracy(source, tmp_path, monkeypatch):
    shares = iter([0.5, 0.9, 0.6, 0.1, 0.4, 0.9])
    monkeypatch.setattr(loop, "measure_accuracy", lambda *_: next(shares))
    recipe, data = recipe_and_data(source, "at")
    sections = dict(recipe.sections) | {"objective": {"name": "standard"}}
    sections["evaluate"] = sections["evaluate"] | {"norm": "Linf", "eps": 0.15, "step_size": 0.03}
    run = Run(tmp_path / "run")
    loop.train(validate.check_recipe("digits", "standard", sections), run, data, CPU)
    rows = list(csv.DictReader((run.path / "log.csv").open()))
    assert [row["best"] for row in rows] == ["True", "True", "False"]


def test_stages_of_the_objective_are_selected_by_the_last_ones_threat(source, tmp_path, monkeypatch):
    """Else a warm-up without attack, whose clean accuracy is high, would be best for ever."""
    recipe, data = recipe_and_data(source, "at")
    attack = dict(recipe.sections["objective"])
    stages = [{"name": "standard", "from_epoch": 0}, attack | {"from_epoch": 2}]
    recipe = validate.check_recipe("digits", "staged", dict(recipe.sections) | {"objective": stages})
    shares = iter([0.9, 0.1, 0.9, 0.2, 0.8, 0.3])
    monkeypatch.setattr(loop, "measure_accuracy", lambda *_: next(shares))
    loop.train(recipe, Run(tmp_path / "run"), data, CPU)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [row["best"] for row in rows] == ["True", "True", "True"]


def test_a_stop_that_comes_twice_at_once_is_one_and_a_later_one_acts_at_once(monkeypatch):
    """A batch system signals every process, and torchrun passes on what it gets; a person presses Ctrl-C again."""
    before, went_on = signal.signal(signal.SIGINT, signal.default_int_handler), 0  # in the background it is ignored
    try:
        with pytest.raises(KeyboardInterrupt), catch_stop_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            went_on = len(stop)
            monkeypatch.setattr(worker_pool, "_REPEAT_WINDOW_S", 0.0)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("went on once more")
        assert went_on == 2
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_stop_after_the_last_epoch_resumes_to_the_same_end(source, tmp_path, monkeypatch):
    recipe, data = recipe_and_data(source, "at+ensgd")
    stages = [dict(recipe.sections["optimizer"]) | {"from_epoch": 0}, {"name": "sgd", "from_epoch": 2}]
    recipe = validate.check_recipe("digits", "staged", dict(recipe.sections) | {"optimizer": stages})
    loop.train(recipe, Run(tmp_path / "whole"), data, CPU)
    real = loop.end_epoch

    def interrupted(trainer, run):
        if trainer.epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return real(trainer, run)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="3 of 3 epochs and 0 minibatches"):
        patched.setattr(loop, "end_epoch", interrupted)
        loop.train(recipe, Run(tmp_path / "parts"), data, CPU)
    loop.train(recipe, Run(tmp_path / "parts"), data, CPU)
    one, other = Run(tmp_path / "whole").load("last"), Run(tmp_path / "parts").load("last")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_another_precision_or_foreign_state_is_refused_at_resume(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, 1)
        trained(source, tmp_path / "run", "at")
    with pytest.raises(UserError, match=r"train\.precision=fp32"):
        trained(source, tmp_path / "run", "at", "train.precision=bf16")
    with pytest.raises(UserError, match="--fresh"):
        trained(source, tmp_path / "run", "at", "model.width=5")


def test_augmentation_and_schedule_reach_every_minibatch(source, monkeypatch):
    recipe, data = recipe_and_data(source, "at", "data.augment=[flip]", "data.batch_size=50")
    recipe = validate.check_recipe("digits", "at", dict(recipe.sections) | {"schedule": {"name": "cosine"}})
    state = trainer.Trainer(recipe, data, CPU)
    rates, batches = [], []
    for _ in range(4):
        state.run_batch(state.batch_order())
        rates.append(state.optimizer.param_groups[0]["lr"])
        batches.append(state.calibration_batches[-1][0])
    assert rates == [0.1 * schedules.cosine()(batch / 4, 3) for batch in range(4)]
    for batch, x in enumerate(batches):
        plain = state.data.train.x[state.batch_order().train[batch]].float() / 255
        drawing = torch.Generator().manual_seed(derive_seed(0, AUGMENT, batch))
        assert torch.equal(x, flip()(plain, drawing))
        assert not torch.equal(x, plain)


def test_a_new_stage_starts_a_fresh_optimizer_from_the_deployed_weights(source):
    recipe, data = recipe_and_data(source, "at+ensgd")
    chain = dict(recipe.sections["optimizer"])
    stages = [chain | {"from_epoch": 0}, {"name": "sgd", "lr": 0.05, "from_epoch": 1}]
    recipe = validate.check_recipe("digits", "staged", dict(recipe.sections) | {"optimizer": stages})
    state = trainer.Trainer(recipe, data, CPU)
    for _ in range(3):
        state.run_batch(state.batch_order())
    assert state.optimizer.param_groups[0]["k"] == 1  # an open inner loop
    deployed = [w.clone() for w in state.optimizer.deployed()]
    averaging, old = state.averaging, state.optimizer
    state.start_stage(0)
    assert state.optimizer is old
    state.start_stage(1)
    assert type(state.optimizer).__name__ == "SGD"
    assert all(torch.equal(p, w) for p, w in zip(state.model.parameters(), deployed))
    assert not state.optimizer.state
    assert state.averaging is averaging
    assert state.rates == [0.05]


def test_after_a_switch_the_schedule_goes_on_in_absolute_epochs_on_the_new_stages_rate(source):
    recipe, data = recipe_and_data(source, "at", "schedule.drops=[1, 2]")
    stages = [{"name": "sgd", "lr": 0.1, "from_epoch": 0}, {"name": "entropy_sgd", "lr": 0.8, "from_epoch": 1}]
    state = trainer.Trainer(
        validate.check_recipe("digits", "s", dict(recipe.sections) | {"optimizer": stages}), data, CPU
    )
    rates = []
    for epoch in range(3):
        state.start_stage(epoch)
        state.epoch, state.batch = epoch, 0
        for _ in range(3):
            state.run_batch(state.batch_order())
            rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1] * 3 + [0.08] * 3 + [0.008] * 3)


@pytest.mark.slow
def test_with_averaging_the_average_is_validated_and_saved_and_raw_w_is_a_further_column(
    source, tmp_path, monkeypatch, uninterrupted
):
    plain, seen = uninterrupted("at+ensgd"), []
    real = loop.measure_accuracy
    monkeypatch.setattr(loop, "measure_accuracy", lambda m, *a: (seen.append(m.net[0].weight.clone()), real(m, *a))[1])
    run = trained(source, tmp_path / "run", "at+ensgd+wa")
    rows = list(csv.DictReader((run.path / "log.csv").open()))
    assert {"val_clean", "val_robust", "val_w_clean", "val_w_robust"} <= rows[0].keys()
    average, _, raw, _ = seen[-4:]
    assert torch.equal(average, run.load("last")["net.0.weight"])
    assert not torch.equal(raw, average)
    assert "val_w_clean" not in plain.path.joinpath("log.csv").read_text()


def test_what_is_exported_is_fp32_on_the_cpu_whatever_the_model_is_in(net):
    state = export_state_dict(net.bfloat16())
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    assert all(value.device.type == "cpu" for value in state.values())


@pytest.mark.slow
def test_a_staged_run_resumes_at_the_switch(source, tmp_path, monkeypatch):
    recipe, data = recipe_and_data(source, "at+ensgd")
    chain = dict(recipe.sections["optimizer"])
    stages = [{"name": "sgd", "from_epoch": 0}, chain | {"from_epoch": 1}, {"name": "sgd", "lr": 0.01, "from_epoch": 2}]
    recipe = validate.check_recipe("digits", "staged", dict(recipe.sections) | {"optimizer": stages})
    loop.train(recipe, Run(tmp_path / "whole"), data, CPU)
    for batches in (2, 3):  # the last minibatch before a switch; the first after it
        with monkeypatch.context() as patched, pytest.raises(Interrupted):
            stop_after(patched, batches)
            loop.train(recipe, Run(tmp_path / str(batches)), data, CPU)
        loop.train(recipe, Run(tmp_path / str(batches)), data, CPU)
        one, other = Run(tmp_path / "whole").load("last"), Run(tmp_path / str(batches)).load("last")
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_an_optimizer_reports_is_a_column_of_the_log_empty_where_another_was_in_force(source, tmp_path):
    recipe, data = recipe_and_data(source, "at+ensgd2", "optimizer.gamma=1e9")
    second_order = dict(recipe.sections["optimizer"]) | {"from_epoch": 1}
    stages = [{"name": "sgd", "from_epoch": 0}, second_order, {"name": "sgd", "from_epoch": 2}]
    recipe = validate.check_recipe("digits", "staged", dict(recipe.sections) | {"optimizer": stages})
    loop.train(recipe, Run(tmp_path / "run"), data, CPU)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [row["clamped"] == "" for row in rows] == [True, False, True]
    assert float(rows[1]["clamped"]) > 0.5  # gamma is absurd: nearly every weight meets the floor


def test_the_schedule_reaches_the_optimizer(uninterrupted):
    rows = list(csv.DictReader((uninterrupted("at+ensgd").path / "log.csv").open()))
    rates = [float(row["lr"]) for row in rows]
    assert rates[0] == rates[1]
    assert rates[2] == pytest.approx(rates[0] / 10)


def test_the_average_is_of_what_is_deployed_after_every_minibatch(source):
    state = trainer.Trainer(*recipe_and_data(source, "at+ensgd+wa", "averaging.decay=0"), CPU)
    for _ in range(3):
        state.run_batch(state.batch_order())
        deployed = state.optimizer.deployed()
        assert all(torch.equal(a, w) for a, w in zip(state.averaging.weights(deployed), deployed))
    assert any(not torch.equal(p, w) for p, w in zip(state.model.parameters(), deployed))


def test_every_minibatch_draws_noise_of_its_own(source):
    """The same noise again and again would be a drift, not a diffusion."""
    settings = ("optimizer.inner_lr=1e-30", "optimizer.noise=1e12", "optimizer.inner_steps=10", "optimizer.beta=0")
    state = trainer.Trainer(*recipe_and_data(source, "at+ensgd", *settings), CPU)
    chain = [[p.detach().clone() for p in state.model.parameters()]]
    for _ in range(3):
        state.run_batch(state.batch_order())
        chain.append([p.detach().clone() for p in state.model.parameters()])
    weight = [points[0].flatten() for points in chain]
    steps = torch.stack([after - before for before, after in pairwise(weight)])
    assert steps.std() > 1e-4
    assert torch.corrcoef(steps).fill_diagonal_(0).abs().max() < 0.7


@pytest.mark.parametrize("standardise", [True, False])
def test_inputs_are_standardised_inside_the_model_or_not_at_all(source, standardise):
    recipe, data = recipe_and_data(source, "at", f"data.standardise={standardise}")
    model = trainer.Trainer(recipe, data, CPU).model
    assert model.mean.item() == pytest.approx(source.normalisation[0][0] if standardise else 0)
    assert model.std.item() == pytest.approx(source.normalisation[1][0] if standardise else 1)


def test_schedules_are_their_formulas():
    drops = schedules.piecewise(drops=[100, 150], factor=0.1)
    assert [drops(e, 200) for e in (0, 99.99, 100, 149.5, 150)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert schedules.constant()(77, 200) == 1
    assert [schedules.cosine()(e, 200) for e in (0, 50, 100, 200)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0]
    )


def test_bf16_trains_with_fp32_weights_and_takes_the_gradient_where_the_perturbation_put_them(source, monkeypatch):
    """A cached cast of the weights would serve them as they were before the perturbation."""
    settings = ("train.precision=bf16", "perturbation.gamma=0.5", "optimizer.momentum=0", "optimizer.weight_decay=0")
    moved = {}
    for cached in (True, False):
        state = trainer.Trainer(*recipe_and_data(source, "at+awp", *settings), CPU)
        real = torch.autocast
        monkeypatch.setattr(
            trainer.torch, "autocast", lambda *a, cache_enabled, r=real, **k: r(*a, cache_enabled=False, **k)
        )
        if cached:
            monkeypatch.setattr(trainer.torch, "autocast", real)
        state.run_batch(state.batch_order())
        moved[cached] = [p.detach().clone() for p in state.model.parameters()]
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in state.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(moved[True], moved[False]))


@pytest.mark.slow
def test_weights_of_chosen_epochs_are_kept_and_test_accuracy_is_logged_if_asked(source, tmp_path):
    recipe, data = recipe_and_data(source, "at+wa", "train.keep=[0,2]", "train.log_test=30")
    run = Run(tmp_path / "run")
    loop.train(recipe, run, data, CPU)
    kept = sorted(path.stem for path in run.path.glob("epoch-*.pt"))
    assert kept == ["epoch-0", "epoch-2"]
    rows = list(csv.DictReader((run.path / "log.csv").open()))
    for column in ("test_clean", "test_robust"):
        assert all(0 <= float(row[column]) <= 1 for row in rows)
    for column in ("test_w_clean", "test_w_robust", "train_clean", "train_pgd20"):
        assert [bool(row[column]) for row in rows] == [False, False, True]
    model = trainer.Trainer(recipe, data, CPU).model
    run.load_into(model, "epoch-2")
    assert measure_accuracy(model, data.test[:30]) == float(rows[1]["test_clean"])


def test_a_run_resolves_checks_and_builds_no_more_often_than_needed(tmp_path, monkeypatch, short_attacks):
    """At most, with where:

    models: the check of the recipe, the network of estimate, training and evaluation, two for the entry's round trip,
    and one without memory that counts the parameters. recipe files: the run's recipe, and the shipped one, which
    decides the folder's name. YAML: each setting, the shipped recipe, recipe.yaml, the papers that entries name.
    options: of seven components, and again where data and models are built. trainers: of estimate and training.
    """
    monkeypatch.chdir(tmp_path)
    validate._check_model.cache_clear()
    config_yaml._load.cache_clear()
    counts: Counter[str] = Counter()

    def count(owner, name, key=lambda *args: ""):
        function = getattr(owner, name)

        def counted(*args, **more):
            counts[name + key(*args)] += 1
            return function(*args, **more)

        monkeypatch.setattr(owner, name, counted)

    count(registry, "construct_component", lambda kind, *_: f" {kind}")
    count(registry, "configurable_options")
    count(resolver, "recipe_files")
    count(config_yaml.yaml, "load")
    count(trainer.Trainer, "__init__")
    settings = ["data.train_examples=128", "objective.steps=1", "model.width=2", "evaluate.version=quick"]
    arguments = ["--epochs=1", "--n-examples=8", *(f"--set={setting}" for setting in settings)]
    assert run_program(recipe_program.main, "digits", "at", *arguments) == 0
    assert 1 <= counts["construct_component model"] <= 5
    assert 1 <= counts["recipe_files"] <= 2
    assert 1 <= counts["load"] <= len(settings) + 4
    assert 1 <= counts["configurable_options"] <= 12
    assert 1 <= counts["__init__"] <= 2
