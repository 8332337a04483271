"""The leaderboard's commands: submit, evaluate, verify, reproduce, and their errors."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from digits_run import QUICK
from run_program import run_program

import rb_smooth
from rb_smooth import recipe
from rb_smooth.core import files
from rb_smooth.core import robustbench as bridge
from rb_smooth.evaluation import attack_workers
from rb_smooth.leaderboard import __main__ as leaderboard
from rb_smooth.leaderboard import entries, submission
from rb_smooth.leaderboard.entries import list_entries
from rb_smooth.training.run_folder.run import Run

POINTS, BATCH = 24, 12
CHECKPOINT_OPTIONS = [
    *("--arch=small_preactresnet", "--set=model.width=4", "--dataset=digits", "--threat=Linf", "--eps=0.15"),
    *("--step-size=0.03", f"--n-examples={POINTS}", f"--batch-size={BATCH}"),
]


def run_leaderboard(*arguments):
    return run_program(leaderboard.main, *arguments)


@pytest.fixture
def trained_copy(finished_run, tmp_path, monkeypatch):
    """A folder in which a tiny net was trained and entered, to do with as one likes."""
    shutil.copytree(finished_run, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    (run,) = Path("runs/digits").iterdir()
    shutil.copy(run / "best.pt", "net.pt")
    return next(iter(list_entries(Path("leaderboard"))[0]))


def test_an_entry_has_its_points_its_curves_and_its_examples(trained_copy):
    found = entries.read_per_example_results(trained_copy)
    assert len(found.label) == POINTS
    assert sum(found.is_robust) / POINTS == trained_copy.own["score"]["autoattack"]
    assert sum(found.is_correct) / POINTS == trained_copy.own["score"]["clean"]
    assert set(found.broken_by) <= {"", "clean", *bridge.ATTACKS}
    assert trained_copy.curves.read_text() == next(Path("runs/digits").glob("*/log.csv")).read_text()
    kept = files.read_arrays(trained_copy.examples)
    assert 0 < len(kept["index"]) <= 12
    assert (abs(kept["x_adv"] - kept["x"] / 255).max((1, 2, 3)) <= 0.15 + 1e-6).all()
    assert (kept["adversarial_prediction"] != kept["label"]).all()
    model = rb_smooth.load_model(trained_copy.name, dataset="digits")
    assert (model(torch.from_numpy(kept["x_adv"])).argmax(1).numpy() == kept["adversarial_prediction"]).all()
    check = trained_copy.own["score"]["checks"][-1]
    assert check["name"] == "adversarial examples"
    assert check["verdict"] == "passed"


def test_weights_other_than_the_evaluated_ones_are_errors(trained_copy, capsys):
    tensors = files.load_tensors(trained_copy.weights)
    files.save_tensors(trained_copy.weights, {name: 2 * tensor for name, tensor in tensors.items()})
    for look in (
        lambda: rb_smooth.load_model(trained_copy.name, dataset="digits"),
        lambda: rb_smooth.evaluate(trained_copy, eps=0.05, verbose=False),
    ):
        with pytest.raises(rb_smooth.Refused, match=r"\(SHA-256 \w{8}…\), got others \(\w{8}…\); restore them"):
            look()
    for command in ("verify", "evaluate", "bundle"):
        assert run_leaderboard(command, trained_copy.name) == 2
        assert "got others" in capsys.readouterr().err


def test_a_trained_run_that_is_submitted_without_a_score_is_estimated_and_evaluated(trained_copy, capsys):
    (run,) = Path("runs/digits").iterdir()
    (run / "score.json").unlink()
    assert run_leaderboard("submit", str(run)) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"digits at \(2 epochs\), seed 0; estimate on cpu .*: AutoAttack at most \d.* on 24 points, mem", out
    )
    assert "training" not in out.partition("\n")[0]
    assert run_leaderboard("submit", str(run)) == 0
    assert "estimate" not in capsys.readouterr().out


@pytest.mark.parametrize(("option", "said"), [((), 1), (("--standardise",), 0)])
def test_a_checkpoint_without_normalisation_comes_with_a_hint(trained_copy, capsys, monkeypatch, option, said):
    weights = {key.removeprefix("net."): value for key, value in files.load_tensors(Path("net.pt")).items()}
    torch.save({key: value for key, value in weights.items() if key not in ("mean", "std")}, "bare.pt")

    def stop(*_, **__):
        raise rb_smooth.UserError("enough")

    monkeypatch.setattr("rb_smooth.leaderboard.external.evaluate_model", stop)
    assert run_leaderboard("submit", "bare.pt", *CHECKPOINT_OPTIONS, *option) == 2
    captured = capsys.readouterr()
    assert "enough" in captured.err
    assert captured.out.count("bare.pt has no mean and standard deviation: the network gets pixels in [0, 1]") == said


def test_an_external_checkpoint_is_evaluated_as_a_run_is(trained_copy, capsys):
    assert (
        run_leaderboard("submit", "net.pt", *CHECKPOINT_OPTIONS, "--title=<b>Theirs</b>", "--link=https://example.org")
        == 0
    )
    (theirs,) = [entry for entry in list_entries(Path("leaderboard"))[0] if entry.name == "net_small_preactresnet"]
    out = capsys.readouterr().out
    assert re.search(
        r"digits net_small_preactresnet; estimate on cpu .*: AutoAttack at most \d.* on 24 points, mem", out
    )
    (line,) = re.findall(r"trust checks: (.*); `leaderboard show net_small_preactresnet` lists them", out)
    assert sum(map(int, re.findall(r"\d+", line))) == len(theirs.own["score"]["checks"]) > 10
    assert out.index("; estimate on cpu") < out.index("24 test points: clean")
    mine, score = trained_copy.own["score"], theirs.own["score"]
    for key in ("clean", "pgd20", "autoattack", "interval", "n", "fingerprint", "threat", "version"):
        assert score[key] == mine[key], key
    assert score["class_names"] == mine["class_names"] == list("0123456789")
    assert theirs.protocol() == trained_copy.protocol()
    assert theirs.points.read_text() == trained_copy.points.read_text()
    assert theirs.info["name"] == "<b>Theirs</b>"
    assert theirs.info["architecture"] == "SmallPreActResNet (width 4)"
    assert theirs.own["origin"]["sha256"] == files.sha256(Path("net.pt"))
    x = torch.rand(3, 1, 8, 8)
    ours = rb_smooth.load_model(trained_copy.name, dataset="digits")(x)
    assert torch.equal(ours, rb_smooth.load_model(theirs.name, dataset="digits")(x))
    rb_smooth.register(new_datasets=True)
    from robustbench.utils import load_model

    with pytest.raises(rb_smooth.UserError, match=r"got none; pass model_dir='leaderboard/models' to load_model"):
        load_model(theirs.name, dataset="digits", threat_model="Linf")
    robustbenchs = load_model(theirs.name, model_dir="leaderboard/models", dataset="digits", threat_model="Linf")
    assert torch.equal(ours, robustbenchs(x))
    assert run_leaderboard("verify", theirs.name) == 0


@pytest.mark.slow
def test_an_interrupted_evaluation_of_a_checkpoint_continues_with_equal_results(trained_copy, monkeypatch, capsys):
    attack, attacked = attack_workers._LocalRunner.attack, []

    def stopped(self, unit):
        if len(attacked) == 2:
            raise KeyboardInterrupt
        attacked.append(unit)
        return attack(self, unit)

    small = "--eps=0.002"  # so small a ball that the second attack has work, too
    few = ("--n-examples=8", "--batch-size=1", "--version=quick")
    easy = [*CHECKPOINT_OPTIONS[:4], small, *CHECKPOINT_OPTIONS[5:-2], *few, "--name=theirs"]
    monkeypatch.setattr(attack_workers._LocalRunner, "attack", stopped)
    assert run_leaderboard("submit", "net.pt", *easy) == 130
    assert not Path("leaderboard/model_info/digits/Linf/theirs.json").exists()
    monkeypatch.setattr(
        attack_workers._LocalRunner, "attack", lambda self, unit: (attacked.append(unit), attack(self, unit))[1]
    )
    assert run_leaderboard("submit", "net.pt", *easy) == 0
    units = [(unit.attack, unit.batch_index) for unit in attacked]
    assert len(units) == len(set(units)) > 3  # none twice
    before = (Path("leaderboard/points/digits/Linf/theirs.csv")).read_text()
    shutil.rmtree("leaderboard/.evaluations")
    assert run_leaderboard("submit", "net.pt", *easy, "--replace") == 0
    assert Path("leaderboard/points/digits/Linf/theirs.csv").read_text() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--arch=resnet18"], "resnet18"),
        (["--set=model.width=5"], "0.weight of shape (5, 1, 3, 3)"),
        (["--eps=8"], "8/255"),
        (["--eps=x"], "--eps"),
        (["--eps=1/255,2/255"], "one --eps"),
        (["--n-examples=0"], "--n-examples"),
        (["--name=../up"], "choose another"),
        (["--key=ema"], "'ema'"),
        (["--dataset=cifar11"], "cifar11"),
    ],
)
def test_invalid_options_are_one_line_and_leave_the_board_unchanged(trained_copy, capsys, change, said):
    before = sorted(Path("leaderboard").rglob("*.json"))
    assert run_leaderboard("submit", "net.pt", *CHECKPOINT_OPTIONS, *change) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert sorted(Path("leaderboard").rglob("*.json")) == before


def test_missing_options_and_files_are_named(trained_copy, capsys):
    assert run_leaderboard("submit", "net.pt", "--arch=resnet18") == 2
    assert "expected --dataset" in capsys.readouterr().err
    assert run_leaderboard("submit", "absent.pt", *CHECKPOINT_OPTIONS) == 2
    assert "absent.pt" in capsys.readouterr().err
    assert run_leaderboard("verify", trained_copy.name + "x") == 2
    assert trained_copy.name in capsys.readouterr().err


def test_no_code_in_a_checkpoint_runs(trained_copy, capsys):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, ("ran",))

    torch.save({"state_dict": Evil()}, "evil.pt")
    assert run_leaderboard("submit", "evil.pt", *CHECKPOINT_OPTIONS) == 2
    assert "evil.pt" in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.slow
def test_verify_says_same_and_different_and_refuses_other_weights(trained_copy, capsys):
    assert run_leaderboard("verify", trained_copy.name) == 0
    assert f"{trained_copy.name}: same" in capsys.readouterr().out
    text = trained_copy.points.read_text()
    broken_by = next(each for each in bridge.ATTACKS if each in text)
    trained_copy.points.write_text(text.replace(broken_by, "square" if broken_by != "square" else "fab-t", 1))
    assert run_leaderboard("verify", trained_copy.name) == 1
    assert "points with a different outcome: 1" in capsys.readouterr().out
    trained_copy.points.write_text(text)
    entry = trained_copy.path.read_text()
    trained_copy.path.write_text(entry.replace(trained_copy.own["score"]["fingerprint"], "0" * 64))
    assert run_leaderboard("verify", trained_copy.name) == 2
    assert f"expected the test points of {trained_copy.name}" in capsys.readouterr().err
    trained_copy.path.write_text(entry)
    torch.save({key: value + 1 for key, value in torch.load(trained_copy.weights).items()}, trained_copy.weights)
    assert run_leaderboard("verify", trained_copy.name) == 2
    assert f"expected the weights of {trained_copy.name}" in capsys.readouterr().err
    trained_copy.weights.unlink()
    assert run_leaderboard("verify", trained_copy.name) == 2
    assert "got nothing there" in capsys.readouterr().err


@pytest.mark.slow
def test_an_entry_is_reproduced_bit_for_bit_from_what_it_stores(trained_copy, capsys):
    shutil.rmtree("runs")
    before = trained_copy.path.read_text()
    assert run_leaderboard("reproduce", trained_copy.name) == 0
    assert "reproduced, bit for bit" in capsys.readouterr().out
    assert trained_copy.path.read_text() == before


@pytest.mark.slow
def test_accuracy_falls_as_the_ball_grows_and_in_the_other_norm_too(trained_copy, capsys):
    command = ["evaluate", trained_copy.name, "--eps=0.05..0.1", "--norms=Linf,L2", f"--n-examples={POINTS}"]
    assert run_leaderboard(*command) == 0
    rows = json.loads(Path(f"leaderboard/radii/digits/Linf/{trained_copy.name}.json").read_text())["rows"]
    assert [(row["norm"], pytest.approx(row["eps"])) for row in rows] == [
        *(("Linf", 0.05), ("Linf", 0.1)),
        *(("L2", 0.05 * 0.5 * 255 / 8), ("L2", 0.1 * 0.5 * 255 / 8)),
    ]
    for one, other in ((0, 1), (2, 3)):
        assert rows[one]["clean"] >= rows[one]["robust"] >= rows[other]["robust"]
        assert rows[one]["robust"] <= rows[one]["pgd20"]
    said = capsys.readouterr().out
    assert "upper bound" in said
    assert "AutoAttack" not in said.replace("not AutoAttack", "")
    assert run_leaderboard(*command[:2], "--eps=0.05..0.01") == 2
    assert run_leaderboard(*command[:2], "--norms=L3") == 2


@pytest.mark.slow
def test_a_published_model_is_evaluated_from_the_file_of_its_loader(trained_copy, monkeypatch, capsys):
    model = rb_smooth.load_model(trained_copy.name, dataset="digits")
    monkeypatch.setitem(bridge.zoo_table("cifar10", "Linf"), "Theirs2020", {"model": lambda: model, "gdrive_id": "x"})
    monkeypatch.setattr(
        "rb_smooth.leaderboard.robustness_curve.load_raw_dataset", lambda *_: rb_smooth.data.datasets.digits(Path())
    )
    command = ["evaluate", "Theirs2020", "--eps=0.05", f"--n-examples={POINTS}"]
    assert run_leaderboard(*command) == 2
    assert "got no file" in capsys.readouterr().err
    files.save_tensors(Path("models/cifar10/Linf/Theirs2020.pt"), model.state_dict())
    assert run_leaderboard(*command) == 0
    (row,) = json.loads(Path("leaderboard/radii/cifar10/Linf/Theirs2020.json").read_text())["rows"]
    assert row["clean"] == trained_copy.own["score"]["clean"]
    assert run_leaderboard("evaluate", "Their2020", "--eps=0.05") == 2
    assert "Theirs2020" in capsys.readouterr().err


def test_an_unreliable_check_marks_the_entry_and_gives_the_reason(trained_copy):
    score = trained_copy.own["score"] | {"versions": {}, "board": "digits"}
    told = dict.fromkeys(("link", "name", "authors", "venue", "additional_data"), "")
    doubt = {"name": "gradients", "verdict": "unreliable", "found": "none at 9 of 24 points"}
    sound = submission.entry_info(score, trained_copy.own["model"], told, {})
    doubtful = submission.entry_info(score | {"checks": [*score["checks"], doubt]}, trained_copy.own["model"], told, {})
    assert not sound["unreliable"]
    assert "footnote" not in sound
    assert doubtful["unreliable"] is True
    assert doubtful["footnote"] == "gradients: none at 9 of 24 points"


@pytest.mark.slow
def test_a_replaced_entry_is_archived_with_its_files(trained_copy):
    before = {path.name: path.read_bytes() for path in (trained_copy.path, trained_copy.weights, trained_copy.points)}
    assert run_program(recipe.main, "digits", "at", *QUICK, "--replace", "--set=evaluate.eps=0.1") == 0
    assert "0.1" in trained_copy.path.read_text()
    (kept,) = Path("leaderboard/replaced/digits/Linf").iterdir()
    assert {path.name: path.read_bytes() for path in kept.iterdir() if path.name in before} == before


def submit_once(number: int, barrier, run: Path) -> None:
    """One of many that submit at once: half of them under one name, each as another run."""
    torch.set_num_threads(1)
    (own := Path(f"runs-{number}")).mkdir()
    shutil.copytree(run, own / "run")
    seed = number if number % 2 else 0
    text = (own / "run" / "recipe.yaml").read_text()
    text = text.replace(f"run: {Run(run).identity}", f"run: writer{number}").replace("seed: 0", f"seed: {seed}")
    (own / "run" / "recipe.yaml").write_text(text)
    barrier.wait()
    submission.submit(Run(own / "run"), Path("busy"), replace=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_twenty_concurrent_submissions_lose_nothing(trained_copy):
    (run,) = Path("runs/digits").iterdir()
    bridge.import_robustbench()  # once, before the fork
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(20)
    writers = [context.Process(target=submit_once, args=(number, barrier, run)) for number in range(20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found, complaints = entries.list_entries(Path("busy"))
    assert not complaints
    assert len(found) == 10 + 1  # each odd seed, and one seed for the ten of one name
    for entry in found:
        assert files.sha256(entry.weights) == entry.own["weights_sha256"]
        assert entry.points.exists()
        assert entry.curves.exists()
    contested = [entry.own["run"] for entry in found if "_s0_" in entry.name]
    replaced = [json.loads(path.read_text())["rb_smooth"]["run"] for path in Path("busy/replaced").rglob("*.json")]
    assert sorted(contested + replaced) == sorted(f"writer{number}" for number in range(0, 20, 2))
    assert not list(Path("busy").glob(".checking-*"))


def test_robustbenchs_own_listings_work_inside_the_board(trained_copy, monkeypatch, capsys):
    rb_smooth.register(new_datasets=True)
    monkeypatch.chdir("leaderboard")
    from robustbench.utils import get_leaderboard_bibtex, get_leaderboard_latex, list_available_models

    list_available_models(dataset="digits", threat_model="Linf")
    get_leaderboard_latex(dataset="digits", threat_model="Linf")
    get_leaderboard_bibtex(dataset="digits", threat_model="Linf")
    said = capsys.readouterr().out
    assert said.count(trained_copy.name) >= 1
    assert trained_copy.info["autoattack_acc"] in said
    assert trained_copy.info["link"] in said


@pytest.mark.slow
def test_benchmark_of_robustbench_with_our_seed_gives_our_accuracies(trained_copy, monkeypatch):
    rb_smooth.register(new_datasets=True)
    import robustbench

    model = robustbench.load_model(
        trained_copy.name, model_dir="leaderboard/models", dataset="digits", threat_model="Linf"
    )
    monkeypatch.setattr(time, "time", lambda: trained_copy.own["score"]["seed"])  # its only source of a seed
    clean, robust = robustbench.benchmark(
        model, n_examples=POINTS, dataset="digits", threat_model="Linf", eps=0.15, batch_size=BATCH
    )
    assert clean == pytest.approx(trained_copy.own["score"]["clean"], abs=1e-12)
    assert robust == pytest.approx(trained_copy.own["score"]["autoattack"], abs=1e-12)


@pytest.mark.manual
def test_benchmark_of_robustbench_with_the_time_of_day_is_within_two_points_on_200(trained_copy):
    command = ["submit", "net.pt", *CHECKPOINT_OPTIONS[:-2], "--n-examples=200", "--batch-size=50", "--name=more"]
    assert run_leaderboard(*command) == 0
    rb_smooth.register(new_datasets=True)
    import robustbench

    (more,) = [entry for entry in list_entries(Path("leaderboard"))[0] if entry.name == "more"]
    model = robustbench.load_model("more", model_dir="leaderboard/models", dataset="digits", threat_model="Linf")
    clean, robust = robustbench.benchmark(
        model, n_examples=200, dataset="digits", threat_model="Linf", eps=0.15, batch_size=50
    )
    assert clean == pytest.approx(more.own["score"]["clean"], abs=1e-12)
    assert robust == pytest.approx(more.own["score"]["autoattack"], abs=0.02)
