"""Stored files that are damaged or hostile: refused where they are read, in one line, while the others are shown."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import threading
import time
from copy import deepcopy
from pathlib import Path

import filelock
import pytest
from fake_entries import add_points, make_entry
from fake_logs import SCORE, log_rows, write_run
from run_program import run_program

from rb_smooth import runs
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard import __main__ as leaderboard_program
from rb_smooth.leaderboard import entries, submission
from rb_smooth.leaderboard.page import server
from rb_smooth.leaderboard.reports import bundle
from rb_smooth.leaderboard.reports.lookup import find_models
from rb_smooth.leaderboard.reports.paper_tables import as_csv
from rb_smooth.training.run_folder.log import read_log
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.run_folder.summary import summarise

ROOT = Path(__file__).parents[1]
OUTSIDE = "../../../x"


def changed(content, place, value):
    """`content` with `value` at `place`, such as `score.threat.eps`."""
    content = deepcopy(content)
    *above, last = place.split(".")
    part = content
    for key in above:
        part = part[key]
    part[last] = value
    return content


def nested(levels):
    return json.loads("[" * levels + "]" * levels)


DAMAGE = {
    "rb_smooth.score.threat.eps": [float("nan"), float("inf"), -1, "8/255", 10**400, True],
    "rb_smooth.score.threat.norm": ["5", 5, "l2", OUTSIDE],
    "rb_smooth.score.n": [10**400, 10**9, 0, -1, 2.5, "5", None],
    "rb_smooth.score.clean": [1.1, -0.1, "0.5", None, float("nan")],
    "rb_smooth.score.interval": [[0.4], [0.4, 0.5, 0.6], [0.4, 2], {}],
    "rb_smooth.score.attacks": [["none"], {"fab-t": {"robust": 2, "seconds": 1}}, {"fab-t": 0.5}],
    "rb_smooth.score.findings": [OUTSIDE, "/etc", "..", ""],
    "rb_smooth.score.checks": [[{}], [{"name": 1, "verdict": "passed", "found": ""}], {}],
    "rb_smooth.score.training": [{"seconds": "long"}, {"seconds": float("inf")}, 3],
    "rb_smooth.score.packages": [{"model.x": 1}, []],
    "rb_smooth.score.class_names": [[1], "cat"],
    "rb_smooth.model.classes": [10**400, "10", 0],
    "rb_smooth.model.shape": [[3, 32], "3, 32, 32", [3, -1, 32]],
    "rb_smooth.model": [{"name": "robustbench", "options": {"id": 1}, "shape": [3, 32, 32], "classes": 10}],
    "rb_smooth.trained_as": [f"{OUTSIDE}/at", "digits/../at", "digits"],
    "rb_smooth.weights_sha256": [OUTSIDE, "0" * 63],
    "rb_smooth.recipe": [{"data": {"name": "cifar10"}, "train": {}}, {"data": 5}, {}, [], None],
    "rb_smooth.recipe.optimizer": [{"name": ["x"]}, "sgd", [["x"]], {"lr": float("inf")}, {"lr": nested(25)}],
    "rb_smooth.anything": [nested(25), float("nan"), "\ud800", {"\ud800": 1}, 10**400],
    "rb_smooth": [None, [], {}],
    "clean_acc": ["120", "-1", 80.0, "nan", "80.0\n# x"],
    "name": [5, ["x"]],
    "additional_data": ["yes", 1],
}


@pytest.mark.parametrize("place", DAMAGE)
def test_a_damaged_entry_is_skipped_with_one_line_and_is_damaged_when_named(tmp_path, capsys, place):
    mine = make_entry(tmp_path, "mine")
    for value in DAMAGE[place]:
        damaged = mine.path.with_name("damaged.json")
        damaged.write_text(json.dumps(changed(mine.info, place, value)))
        found, complaints = entries.list_entries(tmp_path)
        assert [entry.name for entry in found] == ["mine"], value
        (line,) = capsys.readouterr().err.splitlines()
        assert [line] == complaints
        assert line.startswith(f"skipped: expected an entry of rb_smooth in {damaged}, got "), line
        for find in (lambda: entries.find_entry("damaged", tmp_path), lambda: find_models(["damaged"], tmp_path)):
            with pytest.raises(UserError, match=r"expected an entry of rb_smooth in .*; restore or delete it"):
                find()
            assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "{", "", "NaN", '"x"', "1" * 5000])
def test_no_content_of_a_file_ends_the_list(tmp_path, capsys, content):
    make_entry(tmp_path, "mine").path.with_name("damaged.json").write_text(content)
    assert [entry.name for entry in entries.list_entries(tmp_path)[0]] == ["mine"]
    assert capsys.readouterr().err.count("damaged.json") == 1


@pytest.mark.parametrize("command", ["page", "show mine", "compare mine", "table cifar10 Linf", "compare mine --json"])
def test_commands_name_a_damaged_entry_on_stderr_and_show_the_others(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    mine = make_entry(Path("leaderboard"), "mine")
    mine.path.with_name("damaged.json").write_text(json.dumps(changed(mine.info, "rb_smooth.score.n", 10**400)))
    assert run_program(leaderboard_program.main, *command.split()) == 0
    assert capsys.readouterr().err.count("skipped: expected an entry of rb_smooth in ") == 1
    for command in ("show damaged", "compare mine damaged", "verify damaged", "evaluate damaged"):
        assert run_program(leaderboard_program.main, *command.split()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "damaged.json, got rb_smooth.score.n: " in line or "too large" in line


def test_stored_entries_and_tables_are_read_unchanged_and_unknown_keys_stay(tmp_path):
    for path in (ROOT / "leaderboard/model_info").rglob("*.json"):
        assert entries.read_entry(path).info == json.loads(path.read_text())
    for path in (ROOT / "leaderboard/published").glob("*.json"):
        assert entries.published_entries(*path.stem.rsplit("-", 1)) == json.loads(path.read_text())
    entry = make_entry(tmp_path, "new", later={"a": [1]}, own={"later": None}, metadata={"later": 1})
    assert entries.read_entry(entry.path) == entry


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("board", name) for name in (OUTSIDE, "..", "a/b", "", 5)),
        *(("findings", name) for name in (OUTSIDE, "/etc")),
        *(("threat.norm", norm) for norm in (OUTSIDE, "L1")),
        *(("model.name", name) for name in (OUTSIDE,)),
        *(("n", 10**400), ("asked", []), ("last", {"clean": 2, "pgd20": 0}), ("versions", {"torch": 2})),
    ],
)
def test_a_score_that_leads_outside_or_is_out_of_bounds_enters_no_board(tmp_path, monkeypatch, capsys, place, value):
    monkeypatch.chdir(tmp_path)
    run = write_run(Path("home/runs/digits/at-s0"), log_rows(3), score=changed(SCORE, place, value))
    content = {"name": "digits/at", "run": "1", "data": {"name": "digits"}, "model": {"name": "resnet18"}}
    content |= {"train": {"seed": 0}, "evaluate": {}, "optimizer": {"name": "sgd"}}
    (run.path / "recipe.yaml").write_text(json.dumps(content))
    before = {path for path in tmp_path.rglob("*") if path.name != ".lock"}
    assert run_program(leaderboard_program.main, "submit", str(run.path), "--leaderboard", "home/runs/board") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert place == "model.name" or "home/runs/digits/at-s0/score.json" in line
    assert {path for path in tmp_path.rglob("*") if path.name != ".lock"} == before
    if place != "model.name":
        assert summarise("at-s0", run).state == "damaged"


@pytest.mark.parametrize(
    "header",
    [
        "a: 1\nb: 2\n",
        "name: 1\nrun: 2\n",
        f"name: {OUTSIDE}/at\nrun: x\n",
        "name: digits/../at\nrun: x\n",
        "name: digits/at\nrun: x\ntrain: {epochs: [1], seed: 0}\n",
        "name: digits/at\nrun: x\ntrain: 5\n",
        "name: digits/at\nrun: x\noptimizer: {lr: .inf}\n",
        "name: digits/at\nrun: x\ndata: {1: 2}\n",
        "name: digits/at\nrun: x\ndata: {day: 2020-01-01}\n",
        f"name: digits/at\nrun: x\ndata: {'[' * 30}{']' * 30}\n",
        f"name: digits/at\nrun: x\ndata: {'[' * 5000}{']' * 5000}\n",
    ],
)
def test_a_damaged_recipe_of_a_run_is_one_line(tmp_path, capsys, header):
    write_run(tmp_path / "runs/digits/other-s0", log_rows(3))
    run = write_run(tmp_path / "runs/digits/at-s0", log_rows(3), score=SCORE)
    (run.path / "recipe.yaml").write_text(header)
    assert summarise("at-s0", run).state == "damaged"
    assert run_program(runs.main, "--runs", str(tmp_path / "runs")) == 0
    assert capsys.readouterr().out.count("damaged: ") == 1
    assert run_program(leaderboard_program.main, "submit", str(run.path), "--leaderboard", str(tmp_path / "board")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "recipe.yaml" in line
    assert "--fresh" in line or "restore" in line


def test_a_run_of_which_only_the_identity_is_left_is_not_submitted(tmp_path, capsys):
    run = write_run(tmp_path / "run", log_rows(3), score=SCORE)
    (run.path / "recipe.yaml").write_text("name: digits/at\nrun: x\nfirst: {}\nsecond: 2\n")
    assert run_program(leaderboard_program.main, "submit", str(run.path), "--leaderboard", str(tmp_path / "board")) == 2
    assert "expected a whole recipe" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", '{"packages": []}', '{"packages": {"model.x": 1}}', '{"seconds": "x"}', "["])
def test_a_damaged_record_of_a_training_is_one_line(tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(UserError, match=r"training\.json"):
        Run(tmp_path).training  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new"), [("0.5,True", "2.0,True"), ("0.6,", "nan,"), ("10.0\n", f"{'9' * 400}\n"), ("True", "False")]
)
def test_a_log_with_impossible_values_is_refused(tmp_path, old, new):
    path = write_run(tmp_path / "run", log_rows(3)).path / "log.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r"expected a run's log in .*log\.csv, got "):
        read_log(path)


@pytest.mark.parametrize("cells", ["0,-1,3,,0.25", f"0,{'9' * 30},3,,0.25", "0,3,3,,nan", "0,3,3,magic,0.25", "0,3,3"])
def test_points_out_of_bounds_are_refused(tmp_path, cells):
    entry = add_points(make_entry(tmp_path, "mine", n=2, autoattack=0.5), [True, False])
    assert entries.read_per_example_results(entry).is_robust == [True, False]
    entry.points.write_text(entry.points.read_text().replace("0,3,3,,0.25", cells))
    with pytest.raises(UserError, match=r"mine\.csv, got .* in line 2"):
        entries.read_per_example_results(entry)


def test_a_damaged_published_table_counts_as_empty_and_is_named_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(entries, "data_roots", lambda: [tmp_path])
    table = {"source": "s", "commit": "c", "date": "d", "entries": [{"name": "x", "eps": "8/255\n"}]}
    files.write_json(tmp_path / "published/cifar10-Linf.json", table)
    files.write_json(tmp_path / "x.json", {"entries": ["outside"]})
    for _ in range(2):
        assert entries.published_entries("cifar10", "Linf") == {"entries": []}
    assert capsys.readouterr().err.count("skipped: expected published entries in ") == 1
    assert entries.published_entries("published", "/../../x") == {"entries": []}


def test_what_cannot_be_read_back_is_not_written(tmp_path):
    entry = make_entry(tmp_path / "other", "mine", n=0)
    entry = entries.Entry(tmp_path / "board", *(entry.dataset, entry.threat, entry.name, entry.info))
    with pytest.raises(UserError, match="expected an entry of rb_smooth in"):
        submission.write_entry(submission.Submission(entry, lambda model: None))
    assert not (tmp_path / "board").exists()


# ---- leftovers


def leftovers(folder):
    """Files and folders as writers leave them that are killed."""
    made = [folder / name for name in ("model_info/cifar10/Linf/.mine.json.abcd1234", "points/c/L2/.x.csv.abcd1234")]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    checking = folder / ".checking-abcd"
    (checking / "cifar10").mkdir(parents=True)
    (folder / ".lock").touch()
    return [*made, checking]


def test_the_next_command_sweeps_what_a_killed_writer_left_unless_one_is_at_work(tmp_path, capsys):
    make_entry(tmp_path, "mine")
    left = leftovers(tmp_path)
    with filelock.FileLock(tmp_path / ".lock"):
        assert run_program(leaderboard_program.main, "show", "mine", "--leaderboard", str(tmp_path)) == 0
        assert all(path.exists() for path in left)
    assert run_program(leaderboard_program.main, "show", "mine", "--leaderboard", str(tmp_path)) == 0
    assert not any(path.exists() for path in left)
    assert [entry.name for entry in entries.list_entries(tmp_path)[0]] == ["mine"]


def test_a_file_that_is_written_without_the_lock_is_swept_when_it_is_old(tmp_path):
    leftovers(tmp_path)
    new, old = tmp_path / ".index.html.abcd1234", tmp_path / ".index.html.efgh5678"
    for path in (new, old):
        path.write_text("half")
    os.utime(old, (0, time.time() - 2 * 3600))
    entries.sweep_leftovers(tmp_path)
    assert (new.exists(), old.exists()) == (True, False)


def test_a_run_that_is_taken_up_again_sweeps_its_leftovers(tmp_path):
    run = write_run(tmp_path / "run", log_rows(3))
    left = [run.path / name for name in (".recipe.yaml.abcd1234", ".best.pt.abcd1234", "autoattack-1/.x.json.abcd1234")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    before = {path.name for path in run.path.iterdir()} - {path.name for path in left}
    with run.locked():
        assert not any(path.exists() for path in left)
        assert {path.name for path in run.path.iterdir()} - {".lock", "crash.txt"} == before


# ---- what leaves the board


def test_cells_of_a_csv_are_no_formulas_and_numbers_stay_numbers(tmp_path):
    for number, title in enumerate(("=1+1", "+x", "-x", "@x", "\t=x", "\r=x\r-y", "at")):
        own = {"method": title, "origin": {"checkpoint": "net.pt"}}
        make_entry(tmp_path, f"net{number}", own=own, metadata={"architecture": "=cmd|' /C calc'!A0"})
    make_entry(tmp_path, "falls_s0", last={"clean": 0.8, "pgd20": 0.9})
    rows = list(csv.DictReader(io.StringIO(as_csv(entries.list_entries(tmp_path)[0]), newline="")))
    titles = {row["method"] for row in rows}
    assert titles >= {"'=1+1", "'+x", "'-x", "'@x", "'=x", "'=x -y"}
    assert all(row["architecture"][:1] in ("'", "R") for row in rows)
    (gap,) = [row["gap_mean"] for row in rows if float(row["gap_mean"] or 0) < 0]
    assert float(gap) == pytest.approx(-0.3)


def test_line_breaks_in_an_entry_make_no_headings_in_a_bundle(tmp_path):
    hostile = "x\n# Heading\r\n## Another\u2028# Third\x0b- [x] I agree"
    check = {"name": hostile, "verdict": "unreliable", "found": hostile}
    metadata = dict.fromkeys(("name", "authors", "link", "architecture"), hostile)
    entry = make_entry(tmp_path, "mine", metadata=metadata, warnings=[hostile], checks=[check], backend=hostile)
    plain = make_entry(tmp_path, "plain", warnings=["x"], checks=[check | {"name": "x", "found": "x"}])
    for text in (bundle.issue_text, bundle.evaluation_log):
        lines = text(entry).splitlines()
        assert len(lines) == len(text(plain).splitlines())
        assert [line for line in lines if line.startswith("#")] in ([], ["# [New Model] mine"])
        assert sum(line.startswith("- [") for line in lines) in (0, 3)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_the_server_refuses_other_hosts_names(tmp_path, host):
    (tmp_path / "index.html").write_text("page")
    with server.make_server(tmp_path / "index.html", 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        port = running.server_address[1]
        answers = []
        for name in (host, f"127.0.0.1:{port}", f"LOCALHOST:{port}", "localhost"):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/", headers={"Host": name})
            answer = connection.getresponse()
            answers.append((answer.status, answer.read() == b"page"))
            connection.close()
        running.shutdown()
    assert answers == [(403, False), (200, True), (200, True), (200, True)]
