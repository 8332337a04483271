"""Ranking tables: equal protocols only, published entries only with official test points."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import fake_entries
import pytest
from rich.console import Console

from rb_smooth.core import files, formatting
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard import entries
from rb_smooth.leaderboard.reports import ranking


def make_entry(folder, name, **changed):
    score = {"clean": 0.82, "pgd20": 0.53, "autoattack": 0.5055, "interval": [0.4957, 0.5153]} | changed
    return fake_entries.make_entry(folder, name, **score)


def printed(entry) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for each in ranking.ranking_table(entry):
        console.print(each)
    return console.export_text()


def test_an_official_entry_is_ranked_among_the_published_of_its_eps(tmp_path):
    text = printed(make_entry(tmp_path, "mine"))
    board = entries.published_entries("cifar10", "Linf")
    better = sum(e["best_known"] > 0.5055 for e in board["entries"] if e["eps"] == "8/255")
    assert re.search(rf"^ *{better + 1} +mine ", text, re.M)
    assert re.search(r"^ *1 +Bartoldson2024Adversarial_WRN-94-16", text, re.M)
    assert "2025-03-31" in text
    assert "Zhang2019Theoretically" not in text  # eps 0.031


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"official": False}, "test points: 10000 (SHA-256"),
        ({"whole": False, "n": 500}, "test points: 500 (SHA-256"),
        ({"threat": fake_entries.SCORE["threat"] | {"eps": 0.031}}, ""),
        ({"threat": fake_entries.SCORE["threat"] | {"eps": 0.07}}, "eps: 0.07 and 8/255"),
    ],
)
def test_incomparable_entries_are_not_ranked_among_the_published_and_the_reason_is_shown(tmp_path, changed, why):
    text = printed(make_entry(tmp_path, "mine", **changed))
    assert why in text
    assert ("Bartoldson" in text) is False
    assert ("Zhang2019Theoretically" in text) == (changed.get("threat", {}).get("eps") == 0.031)


def test_own_entries_of_other_points_are_listed_below_with_the_reason(tmp_path):
    make_entry(tmp_path, "other", official=False, fingerprint="e" * 64)
    make_entry(tmp_path, "smaller", official=False, n=100)
    make_entry(tmp_path, "equal", official=False, autoattack=0.6)
    text = printed(make_entry(tmp_path, "mine", official=False))
    assert "not ranked: other, AutoAttack 50.55% (test points: 10000 (SHA-256 eeeeeeeeeeee…) and 10000" in text
    assert "not ranked: smaller, AutoAttack 50.55% (test points: 100 (SHA-256 ffffffffffff…) and 10000" in text
    assert text.index("equal") < text.index("mine")


def test_many_entries_of_other_points_are_one_line(tmp_path):
    for number in range(4):
        make_entry(tmp_path, f"other{number}", official=False, n=100 + number)
    text = printed(make_entry(tmp_path, "mine", official=False))
    assert "not ranked: 4 entries with another eps, attack or test points; `compare` names them" in text
    assert "other0" not in text


def test_selection_on_the_test_set_is_marked(tmp_path):
    assert "mine (selected on test)" in printed(make_entry(tmp_path, "mine", selected_on="test"))
    assert "selected on" not in printed(make_entry(tmp_path, "mine", selected_on="validation"))


def test_published_rows_show_autoattack_and_lower_known_accuracies(tmp_path):
    text = printed(make_entry(tmp_path, "mine", autoattack=0.7))
    board = {e["name"]: e for e in entries.published_entries("cifar10", "Linf")["entries"]}
    shown = [e for name, e in board.items() if f"{name} " in text and e["best_known"] < e["autoattack"]]
    assert shown
    for entry in shown:
        (line,) = [line for line in text.splitlines() if f" {entry['name']} " in line]
        assert f"{entry['autoattack']:.2%}" in line
        assert f"{entry['best_known']:.2%} by others" in line


@pytest.mark.parametrize(
    "content", ["[]", "null", '"x"', "{}", '{"rb_smooth": null}', '{"rb_smooth": {"score": []}}', "{"]
)
def test_invalid_files_do_not_prevent_the_table(tmp_path, content, capsys):
    mine = make_entry(tmp_path, "mine")
    (mine.path.parent / "stray.json").write_text(content)
    (mine.path.parent / "folder.json").mkdir()
    half = json.loads(mine.path.read_text())
    half["rb_smooth"]["score"]["autoattack"] = "x"
    files.write_json(mine.path.parent / "half.json", half)
    text = printed(mine)
    assert capsys.readouterr().err.count("skipped") == 3
    assert "mine" in text


def test_equal_models_share_a_rank(tmp_path):
    for name, robust in (("a", 0.6), ("b", 0.6), ("c", 0.5)):
        make_entry(tmp_path, name, autoattack=robust, official=False)
    text = printed(make_entry(tmp_path, "mine", autoattack=0.4, official=False))
    assert [line.split()[:2] for line in text.splitlines() if "%" in line and "interval" not in line] == [
        ["1", "a"],
        ["1", "b"],
        ["3", "c"],
        ["4", "mine"],
    ]


def test_published_tables_are_complete_and_dated():
    for dataset, threat, count in (("cifar10", "Linf", 99), ("cifar10", "L2", 21), ("cifar100", "Linf", 38)):
        board = entries.published_entries(dataset, threat)
        assert len(board["entries"]) == count
        assert re.fullmatch("[0-9a-f]{40}", board["commit"])
        assert all(0 <= e["autoattack"] <= e["clean"] <= 1 for e in board["entries"])
        assert all(e["best_known"] <= e["autoattack"] + 1e-9 for e in board["entries"])
    assert entries.published_entries("digits", "Linf")["entries"] == []


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "", ".hidden", "Kireev2021Effectiveness_x", "Andriushchenko2020Understanding"]
)
def test_names_with_paths_or_of_robustbench_are_rejected(name):
    with pytest.raises(UserError):
        files.validate_name(name)


@pytest.mark.parametrize("name", ["..", "x" * 300, "a b"])
def test_names_that_no_file_can_have_are_rejected(name):
    with pytest.raises(UserError):
        files.validate_name(name)


def test_eps_text_is_robustbench_notation():
    assert [formatting.eps_text(e) for e in (8 / 255, 4 / 255, 0.5, 0.15, 0.031, 128 / 255)] == [
        "8/255",
        "4/255",
        "0.5",
        "0.15",
        "0.031",
        "128/255",
    ]


def test_file_writes_are_atomic(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("torn")))
    with pytest.raises(OSError, match="torn"):
        files.write_json(path, {"new": 2})
    assert files.read_json(path) == {"old": 1}
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # permissions of a new file
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.json"]
