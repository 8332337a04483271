"""The benchmarks run, on something tiny; how fast, no test asks. Their table says what their JSON says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import speed
from figures import figure, from_json
from interleaved import interleaved, ratios

from rb_smooth import files
from rb_smooth.refusal import Refused

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", speed.PARTS)
def test_the_part_runs_on_something_tiny_and_leaves_no_result(part):
    before = {path: path.read_bytes() for path in (speed.RESULTS, speed.README) if path.exists()}
    command = [sys.executable, "benchmarks/speed.py", "--toy", "--only", part]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert shown.returncode == 0, shown.stderr
    assert "| what |" in shown.stdout
    assert before == {path: path.read_bytes() for path in before}


def test_the_readme_says_what_the_json_says(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(speed.README.read_text())
    speed.write_table(readme, files.read_json(speed.RESULTS))
    assert readme.read_text() == speed.README.read_text()


def test_a_readme_without_its_markers_is_refused():
    with pytest.raises(Refused, match="<!-- speed -->"):
        speed.between("speed", "no marker here", ["a line"])


def test_the_json_names_what_each_part_was_measured_with():
    for part, found in files.read_json(speed.RESULTS).items():
        assert found["command"].endswith(part)
        assert {"commit", "seed", "versions", "machine"} <= found.keys()
        assert {"cpu", "cores", "threads"} <= found["machine"].keys()


def test_contenders_take_turns_and_each_begins_in_turn():
    heard: list[str] = []
    contenders = {name: lambda name=name: heard.append(name) for name in "abc"}
    times = interleaved(contenders, seconds=0, fewest=3)
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
