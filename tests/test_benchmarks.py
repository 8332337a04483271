"""The benchmarks run on tiny inputs, and the page's tables are those of the JSON; no test depends on speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import speed
import torch
from benchmark_figure import figure, from_json
from interleaved_timing import ratios, time_interleaved

from rb_smooth.core import files
from rb_smooth.core.cli import run_cli
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import replace_between

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def unchanged_results():
    """Checks afterwards that the results and their page are unchanged."""
    before = {path: path.read_bytes() for path in (speed.RESULTS, speed.PAGE) if path.exists()}
    yield
    assert before == {path: path.read_bytes() for path in before}


@pytest.fixture
def in_this_process(tmp_path, monkeypatch):
    """Parts run in this process, since a new one would spend most of its time importing torch."""

    def measured(part, toy):
        speed._measure_here(part, toy, tmp_path / "found.json")
        return files.read_json(tmp_path / "found.json")

    monkeypatch.setattr(speed, "_measure_in_subprocess", measured)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("part", speed.PARTS)
def test_a_part_runs_on_tiny_inputs_and_writes_no_result(part, unchanged_results, in_this_process, monkeypatch, capsys):
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(sys, "argv", ["speed.py", "--toy", "--only", part])
    assert run_cli(speed.main)() == 0
    assert "| what |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_part_runs_in_its_own_process(unchanged_results):
    command = [sys.executable, "benchmarks/speed.py", "--toy", "--only", "startup"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert shown.returncode == 0, shown.stderr
    assert "| what |" in shown.stdout


def test_the_pages_tables_are_those_of_the_json(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(speed.PAGE.read_text())
    speed.write_table(page, files.read_json(speed.RESULTS))
    assert page.read_text() == speed.PAGE.read_text()


def test_a_page_without_markers_is_a_user_error():
    with pytest.raises(UserError, match="<!-- speed -->"):
        replace_between("no marker here", "speed", ["a line"], "page.md")


def test_the_json_records_command_commit_versions_and_machine():
    for part, found in files.read_json(speed.RESULTS).items():
        assert found["command"].endswith(part)
        assert {"commit", "seed", "versions", "machine"} <= found.keys()
        assert {"cpu", "cores", "threads"} <= found["machine"].keys()


def test_the_order_rotates_from_round_to_round():
    calls: list[str] = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = time_interleaved(functions, seconds=0, fewest=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert [len(each) for each in times.values()] == [3, 3, 3]


def test_ratios_are_taken_within_rounds():
    assert ratios({"ours": [2.0, 9.0], "bare": [1.0, 3.0]}, "ours", "bare") == [2.0, 3.0]


def test_a_figure_meets_its_goal_by_its_median_and_survives_json():
    slow = figure("step", "×", [1.0, 1.02, 9.0], at_most=1.01)
    assert (slow.median, slow.reached) == (1.02, False)
    assert figure("step", "×", [2.3], at_least=2.2).reached
    assert not figure("step", "×", [2.1], at_least=2.2).reached
    assert (slow.goal, slow.cells[1]) == ("≤ 1.01 ×", "1.020 × (1.010 to 5.010, n = 3)")
    assert from_json(slow.to_json()) == slow


def test_a_function_is_called_as_often_as_fills_a_round():
    calls: list[str] = []
    time_interleaved({"a": lambda: calls.append("a")}, seconds=0, fewest=2, warm_up=False, round_s=1e-3)
    assert len(calls) > 1 + 2
