"""The loop: exact resume, a look at the deployed model that leaves no trace, stages, selection, schedules."""

from __future__ import annotations

import csv
import math
import signal
from pathlib import Path

import pytest
import torch
from traces import same, snapshot

from rb_smooth import schedules, schema, training
from rb_smooth.data import digits
from rb_smooth.refusal import Interrupted
from rb_smooth.runs import Run
from rb_smooth.settings import gather
from rb_smooth.splits import split

CPU = torch.device("cpu")
QUICK = [
    "data.train_examples=200",
    "data.validation=60",
    "objective.steps=2",
    "train.epochs=3",
    "schedule.drops=[2]",
    "model.width=4",
]


@pytest.fixture(scope="module")
def source():
    return digits(Path("unused"))


def recipe_and_data(source, method="at+ensgd", *settings):
    recipe = schema.check(*gather("digits", method, [*QUICK, *settings]))
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
    training.train(recipe, run, data, CPU)
    return run


def stop_after(monkeypatch, batches):
    """SIGINT arrives in the middle of minibatch number `batches`."""
    real, count = training.step, iter(range(10**6))

    def interrupted(*arguments):
        if next(count) == batches:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(training, "step", interrupted)


@pytest.mark.parametrize("method", ["at", "at+awp+ensgd+wa"])
@pytest.mark.parametrize("batches", [0, 1, 4])  # three minibatches an epoch: first, inside, in the second epoch
def test_a_stopped_run_goes_on_to_the_very_same_end(source, tmp_path, monkeypatch, method, batches):
    whole = trained(source, tmp_path / "whole", method)
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


def test_a_seed_fixes_everything_and_another_changes_it(source, tmp_path):
    one, again = trained(source, tmp_path / "1").load("last"), trained(source, tmp_path / "2").load("last")
    other = trained(source, tmp_path / "3", "at+ensgd", "train.seed=1").load("last")
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("method", ["at+ensgd", "at+ensgd+wa"])
def test_looking_at_the_deployed_model_leaves_no_trace(source, method):
    state = training.Training(*recipe_and_data(source, method), CPU)
    for _ in range(3):
        state.run_batch(state.order())
    before, deployed = snapshot(state.model), [w.clone() for w in state.averaging.weights(state.optimizer.deployed())]
    statistics = state.model.net[4].running_mean.clone()
    with state.deployed() as model:
        assert not model.training
        assert all(torch.equal(p, w) for p, w in zip(model.parameters(), deployed))
        assert not torch.equal(model.net[4].running_mean, statistics)  # recalibrated
    assert same(before, snapshot(state.model))
    with pytest.raises(ZeroDivisionError), state.deployed():
        raise ZeroDivisionError
    assert same(before, snapshot(state.model))


def test_recalibrate_zero_leaves_statistics_alone(source):
    state = training.Training(*recipe_and_data(source, "at", "train.recalibrate=0"), CPU)
    state.run_batch(state.order())
    statistics = state.model.net[4].running_mean.clone()
    with state.deployed() as model:
        assert torch.equal(model.net[4].running_mean, statistics)


def test_the_last_minibatches_are_kept_as_training_saw_them(source):
    state = training.Training(*recipe_and_data(source, "at", "train.recalibrate=2", "data.batch_size=32"), CPU)
    for _ in range(4):
        state.run_batch(state.order())
    assert len(state.kept) == 2
    x, x_adv, y = state.kept[-1]
    index = state.order()[3 * 32 : 4 * 32]
    assert torch.equal(x, state.data.train.x[index].float() / 255)
    assert torch.equal(y, state.data.train.y[index])
    assert 0 < (x_adv - x).abs().max() <= 0.15 + 1e-6


def test_each_epoch_is_one_pass_in_a_fresh_order(source):
    state = training.Training(*recipe_and_data(source, "at"), CPU)
    first = state.order()
    assert sorted(first.tolist()) == list(range(200))
    assert torch.equal(first, state.order())
    state.epoch = 1
    assert not torch.equal(first, state.order())


