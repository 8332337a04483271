"""TensorBoard shows every epoch of the log once, also for resumed runs; it is optional."""

from __future__ import annotations

import importlib.util
import time
from itertools import count
from types import SimpleNamespace

import pytest
from fake_logs import log_rows

from rb_smooth.training.run_folder.reporting import TensorBoardWriter

pytest.importorskip("tensorboard")


@pytest.fixture(autouse=True)
def _a_second_passes_between_processes(monkeypatch):
    """TensorBoard orders event files by the second in their names."""
    from tensorboard.summary.writer import event_file_writer

    clock = count(int(time.time()))
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(clock)))


def read(folder):
    """{tag: [(step, value), …]}, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(each.step, pytest.approx(each.value)) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }


def test_each_column_is_a_scalar_at_the_number_of_epochs_done(tmp_path):
    scalars = TensorBoardWriter(tmp_path)
    log = log_rows(3, val_w_clean=lambda epoch: 0.5, clamped=lambda epoch: 0.1 if epoch == 1 else None)
    for epoch in range(1, 4):
        scalars.write(log[:epoch])
    scalars.close()
    shown = read(tmp_path)
    assert set(shown) == {
        "lr",
        "loss",
        "train/robust_in_minibatches",
        "val/clean",
        "val/robust",
        "val/w_clean",
        "seconds",
        "clamped",
    }
    assert shown["val/clean"] == [(1, 0.6), (2, 0.61), (3, 0.62)]
    assert shown["clamped"] == [(2, 0.1)]


def test_each_epoch_is_written_to_disk(tmp_path):
    TensorBoardWriter(tmp_path).write(log_rows(1, best=0))  # and the process is killed
    assert read(tmp_path)["loss"] == [(1, 2.0)]


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_resumed_run_loses_and_repeats_no_point(tmp_path, kept):
    """Killed after the third epoch, and resumed from the state after `kept` epochs."""
    TensorBoardWriter(tmp_path).write(log_rows(3))
    again = TensorBoardWriter(tmp_path)
    log = log_rows(5)
    for epoch in range(kept, 6):
        again.write(log[:epoch])
    again.close()
    assert read(tmp_path)["loss"] == [(epoch + 1, row["loss"]) for epoch, row in enumerate(log)]


def test_an_open_tensorboard_shows_no_point_twice(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    TensorBoardWriter(tmp_path).write(log_rows(3))
    open_one = EventAccumulator(str(tmp_path)).Reload()
    again = TensorBoardWriter(tmp_path)
    again.write(log_rows(2))
    again.close()
    assert [each.step for each in open_one.Reload().Scalars("loss")] == [1, 2]


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    scalars = TensorBoardWriter(tmp_path / "tensorboard")
    scalars.write(log_rows(3))
    scalars.close()
    assert not list(tmp_path.iterdir())
