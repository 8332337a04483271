"""Who may be ranked with whom: equal ball and attack, the very same points; the published with the official alone."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import pytest
from rich.console import Console

from rb_smooth import entries, files, leaderboard
from rb_smooth.entries import Entry
from rb_smooth.refusal import Refused

SCORE = {
    "clean": 0.82,
    "pgd20": 0.53,
    "autoattack": 0.5055,
    "interval": [0.4957, 0.5153],
    "n": 10_000,
    "whole": True,
    "official": True,
    "fingerprint": "f" * 64,
    "threat": {"norm": "Linf", "eps": 8 / 255, "step_size": 2 / 255},
    "version": "standard",
}


def entered(folder, name, **changed) -> Entry:
    score = deepcopy(SCORE) | changed
    info = {"autoattack_acc": entries.percent(score["autoattack"]), "rb_smooth": {"score": score}}
    entry = Entry(folder, "cifar10", "Linf", name, info)
    files.write_json(entry.path, info)
    return entry


def printed(entry) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for each in leaderboard.standings(entry):
        console.print(each)
    return console.export_text()


def test_an_official_entry_is_ranked_among_the_published_of_its_eps(tmp_path):
    text = printed(entered(tmp_path, "mine"))
    board = entries.published("cifar10", "Linf")
    better = sum(e["best_known"] > 0.5055 for e in board["entries"] if e["eps"] == "8/255")
    assert re.search(rf"^ *{better + 1} +mine ", text, re.M)
    assert re.search(r"^ *1 +Bartoldson2024Adversarial_WRN-94-16", text, re.M)
    assert "2025-03-31" in text
    assert "Zhang2019Theoretically" not in text  # eps 0.031


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"official": False}, "official files"),
        ({"whole": False, "n": 500}, "500 points here"),
        ({"threat": SCORE["threat"] | {"eps": 0.031}}, ""),
        ({"threat": SCORE["threat"] | {"eps": 0.07}}, "none has eps 0.07"),
    ],
)
def test_what_is_not_comparable_stands_without_rank_among_the_published_and_says_why(tmp_path, changed, why):
    text = printed(entered(tmp_path, "mine", **changed))
    assert why in text
    assert ("Bartoldson" in text) is False
    assert ("Zhang2019Theoretically" in text) == (changed.get("threat", {}).get("eps") == 0.031)


def test_local_entries_of_other_points_stand_below_with_the_reason(tmp_path):
    entered(tmp_path, "other", fingerprint="e" * 64)
    entered(tmp_path, "smaller", n=100)
    entered(tmp_path, "equal", autoattack=0.6)
    text = printed(entered(tmp_path, "mine", official=False))
    assert "not ranked: other, AutoAttack 50.55 % (other test points)" in text
    assert "not ranked: smaller, AutoAttack 50.55 % (other number of points)" in text
    assert text.index("equal") < text.index("mine")


def test_equal_models_share_a_rank(tmp_path):
    for name, robust in (("a", 0.6), ("b", 0.6), ("c", 0.5)):
        entered(tmp_path, name, autoattack=robust, official=False)
    text = printed(entered(tmp_path, "mine", autoattack=0.4, official=False))
    assert [line.split()[:2] for line in text.splitlines() if "%" in line and "interval" not in line] == [
        ["1", "a"],
        ["1", "b"],
        ["3", "c"],
        ["4", "mine"],
    ]


def test_the_published_tables_are_whole_dated_and_shares():
    for dataset, threat, count in (("cifar10", "Linf", 99), ("cifar10", "L2", 21), ("cifar100", "Linf", 38)):
        board = entries.published(dataset, threat)
        assert len(board["entries"]) == count
        assert re.fullmatch("[0-9a-f]{40}", board["commit"])
        assert all(0 <= e["autoattack"] <= e["clean"] <= 1 for e in board["entries"])
        assert all(e["best_known"] <= e["autoattack"] + 1e-9 for e in board["entries"])
    assert entries.published("digits", "Linf")["entries"] == []


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "", ".hidden", "Kireev2021Effectiveness_x", "Andriushchenko2020Understanding"]
)
def test_a_name_that_could_leave_the_folder_or_confuse_robustbench_is_refused(name):
    with pytest.raises(Refused):
        entries.check_name(name)


def test_eps_is_written_as_robustbench_writes_it():
    assert [entries.eps_text(e) for e in (8 / 255, 4 / 255, 0.5, 0.15, 0.031, 128 / 255)] == [
        "8/255",
        "4/255",
        "0.5",
        "0.15",
        "0.031",
        "128/255",
    ]


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("torn")))
    with pytest.raises(OSError, match="torn"):
        files.write_json(path, {"new": 2})
    assert files.read_json(path) == {"old": 1}
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.json"]
