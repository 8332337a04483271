"""The command, as a user types it: one run through to the table, what is refused and how, and what a stop leaves."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch
from digits_run import QUICK
from few_iterations import with_few_iterations
from run_program import run_program
from tiers import mark_slow_except

import rb_smooth
from rb_smooth import recipe
from rb_smooth.config import resolver
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.core import errors, files
from rb_smooth.core import robustbench as bridge
from rb_smooth.core.threat import Threat
from rb_smooth.data import datasets
from rb_smooth.evaluation import attack_workers, evaluator
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.leaderboard import zoo

ENSGD = ["--set=optimizer.inner_steps=2", *QUICK]  # several outer steps even in so short a run


def run_recipe_program(*arguments):
    """The program's exit code, in this process."""
    return run_program(recipe.main, *arguments)


@pytest.fixture(scope="module")
def home(finished_run, tmp_path_factory):
    """A folder in which the four digits methods were run; the first of them is run once for all tests."""
    place = tmp_path_factory.mktemp("program") / "home"
    shutil.copytree(finished_run, place)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        for method in METHODS:
            assert run_recipe_program("digits", method, *(ENSGD if "ensgd" in method else QUICK)) == 0
    return place


METHODS = ("at", "at+awp", "at+ensgd", "at+awp+ensgd")


@pytest.fixture
def inside_home(home, tmp_path, monkeypatch):
    """A copy of it, to do with as one likes."""
    shutil.copytree(home, tmp_path / "inside")
    monkeypatch.chdir(tmp_path / "inside")


@pytest.fixture
def alone(finished_run, tmp_path, monkeypatch):
    """A folder of one's own, in which `digits at` was run."""
    shutil.copytree(finished_run, tmp_path / "alone")
    monkeypatch.chdir(tmp_path / "alone")


def entries():
    return sorted(Path("leaderboard/model_info/digits/Linf").glob("*.json"))


def test_a_method_leaves_a_run_and_an_entry_in_robustbenchs_schema(alone):
    check_runs_and_entries(1)


@pytest.mark.slow
def test_each_method_leaves_a_run_and_an_entry_in_robustbenchs_schema(inside_home):
    check_runs_and_entries(len(METHODS))


def check_runs_and_entries(methods):
    assert len(entries()) == methods
    for path in entries():
        info = json.loads(path.read_text())
        assert re.fullmatch(r"at[a-z+]*_small_preactresnet_s0_[0-9a-f]{6}", path.stem)
        for key in (
            "link",
            "name",
            "authors",
            "dataset",
            "venue",
            "architecture",
            "eps",
            "clean_acc",
            "reported",
            "autoattack_acc",
        ):
            assert isinstance(info[key], str), key
        assert info["additional_data"] is False
        assert info["number_forward_passes"] == 1
        assert info["eps"] == "0.15"
        score = info["rb_smooth"]["score"]
        assert score["interval"][0] <= score["autoattack"] <= score["interval"][1]
        assert score["autoattack"] <= score["pgd20"] + 1e-9 <= score["clean"] + 1e-9
        assert info["autoattack_acc"] == f"{100 * score['autoattack']:.2f}"
        assert "(2 epochs)" in info["name"]
        assert not score["official"]
        assert score["whole"] is False
        assert score["selected_on"] == "validation"
        assert {"clean", "pgd20"} == set(score["last"])
        assert (
            files.sha256(Path("leaderboard/models/digits/Linf") / f"{path.stem}.pt")
            == info["rb_smooth"]["weights_sha256"]
        )
    runs = sorted(p.name for p in Path("runs/digits").iterdir())
    assert len(runs) == methods
    for folder in Path("runs/digits").iterdir():
        assert len(list(folder.glob("autoattack-*/binding.json"))) == 1
        assert {p.name for p in folder.glob("[!a]*")} - {".lock"} == {
            "recipe.yaml",
            "log.csv",
            "curves.png",
            "tensorboard",
            "best.pt",
            "last.pt",
            "score.json",
            "training.json",
        }


def test_the_same_command_again_prints_the_table_without_torch(alone):
    check_printed_without_torch("at", *QUICK, rows=1)


@pytest.mark.slow
def test_the_same_command_again_prints_the_table_of_every_method_without_torch(inside_home):
    check_printed_without_torch("at+ensgd", *ENSGD, rows=len(METHODS))