def test_the_best_epoch_is_the_earliest_of_the_most_robust(source, tmp_path, monkeypatch):
    shares = iter([0.9, 0.3, 0.9, 0.5, 0.9, 0.5])  # clean and robust, epoch by epoch
    monkeypatch.setattr(training, "accuracy", lambda *_: next(shares))
    run = trained(source, tmp_path / "run", "at")
    rows = list(csv.DictReader((run.path / "log.csv").open()))
    assert [row["best"] for row in rows] == ["True", "True", "False"]
    assert any(not torch.equal(run.load("best")[key], run.load("last")[key]) for key in run.load("best"))


def test_standard_training_selects_by_clean_accuracy(source, tmp_path, monkeypatch):
    shares = iter([0.5, 0.9, 0.6, 0.1, 0.4, 0.9])
    monkeypatch.setattr(training, "accuracy", lambda *_: next(shares))
    recipe, data = recipe_and_data(source, "at")
    sections = dict(recipe.sections) | {"objective": {"name": "standard"}}
    sections["evaluate"] = sections["evaluate"] | {"norm": "Linf", "eps": 0.15, "step_size": 0.03}
    run = Run(tmp_path / "run")
    training.train(schema.check("digits", "standard", sections), run, data, CPU)
    rows = list(csv.DictReader((run.path / "log.csv").open()))
    assert [row["best"] for row in rows] == ["True", "True", "False"]


def test_a_new_stage_starts_a_fresh_optimizer_from_the_deployed_weights(source):
    recipe, data = recipe_and_data(source, "at+ensgd")
    chain = dict(recipe.sections["optimizer"])
    stages = [chain | {"from_epoch": 0}, {"name": "sgd", "lr": 0.05, "from_epoch": 1}]
    recipe = schema.check("digits", "staged", dict(recipe.sections) | {"optimizer": stages})
    state = training.Training(recipe, data, CPU)
    for _ in range(2):
        state.run_batch(state.order())  # an open inner loop
    deployed = [w.clone() for w in state.optimizer.deployed()]
    averaging, old = state.averaging, state.optimizer
    state.enter(0)
    assert state.optimizer is old
    state.enter(1)
    assert type(state.optimizer).__name__ == "SGD"
    assert all(torch.equal(p, w) for p, w in zip(state.model.parameters(), deployed))
    assert not state.optimizer.state
    assert state.averaging is averaging
    assert state.rates == [0.05]


def test_a_staged_run_resumes_at_the_switch(source, tmp_path, monkeypatch):
    recipe, data = recipe_and_data(source, "at+ensgd")
    chain = dict(recipe.sections["optimizer"])
    stages = [{"name": "sgd", "from_epoch": 0}, chain | {"from_epoch": 1}, {"name": "sgd", "lr": 0.01, "from_epoch": 2}]
    recipe = schema.check("digits", "staged", dict(recipe.sections) | {"optimizer": stages})
    training.train(recipe, Run(tmp_path / "whole"), data, CPU)
    for batches in (2, 3):  # the last minibatch before a switch; the first after it
        with monkeypatch.context() as patched, pytest.raises(Interrupted):
            stop_after(patched, batches)
            training.train(recipe, Run(tmp_path / str(batches)), data, CPU)
        training.train(recipe, Run(tmp_path / str(batches)), data, CPU)
        one, other = Run(tmp_path / "whole").load("last"), Run(tmp_path / str(batches)).load("last")
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_schedule_reaches_the_optimizer(source, tmp_path):
    rows = list(csv.DictReader((trained(source, tmp_path / "run").path / "log.csv").open()))
    rates = [float(row["lr"]) for row in rows]
    assert rates[0] == rates[1]
    assert rates[2] == pytest.approx(rates[0] / 10)


def test_schedules_are_their_formulas():
    drops = schedules.piecewise(drops=[100, 150], factor=0.1)
    assert [drops(e, 200) for e in (0, 99.99, 100, 149.5, 150)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert schedules.constant()(77, 200) == 1
    assert [schedules.cosine()(e, 200) for e in (0, 50, 100, 200)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0]
    )


def test_bf16_trains_with_fp32_weights(source, tmp_path):
    best = trained(source, tmp_path / "run", "at+awp+ensgd", "train.precision=bf16", "train.epochs=1").load("best")
    assert all(value.dtype in (torch.float32, torch.int64) for value in best.values())
    assert all(value.isfinite().all() for value in best.values())
