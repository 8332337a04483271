"""The examples run as they are shown, with AutoAttack's iterations cut short."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
SENTENCE = r"clean \d+\.\d%, PGD-20 \d+\.\d%, upper bound \(quick, not AutoAttack\) \d+\.\d% .* on 10 points"


@pytest.fixture
def example_output(tmp_path, monkeypatch, capsys, short_attacks):
    """What an example prints with --quick, and the folder in which it ran."""

    def run(name):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, "--quick"])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out, tmp_path

    return run


def test_a_plain_loop_trains_by_our_parts_alone(example_output):
    text, place = example_output("plain_loop.py")
    assert re.search(r"epoch 1/1  loss \d\.\d{3}\n", text)
    assert re.search(rf"^{SENTENCE}, Linf eps 0\.15", text, re.MULTILINE)
    assert not list(place.iterdir())


def test_a_network_of_timms_on_a_folder_is_trained_measured_and_entered(example_output):
    text, place = example_output("timm_folder.py")
    assert re.search(rf"^trades\+awp_test_byobnet: {SENTENCE}, Linf eps 8/255", text, re.MULTILINE)
    board = place / "demo" / "timm_folder" / "leaderboard"
    assert (board / "model_info" / "folder-digits" / "Linf" / "trades+awp_test_byobnet.json").exists()


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"plain_loop.py", "timm_folder.py"}
