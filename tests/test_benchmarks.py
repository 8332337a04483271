"""The benchmarks run, on something tiny; how fast, no test asks. Their table says what their JSON says."""

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
    """The results and their page, which are to be the same afterwards."""
    before = {path: path.read_bytes() for path in (speed.RESULTS, speed.PAGE) if path.exists()}
    yield
    assert before == {path: path.read_bytes() for path in before}


@pytest.fixture
def in_this_process(tmp_path, monkeypatch):
    """Parts are carried out here: a process of its own would spend most of its time on importing torch."""

    def measured(part, toy):
        speed._measure_here(part, toy, tmp_path / "found.json")
        return files.read_json(tmp_path / "found.json")

    monkeypatch.setattr(speed, "_measure_in_subprocess", measured)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("part", speed.PARTS)
def test_the_part_runs_on_something_tiny_and_leaves_no_result(
    part, unchanged_results, in_this_process, monkeypatch, capsys
):
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(sys, "argv", ["speed.py", "--toy", "--only", part])
    assert run_cli(speed.main)() == 0
    assert "| what |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_part_is_carried_out_in_a_process_of_its_own(unchanged_results):
    command = [sys.executable, "benchmarks/speed.py", "--toy", "--only", "startup"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert shown.returncode == 0, shown.stderr
    assert "| what |" in shown.stdout


def test_the_page_says_what_the_json_says(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(speed.PAGE.read_text())
    speed.write_table(page, files.read_json(speed.RESULTS))
    assert page.read_text() == speed.PAGE.read_text()


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(UserError, match="<!-- speed -->"):
        replace_between("no marker here", "speed", ["a line"], "page.md")


def test_the_json_names_what_each_part_was_measured_with():
    for part, found in files.read_json(speed.RESULTS).items():
        assert found["command"].endswith(part)
        assert {"commit", "seed", "versions", "machine"} <= found.keys()
        assert {"cpu", "cores", "threads"} <= found["machine"].keys()


def test_contenders_take_turns_and_each_begins_in_turn():
    heard: list[str] = []
    contenders = {name: lambda name=name: heard.append(name) for name in "abc"}
    times = time_interleaved(contenders, seconds=0, fewest=3)
    assert "".join(heard) == "abc" + "abc" + "bca" + "cab"
    assert [len(each) for each in times.values()] == [3, 3, 3]


def test_a_ratio_is_taken_within_each_round():
    assert ratios({"ours": [2.0, 9.0], "floor": [1.0, 3.0]}, "ours", "floor") == [2.0, 3.0]


def test_a_figure_is_judged_by_its_median_and_survives_json():
    slow = figure("step", "×", [1.0, 1.02, 9.0], at_most=1.01)
    assert (slow.median, slow.reached) == (1.02, False)
    assert figure("step", "×", [2.3], at_least=2.2).reached
    assert not figure("step", "×", [2.1], at_least=2.2).reached
    assert from_json(slow.to_json()) == slow