def check_printed_without_torch(*arguments, rows):
    code = "import sys; from rb_smooth import recipe; recipe.main(); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, "digits", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "95 % interval" in done.stdout
    assert done.stdout.count("_small_preactresnet_s0_") >= rows + 1  # each entry's row, and the path of this one
    assert "epoch   1/2" not in done.stdout


@pytest.mark.slow
def test_another_evaluation_costs_neither_the_training_nor_the_evaluation_before_it(inside_home, short_attacks, capsys):
    folder = next(Path("runs/digits").glob("at-s0-*"))
    (entry,) = [p for p in entries() if p.stem.startswith("at_")]
    before = (folder / "best.pt").stat().st_mtime_ns
    more = [argument.replace("=24", "=30") for argument in QUICK]
    assert run_recipe_program("digits", "at", *more) == 0  # more points: the entry is replaced
    out = capsys.readouterr().out
    assert "epoch   1/2" not in out
    assert "not ranked: at+awp" in out
    assert "test points: 24 (SHA-256" in out
    assert json.loads(entry.read_text())["rb_smooth"]["score"]["n"] == 30
    assert run_recipe_program("digits", "at", *QUICK) == 2  # fewer: it stays
    captured = capsys.readouterr()
    assert "--replace" in captured.err
    assert "AutoAttack …" not in captured.out  # and the evaluation of before was recalled, not repeated
    assert json.loads(entry.read_text())["rb_smooth"]["score"]["n"] == 30
    assert run_recipe_program("digits", "at", *QUICK, "--set=evaluate.eps=0.01") == 2  # another attack: it stays
    assert json.loads(entry.read_text())["rb_smooth"]["score"]["threat"]["eps"] == 0.15
    assert run_recipe_program("digits", "at", *QUICK, "--replace") == 0  # back to what the other tests expect
    assert (folder / "best.pt").stat().st_mtime_ns == before
    assert len(list(folder.glob("score-*.json"))) == 2


def score_without_times(folder):
    """What the score says of the model: not when, where and in what time that was found."""
    score = json.loads((folder / "score.json").read_text())
    passing = ("attacks", "seconds", "processes", "commit")
    return {key: value for key, value in score.items() if key not in passing} | {
        "robust": {name: attack["robust"] for name, attack in score["attacks"].items()}
    }


EASY = ("eps=0.002", "step_size=0.001", "batch_size=2")


@pytest.fixture(scope="module")
def finished_easy_run(finished_run, tmp_path_factory):
    """A run with its evaluation in a ball so small that several units stay to be attacked: (its home, command)."""
    place = tmp_path_factory.mktemp("easy") / "home"
    shutil.copytree(finished_run, place)
    command = ["digits", "at", *QUICK, "--no-submit", *(f"--set=evaluate.{setting}" for setting in EASY)]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        patched.setattr(bridge, "standard_attacks", with_few_iterations(bridge.standard_attacks))
        assert run_recipe_program(*command) == 0
    return place, command


@pytest.fixture
def easy_run(finished_easy_run, tmp_path, monkeypatch, short_attacks):
    """A copy of it: (the run's folder, command)."""
    home, command = finished_easy_run
    shutil.copytree(home, tmp_path / "easy")
    monkeypatch.chdir(tmp_path / "easy")
    return next(Path("runs/digits").glob("at-s0-*")), command


def count_results(kept):
    """How many findings there are."""
    return len(list(kept.glob("*-[0-9]*.json")))


def delete_results(folder):
    """What AutoAttack has found. Returns the folder of its findings, and how many there were."""
    (kept,) = [
        path for path in folder.glob("autoattack-*") if '"batch_size": 2,' in (path / "binding.json").read_text()
    ]
    found = count_results(kept)
    shutil.rmtree(kept)
    (folder / "score.json").unlink()
    return kept, found


@pytest.mark.slow
def test_an_evaluation_stopped_in_autoattack_goes_on_from_there(easy_run, monkeypatch, capsys):
    folder, command = easy_run
    before, attack, attacked = score_without_times(folder), attack_workers._LocalRunner.attack, []
    kept, found = delete_results(folder)
    assert found > 8

    def stopped(self, unit):
        if len(attacked) == 3:
            raise KeyboardInterrupt
        attacked.append(unit)
        return attack(self, unit)

    monkeypatch.setattr(attack_workers._LocalRunner, "attack", stopped)
    assert run_recipe_program(*command) == 130
    assert "the same command resumes it" in capsys.readouterr().err
    assert count_results(kept) == 3
    monkeypatch.setattr(
        attack_workers._LocalRunner, "attack", lambda self, unit: (attacked.append(unit), attack(self, unit))[1]
    )
    assert run_recipe_program(*command) == 0
    assert len(attacked) == found
    assert score_without_times(folder) == before


