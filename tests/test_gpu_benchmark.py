"""The GPU benchmark on a CPU: the compared steps compute the same, and an interrupted benchmark resumes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import gpu
import gpu_speed
import gpu_steps
import pytest
import torch
from bare_passes import BarePasses
from benchmark_runs import first_minibatch
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
def test_the_bare_passes_have_the_flops_of_our_step(data, method):
    state = gpu_steps.make_trainer(CELL, method, data, CPU)
    ours, bare = gpu_speed.training_steps(state), BarePasses(state, *first_minibatch(state))
    assert count_flops(bare) == count_flops(ours) == CELL.batch_size * bare.flop_per_image()


@pytest.mark.parametrize(("method", "more"), [("at", 0.2), ("at+awp", 0.3)])
def test_the_authors_step_has_more_flops(data, method, more):
    state = gpu_steps.make_trainer(CELL, method, data, CPU)
    theirs, bare = gpu_steps.authors_step(state, method), BarePasses(state, *first_minibatch(state))
    assert count_flops(theirs) > (1 + more) * count_flops(bare)


def test_trainers_have_the_methods_of_the_last_epoch(data):
    """TRADES' AWP begins at epoch 10."""
    assert type(gpu_steps.make_trainer(CELL, "trades+awp", data, CPU).perturbation).__name__ == "AWP"


def test_an_interrupted_benchmark_resumes(tmp_path, monkeypatch, capsys):
    out, measured = tmp_path / "out.json", []
    monkeypatch.setattr(gpu.gpu_speed, "measure_cell", lambda cell, *_: measured.append(cell) or {"goals": {}})
    dry_run = ["--toy", "--device", "cpu", "--out", str(out), "--items", "speed"]
    assert run_benchmark(monkeypatch, *dry_run, "--minutes", "-1", "--commit", "abc") == 0
    assert not measured
    assert (
        run_benchmark(monkeypatch, *dry_run, "--commit", "abc-dirty") == 0
    )  # the file it writes makes a checkout dirty
    assert len(measured) == 3
    assert run_benchmark(monkeypatch, *dry_run, "--commit", "abc") == 0
    assert len(measured) == 3
    assert run_benchmark(monkeypatch, *dry_run, "--commit", "abd") == 0
    assert len(measured) == 6
    assert run_benchmark(monkeypatch, *dry_run, "--commit", "abd", "--again") == 0
    assert len(measured) == 9
    (first, *_) = json.loads(out.read_text()).values()
    assert {"commit", "command", "seed", "versions", "machine"} <= first.keys()


@pytest.mark.slow
def test_a_cell_is_measured_on_a_cpu_with_its_goals(data):
    found = gpu_speed.measure_cell(CELL, data, CPU)
    assert found["methods"].keys() == set(gpu_steps.METHODS)
    for method in found["methods"].values():
        assert method["step_s"].keys() == {"ours", "floor", "authors"}
        assert method["ours_over_floor"]["median"] > 0
        assert method["compiled_over_ours"] is None
    assert not found["failed"]
    assert found["goals"]["EntropySGD over SGD"]["found"] > 0


@pytest.mark.slow
def test_compilation_without_graphs_may_fail_without_ending_the_benchmark(data, monkeypatch):
    real = gpu_speed.training_steps

    def failing(state):
        return (lambda: 1 // 0) if state.recipe.method == "at+awp" and state.compiled else real(state)

    monkeypatch.setattr(gpu_speed, "training_steps", failing)
    monkeypatch.setattr(gpu_speed, "METHODS", ("at", "at+awp", "at+ensgd"))
    monkeypatch.setattr(trainer, "compile_and_wrap", lambda model, *_: model)  # a compiler takes minutes
    found = gpu_speed.measure_cell(replace(CELL, without_graphs=True), data, CPU)
    assert list(found["failed"]) == ["at+awp compiled"]
    assert found["compiled"]["compiled"] == dict.fromkeys(gpu_speed.METHODS, True)
    assert found["methods"]["at"]["compiled_over_ours"]["median"] > 0
    assert found["methods"]["at+awp"]["compiled_over_ours"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--toy", "--device", "cpu"], "--out FILE"),
        (["--device", "cpu"], "expected a GPU"),
        ([], "expected a GPU, got none"),
    ],
)
def test_without_a_gpu_only_a_dry_run_into_another_file_is_accepted(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_benchmark(monkeypatch, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
