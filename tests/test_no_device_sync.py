"""Nothing waits for the device inside an epoch: whatever the method, a minibatch reads nothing back from it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from sync_detector import SyncDetector
from tiers import mark_slow_except, pairwise

from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import component_names
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import loop, validate
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Trainer

QUICK = ["train.epochs=1", "schedule.drops=[]", "model.width=2", "data.batch_size=16"]
AUGMENTED = "data.augment=[crop, flip, rotate]"
METHODS = list(product(*(component_names(kind) for kind in ("objective", "perturbation", "optimizer", "averaging"))))
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def source():
    return digits(Path("unused"))


def data_of(source, examples=64):
    return split(source, validation=20, split_seed=0, select="validation", train_examples=examples)


def started_trainer(source, device, method, *settings):
    """A session whose first two minibatches, in which libraries load and states are made, are behind it."""
    sections = dict(resolve_config("digits", "at", [*QUICK, AUGMENTED, *settings])[2])
    objective, perturbation, optimizer, averaging = method
    attack = {} if objective == "standard" else {"steps": 2}
    sections |= {"objective": {"name": objective} | attack, "perturbation": {"name": perturbation}}
    inner = {} if optimizer == "sgd" else {"inner_steps": 2}
    sections |= {"optimizer": {"name": optimizer} | inner, "averaging": {"name": averaging}}
    sections["evaluate"] |= {"norm": "Linf", "eps": 0.15, "step_size": 0.03}
    trainer = Trainer(validate.check_recipe("digits", "any", sections), data_of(source), device)
    order = trainer.batch_order()
    for _ in range(2):
        trainer.run_batch(order)
    return trainer, order


@pytest.mark.parametrize("method", mark_slow_except(pairwise(METHODS), METHODS), ids="+".join)
def test_a_minibatch_reads_nothing_from_the_device(source, method):
    trainer, order = started_trainer(source, torch.device("cpu"), method)
    with SyncDetector() as waits:
        for _ in range(2):
            trainer.run_batch(order)
    assert waits.operations == []


@pytest.mark.parametrize("objective", ["at", "mart"])
def test_nor_does_one_of_the_l2_ball(source, objective):
    trainer, order = started_trainer(source, torch.device("cpu"), (objective, "awp", "sgd", "none"))
    trainer.objective.threat = trainer.objective.threat._replace(norm="L2")
    with SyncDetector() as waits:
        trainer.run_batch(order)
    assert waits.operations == []


def test_an_epoch_of_more_minibatches_reads_no_more_often(source, tmp_path):
    """What is read is read at its end, progress bar and all."""
    reads = []
    for batches in (2, 4):
        recipe = validate.check_recipe(
            *resolve_config("digits", "at+awp+ensgd+wa", [*QUICK, "objective.steps=1", "train.recalibrate=1"])
        )
        with SyncDetector() as waits:
            loop.train(recipe, Run(tmp_path / str(batches)), data_of(source, 16 * batches), torch.device("cpu"))
        reads.append(waits.operations)
    assert reads[0] == reads[1] != []


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: x.index_put_([x > 0], torch.ones(())),
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: x.repeat_interleave(torch.ones(4, dtype=torch.int64)),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
    ],
)
def test_what_waits_is_seen(waiting):
    x = torch.rand(4)
    with SyncDetector() as waits:
        waiting(x)
    assert waits.operations


def test_what_does_not_wait_is_not_seen():
    x = torch.rand(4)
    with SyncDetector() as waits:
        torch.where(x > 0.5, x, 0.0)
        x[torch.tensor([1, 0])].clamp(0, 1).sort()
    assert waits.operations == []


@NEEDS_GPU
@pytest.mark.parametrize("method", METHODS, ids="+".join)
def test_on_a_gpu_a_minibatch_does_not_wait(source, method):
    """As torch itself sees it, copies from pageable memory included."""
    trainer, order = started_trainer(source, torch.device("cuda"), method, "train.compile=false")
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.run_batch(order)
    finally:
        torch.cuda.set_sync_debug_mode(before)