@pytest.mark.slow
def test_workers_change_nothing_but_the_time(alone):
    settings = (*EASY, "version=quick")  # two attacks are enough of them: other processes know of no short ones
    command = ["digits", "at", *QUICK, "--no-submit", *(f"--set=evaluate.{setting}" for setting in settings)]
    assert run_recipe_program(*command) == 0
    folder = next(Path("runs/digits").glob("at-s0-*"))
    before = score_without_times(folder)
    assert json.loads((folder / "score.json").read_text())["processes"] == 1
    delete_results(folder)
    assert run_recipe_program(*command, "--workers=2") == 0
    assert score_without_times(folder) == before
    assert json.loads((folder / "score.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_quick_is_called_an_upper_bound_wherever_it_appears(inside_home, capsys):
    quick = [*QUICK, "--set=evaluate.version=quick", "--leaderboard=quick"]
    assert run_recipe_program("digits", "at", *QUICK, "--leaderboard=quick") == 0
    capsys.readouterr()
    assert run_recipe_program("digits", "at", *quick) == 2  # in the place of AutoAttack's figures: only if told to
    assert "--replace" in capsys.readouterr().err
    assert run_recipe_program("digits", "at", *quick, "--replace") == 0
    assert run_recipe_program("digits", "at", "at+awp", *quick) == 0
    said = capsys.readouterr().out
    assert "upper bound (quick, not AutoAttack)" in said
    assert "AutoAttack" not in said.replace("not AutoAttack", "")
    info = json.loads(next(Path("quick/model_info/digits/Linf").glob("at_*.json")).read_text())
    assert "upper bound (quick, not AutoAttack)" in info["name"]
    assert list(info["rb_smooth"]["score"]["attacks"]) == ["apgd-ce", "apgd-t"]


def test_a_plan_calls_quick_an_upper_bound(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_recipe_program("digits", "at", "--plan", *QUICK, "--set=evaluate.version=quick") == 0
    said = capsys.readouterr().out
    assert "upper bound (quick, not AutoAttack) at most" in said
    assert "AutoAttack" not in said.replace("not AutoAttack", "")


@pytest.mark.slow
def test_no_more_processes_attack_than_there_are_batches(easy_run, monkeypatch):
    folder, command = easy_run
    asked, autoattack = [], evaluator.run_autoattack

    def alone(*given, workers, **options):
        asked.append(workers)
        return autoattack(*given, **options)

    monkeypatch.setattr(evaluator, "run_autoattack", alone)
    delete_results(folder)
    assert run_recipe_program(*command, "--workers=99") == 0
    assert asked == [12]
    assert json.loads((folder / "score.json").read_text())["processes"] == 12


@pytest.mark.slow
def test_what_another_torch_has_found_is_not_this_ones(easy_run, monkeypatch):
    folder, command = easy_run
    before = set(folder.glob("autoattack-*"))
    (folder / "score.json").unlink()
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert run_recipe_program(*command) == 0
    (anew,) = set(folder.glob("autoattack-*")) - before
    assert count_results(anew) > 8
    shutil.rmtree(anew)


def test_no_worker_is_no_number_of_workers(alone, capsys):
    assert run_recipe_program("digits", "at", *QUICK, "--workers=0", "--fresh") == 2
    assert "argument --workers: expected a whole number of at least 1, got '0'" in capsys.readouterr().err
    assert list(Path("runs/digits").glob("at-s0-*/score.json"))


@pytest.mark.slow
def test_the_entry_is_the_best_epoch_and_its_score_the_best_epochs(inside_home):
    folder = next(Path("runs/digits").glob("at+awp-s0-*"))
    best, last = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("best", "last"))
    worse = {key: torch.zeros_like(value) if key.endswith("weight") else value for key, value in last.items()}
    torch.save(worse, folder / "last.pt")  # so that the two cannot be mistaken
    (folder / "score.json").unlink()
    try:
        assert run_recipe_program("digits", "at+awp", *QUICK, "--replace") == 0
        score = json.loads((folder / "score.json").read_text())
        points = datasets.digits(Path("unused")).test[:24]
        measured = []
        for weights in (best, worse):
            model = build_model("small_preactresnet", {"width": 4}, (1, 8, 8), 10)
            model.load_state_dict(weights)
            threat = Threat("Linf", 0.15, 0.03)
            measured.append(
                {"clean": measure_accuracy(model, points), "pgd20": measure_accuracy(model, points, threat)}
            )
        assert measured[0] != measured[1]
        assert {key: score[key] for key in ("clean", "pgd20")} == measured[0]
        assert score["last"] == measured[1]
        entry = next(p for p in entries() if p.stem.startswith("at+awp_"))
        exported = torch.load(f"leaderboard/models/digits/Linf/{entry.stem}.pt", weights_only=True)
        assert all(torch.equal(exported[key], best[key]) for key in best)
    finally:
        torch.save(last, folder / "last.pt")
        (folder / "score.json").unlink()
        assert run_recipe_program("digits", "at+awp", *QUICK, "--replace") == 0


@pytest.mark.slow
def test_our_models_load_through_our_own_door_and_through_robustbenchs(inside_home, monkeypatch):
    import socket

    def no_network(*_):
        raise AssertionError("touched the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    name = next(p.stem for p in entries() if p.stem.startswith("at+awp+ensgd"))
    ours = rb_smooth.load_model(name, dataset="digits")
    trained = torch.load(next(Path("runs/digits").glob("at+awp+ensgd-s0-*")) / "best.pt", weights_only=True)
    assert all(torch.equal(value, trained[key]) for key, value in ours.state_dict().items())
    assert set(rb_smooth.register(new_datasets=True)) >= {p.stem for p in entries()}
    assert rb_smooth.register(new_datasets=True) == rb_smooth.register(new_datasets=True)
    import robustbench
    from robustbench.utils import load_model

    theirs = load_model(name, model_dir="leaderboard/models", dataset="digits", threat_model="Linf")
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(ours(x), theirs(x))
    clean, robust = robustbench.benchmark(
        theirs, n_examples=24, dataset="digits", threat_model="Linf", eps=0.15, batch_size=12
    )
    score = next(e for e in zoo.list_entries(Path("leaderboard"))[0] if e.name == name).own["score"]
    assert clean == pytest.approx(score["clean"])
    assert robust == pytest.approx(score["autoattack"], abs=2 / 24)  # another seed: RobustBench takes the time of day


def test_an_unknown_model_is_refused_with_the_nearest(alone):
    name = entries()[0].stem
    with pytest.raises(errors.UserError, match=re.escape(name)):
        rb_smooth.load_model(name + "x", dataset="digits")


@pytest.mark.slow
def test_another_runs_entry_is_not_overwritten_unless_asked(inside_home, capsys):
    arguments = ["digits", "at", *QUICK, "--runs", "elsewhere"]
    before = entries()[0].read_text()
    assert run_recipe_program(*arguments) == 2
    assert "--replace" in capsys.readouterr().err
    assert entries()[0].read_text() == before
    assert run_recipe_program(*arguments, "--replace") == 0
    assert run_recipe_program("digits", "at", *QUICK, "--replace") == 0


@pytest.mark.slow
def test_fresh_begins_again_and_replaces_its_own_entry(inside_home):
    log = next(Path("runs/digits").glob("at+awp-s0-*")) / "log.csv"
    before = log.stat().st_mtime_ns
    assert run_recipe_program("digits", "at+awp", *QUICK, "--fresh") == 0
    assert log.stat().st_mtime_ns > before


def test_a_run_can_be_moved(alone):
    Path("runs").rename("moved")
    try:
        assert run_recipe_program("digits", "at", *QUICK, "--runs", "moved") == 0
    finally:
        Path("moved").rename("runs")


def test_a_foreign_file_in_the_board_is_named_and_skipped(alone, capsys):
    stray = Path("leaderboard/model_info/digits/Linf/stray.json")
    stray.write_text("{not json")
    try:
        assert run_recipe_program("digits", "at", *QUICK) == 0
        assert "skipped" in capsys.readouterr().err
    finally:
        stray.unlink()


@pytest.mark.slow
def test_no_submit_leaves_no_entry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_recipe_program("digits", "at", *QUICK, "--no-submit", "--set=train.select=test") == 0
    score = json.loads(next(Path("runs").rglob("score.json")).read_text())
    assert score["selected_on"] == "test"
    assert score["title"] == "at (2 epochs, selected on test)"
    assert score["training"]["precision"] == "fp32"
    assert not Path("leaderboard").exists()
    assert "95 % interval" in capsys.readouterr().out


def test_plan_says_what_is_ahead_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_recipe_program("digits", "at+awp+ensgd", "--plan") == 0
    out = capsys.readouterr().out
    assert re.search(
        r"training .* \(\d+ steps of .*FLOP\), validation .* in all, AutoAttack at most .* on 360 points, memory", out
    )
    assert "warning: too few minibatches at a learning rate" in out
    assert "190 of 340 (entropy_sgd, epochs 31 to 40, lr 0.01)" in " ".join(out.split())
    assert not list(tmp_path.iterdir())


def test_list_and_show_need_no_torch(tmp_path):
    code = "import sys; from rb_smooth import recipe; recipe.main(); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, "list"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    for dataset in resolver.list_datasets():
        assert dataset in done.stdout
    assert "at+awp+ensgd" in done.stdout


def test_list_of_all_data_sets_fits_one_screen_and_that_of_one_says_what_each_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    assert run_recipe_program("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(1 + (len(line) - 1) // 100 for line in lines) <= 24
    assert {"at", "trades", "+awp", "-l2"} < {word for line in lines for word in line.split() if "digits" in line}
    assert run_recipe_program("list", "digits") == 0
    assert "TRADES with AWP" in capsys.readouterr().out


def test_show_prints_a_recipe_that_can_be_run(alone, capsys):
    assert run_recipe_program("show", "cifar10", "at+awp+ensgd") == 0
    out = capsys.readouterr().out
    Path("shown.yaml").write_text(out)
    assert resolve_config("shown.yaml")[2] == resolve_config("cifar10", "at+awp+ensgd")[2]
    assert "8/255" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digit", "at"], "did you mean 'digits'"),
        (["digits", "att"], "did you mean 'at'"),
        (["digits"], "expected DATASET METHOD"),
        (["digits", "at", "more"], "expected a method of digits, got 'more'"),
        (["digits", "at", "--set", "optimizer.lr=fast"], "valid number"),
        (["digits", "at", "--epochs", "0"], "--epochs"),
        (["digits", "at", "--seed", "-1"], "seed"),
        (["digits", "at", "--n-examples", "0"], "--n-examples"),
        (["absent.yaml"], "absent.yaml"),
        (["digits", "at", "--device", "cuda:99"], "--device cpu"),
        (["digits", "at", "--device", "gpu"], "--device cpu"),
        (["digits", "at", "--device", "cpu", "--set", "train.compile=reduce-overhead"], "CUDA graphs"),
        (["digits", "at", "--set", "model.name=preactresnet18"], "1x8x8"),
        (["digits", "at", "--set", "data.name=folder", "--set", "data.root=absent"], "image folders"),
        (["digits", "at", "--set", "data.train_examples=20"], "batch_size"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    if torch.cuda.is_available() and "cuda:99" in arguments:
        pytest.skip("the message of a machine with a GPU differs")
    assert run_recipe_program(*arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())  # nothing was touched


def test_without_data_and_network_one_line_names_the_way_out(tmp_path, monkeypatch, capsys):
    from torchvision.datasets import CIFAR10

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    assert run_recipe_program("cifar10", "at") == 2
    err = capsys.readouterr().err
    assert "digits" in err
    assert "cifar-10-python.tar.gz" in err


def test_two_classes_are_refused_before_training(tmp_path, monkeypatch, capsys):
    import numpy as np
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        for kind in ("a", "b"):
            Path("pets", part, kind).mkdir(parents=True)
            for i in range(12):
                Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(Path("pets", part, kind, f"{i}.png"))
    folder = ["data.name=folder", "data.root=pets", "data.validation=4", "data.batch_size=8"]
    assert run_recipe_program("digits", "at", *(f"--set={setting}" for setting in folder)) == 2
    assert "4 classes or more" in capsys.readouterr().err


def test_a_second_process_on_the_same_run_is_refused(alone, capsys):
    folder = next(Path("runs/digits").glob("at-s0-*"))
    with filelock.FileLock(folder / ".lock"):
        assert run_recipe_program("digits", "at", *QUICK, "--fresh") == 2
    assert "another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("best.pt", None),
        ("best.pt", b""),
        ("best.pt", 100),
        ("best.pt", 5000),
        ("last.pt", 5000),
        ("score.json", b"{}"),
        ("score.json", b"["),
        ("recipe.yaml", b""),
        ("recipe.yaml", b"[]"),
        ("recipe.yaml", bytes(range(128, 256))),
        ("recipe.yaml", None),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_its_cure(alone, capsys, name, content):
    folder = next(Path("runs/digits").glob("at-s0-*"))
    whole = (folder / name).read_bytes()
    if name.endswith(".pt"):
        (folder / "score.json").unlink()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(whole[:content] if isinstance(content, int) else content)
    assert run_recipe_program("digits", "at", *QUICK) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert name in err
    assert any(cure in err for cure in ("--fresh", "restore", "delete"))


@pytest.mark.slow
def test_fresh_mends_a_run_whose_recipe_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["digits", "at", *QUICK, "--no-submit"]
    assert run_recipe_program(*arguments) == 0
    next(Path("runs/digits").iterdir()).joinpath("recipe.yaml").write_text("")
    assert run_recipe_program(*arguments) == 2
    assert run_recipe_program(*arguments, "--fresh") == 0


@pytest.mark.parametrize("option", mark_slow_except(["--runs"], ["--runs", "--leaderboard"]))
def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert run_recipe_program("digits", "at", *QUICK, option, "file") == 2
    err = capsys.readouterr().err
    assert "file" in err
    assert err.count("\n") == 1


def test_brackets_in_a_path_are_a_path(alone, capsys):
    assert run_recipe_program("digits", "at", *QUICK, "--leaderboard", "lb[/x][red]") == 0
    out = capsys.readouterr().out
    assert "entry: lb[/x][red]/model_info" in out


def test_a_terminal_without_unicode_ends_no_run(alone):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "rb_smooth.recipe", "digits", "at", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "at_small_preactresnet" in done.stdout


def test_another_recipe_in_the_same_folder_is_refused_naming_the_difference(alone, capsys):
    folder = next(Path("runs/digits").glob("at-s0-*"))
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("momentum: 0.9", "momentum: 0.8"))
    try:
        assert run_recipe_program("digits", "at", *QUICK) == 2
        assert "optimizer.momentum: 0.8 there, 0.9 here" in capsys.readouterr().err
    finally:
        (folder / "recipe.yaml").write_text(text)


@pytest.mark.parametrize("number", mark_slow_except([errno.ENOSPC], [errno.ENOSPC, errno.EACCES]))
def test_a_full_or_forbidden_disk_is_one_line_and_keeps_the_last_good_file(tmp_path, monkeypatch, capsys, number):
    monkeypatch.chdir(tmp_path)
    real, written = os.fsync, []

    def failing(descriptor):
        written.append(descriptor)
        if len(written) > 4:
            raise OSError(number, os.strerror(number), "runs/digits/best.pt")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", failing)
    assert run_recipe_program("digits", "at", *QUICK) == 2
    err = capsys.readouterr().err
    assert "expected to use" in err
    assert err.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert not list(tmp_path.rglob(".*.pt.*"))  # no half-written neighbour stays
    for path in tmp_path.rglob("*.pt"):
        torch.load(path, weights_only=True)
    assert run_recipe_program("digits", "at", *QUICK) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_leaves_a_run_that_goes_on(tmp_path, number):
    command = [sys.executable, "-u", "-m", "rb_smooth.recipe", "digits", "at+ensgd", *ENSGD, "--epochs=300"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/"):
            break
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from there" in err
    assert err.count("\n") == 1
    (folder,) = (tmp_path / "runs/digits").iterdir()
    assert (folder / "resume.pt").exists()
    position = torch.load(folder / "resume.pt", weights_only=True)["position"]
    assert position[0] >= 2


def test_loading_executes_no_code(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.pt", pickle_module=pickle)
    with pytest.raises(errors.UserError, match="more than tensors"):
        files.load_tensors(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_an_export_that_loads_back_as_another_model_is_refused_and_leaves_the_board_as_it_was(
    alone, monkeypatch, capsys
):
    from rb_smooth.leaderboard import submission

    real, built = submission.build_entry_network, []

    def second_is_another(entry):
        model = real(entry)
        if built:
            forward = model.forward
            model.forward = lambda x: forward(x) + 1e-3
        built.append(model)
        return model

    monkeypatch.setattr(submission, "build_entry_network", second_is_another)
    assert run_recipe_program("digits", "at", *QUICK, "--leaderboard", "fresh-board") == 2
    assert "equal logits" in capsys.readouterr().err
    assert not list(Path("fresh-board").rglob("*.pt"))
    assert not list(Path("fresh-board").rglob("*.json"))
