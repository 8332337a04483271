"""The benchmark on a GPU, rehearsed without one: what is compared is comparable, and it goes on where it stopped."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import gpu
import gpu_speed
import gpu_steps
import pytest
import torch
from gpu_data import random_images

from rb_smooth.components.flops import count_flops
from rb_smooth.training import trainer

CPU = torch.device("cpu")
CELL = gpu_steps.Cell("", 8, gpu.TOY, rounds=2, round_s=0.01)


@pytest.fixture(scope="module")
def data():
    return random_images(40, 20, 8)


def run_benchmark(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    return gpu.main()


@pytest.mark.parametrize("method", gpu_steps.METHODS)
def test_the_floor_computes_what_ours_computes_and_no_more(data, method):
    state = gpu_steps.make_trainer(CELL, method, data, CPU)
    ours, floor = gpu_speed.training_steps(state), gpu_steps.BarePasses(state)
    assert count_flops(floor) == count_flops(ours) == CELL.batch_size * floor.flop_per_image()


@pytest.mark.parametrize(("method", "more"), [("at", 0.2), ("at+awp", 0.3)])
def test_the_authors_way_computes_more(data, method, more):
    state = gpu_steps.make_trainer(CELL, method, data, CPU)
    ours, theirs = (count_flops(work) for work in (gpu_steps.BarePasses(state), gpu_steps.authors_step(state, method)))
    assert theirs > (1 + more) * ours


def test_methods_are_those_of_the_last_epoch(data):
    """TRADES' AWP begins at epoch 10."""
    assert type(gpu_steps.make_trainer(CELL, "trades+awp", data, CPU).perturbation).__name__ == "AWP"


def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    out, counted = tmp_path / "out.json", []
    monkeypatch.setattr(gpu.gpu_speed, "measure_cell", lambda cell, *_: counted.append(cell) or {"goals": {}})
    rehearsal = ["--toy", "--device", "cpu", "--out", str(out), "--items", "speed"]
    assert run_benchmark(monkeypatch, *rehearsal, "--minutes", "-1", "--commit", "abc") == 0
    assert not counted
    assert (
        run_benchmark(monkeypatch, *rehearsal, "--commit", "abc-dirty") == 0
    )  # the file it writes makes a checkout dirty
    assert len(counted) == 3
    assert run_benchmark(monkeypatch, *rehearsal, "--commit", "abc") == 0
    assert len(counted) == 3
    assert run_benchmark(monkeypatch, *rehearsal, "--commit", "abd") == 0
    assert len(counted) == 6
    assert run_benchmark(monkeypatch, *rehearsal, "--commit", "abd", "--again") == 0
    assert len(counted) == 9
    (first, *_) = json.loads(out.read_text()).values()
    assert {"commit", "command", "seed", "versions", "machine"} <= first.keys()


@pytest.mark.slow
def test_a_whole_item_is_measured_without_a_gpu_and_its_goals_stand_beside_it(data):
    found = gpu_speed.measure_cell(CELL, data, CPU)
    assert found["methods"].keys() == set(gpu_steps.METHODS)
    for method in found["methods"].values():
        assert method["step_s"].keys() == {"ours", "floor", "authors"}
        assert method["ours_over_floor"]["median"] > 0
        assert method["compiled_over_ours"] is None
    assert not found["failed"]
    assert found["goals"]["EntropySGD over SGD"]["found"] > 0


@pytest.mark.slow
def test_compiling_without_graphs_is_a_way_of_its_own_that_may_fail_alone(data, monkeypatch):
    real = gpu_speed.training_steps

    def stepping(state):
        return (lambda: 1 // 0) if state.recipe.method == "at+awp" and state.compiled else real(state)

    monkeypatch.setattr(gpu_speed, "training_steps", stepping)
    monkeypatch.setattr(gpu_speed, "METHODS", ("at", "at+awp", "at+ensgd"))
    monkeypatch.setattr(trainer, "compile_and_wrap", lambda model, *_: model)  # a compiler takes minutes
    found = gpu_speed.measure_cell(replace(CELL, without_graphs=True), data, CPU)
    assert list(found["failed"]) == ["at+awp compiled"]
    assert found["compiled"]["compiled"] == dict.fromkeys(gpu_speed.METHODS, True)
    assert found["methods"]["at"]["compiled_over_ours"]["median"] > 0
    assert found["methods"]["at+awp"]["compiled_over_ours"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--toy", "--device", "cpu"], "--out FILE"),
        (["--device", "cpu"], "expected a GPU"),
        ([], "expected a GPU, got none"),
    ],
)
def test_without_a_gpu_only_a_rehearsal_into_another_file_is_accepted(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_benchmark(monkeypatch, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
