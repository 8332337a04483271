"""docs/reproducing.md is what its generator writes; only what was measured of a cell stands in it, and only as that."""

from __future__ import annotations

import shlex

import pytest
import reproducing
from fake_entries import make_entry
from learning_curves import read_curves
from paper_tables import command, overview_lines, result_lines
from reproducing import PAGE, board_lines, check_record, read_results, tuning_lines, write_page
from run_program import run_program

from rb_smooth.config.listing import all_paper_results
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.entries import published_entries
from rb_smooth.training.sweep.comparison import METRICS, RunResult, compare_methods

CELLS = all_paper_results()
BY_NAME = {(paper_result.table, paper_result.row, paper_result.column): paper_result for paper_result in CELLS}
AT = next(paper_result for paper_result in CELLS if paper_result.recipe == "cifar10/at" and not paper_result.settings)


def results(method, *robust, title=None, version="standard", selected_on="validation", n=10_000):
    score = {
        "title": title or method,
        "clean": 0.8,
        "pgd20": 0.5,
        "last": {"pgd20": 0.45},
        "threat": {"norm": "Linf", "eps": 8 / 255, "step_size": 2 / 255},
        "version": version,
        "n": n,
        "fingerprint": "f",
        "selected_on": selected_on,
    }
    return [RunResult(method, seed, score | {"autoattack": each}) for seed, each in enumerate(robust)]


def run_name(method, seed):
    return {
        "method": method,
        "seed": seed,
        "identity": f"{method} {seed}",
        "folder": f"{method}-s{seed}",
        "commit": "0123456789abcdef",
        "training": {"device": "Some GPU", "seconds": 100.0 + 10 * seed},
    }


def record(found, dataset="cifar10", settings=()):
    """As a command of several runs leaves it, and --keep completes it."""
    return {
        "command": f"python -m rb_smooth.recipe {dataset} at --seeds 0-1",
        "commit": "0123456789abcdef",
        "versions": {"torch": "2.0"},
        "machine": {"cpu": "Some CPU", "cores": 2},
        "images": "CIFAR-10",
        "dataset": dataset,
        "settings": list(settings),
        "groups": compare_methods(found),
        "runs": [run_name(each.method, each.seed) for each in found],
    }


def page_with(tmp_path, **kept):
    place = tmp_path / "page.md"
    place.write_text(PAGE.read_text())
    write_page(place, kept)
    return place.read_text()


def test_the_page_is_what_the_generator_writes(tmp_path):
    assert page_with(tmp_path, **read_results(reproducing.HERE)) == PAGE.read_text()


def test_the_readme_states_the_measured_differences_on_digits():
    kept = read_results(reproducing.HERE)["digits"]
    (group,) = (each for each in kept["groups"] if each["protocol"]["norm"] == "Linf")
    pairs = {(each["method"], each["minus"]): each for each in group["differences"]}
    text = " ".join((reproducing.HERE.parent / "README.md").read_text().split())
    awp, ensgd = pairs["at+awp", "at"], pairs["at+ensgd", "at"]
    points = [f"{100 * value:+.2f}".replace("-", "−") for each in (awp, ensgd) for value in (each["low"], each["high"])]
    assert f"`at+awp` is {100 * awp['mean']:.2f} points above `at`" in text
    assert f"(95 % interval {points[0]} to {points[1]}), `at+ensgd` {-100 * ensgd['mean']:.2f} below" in text
    assert f"({points[2]} to {points[3]};" in text
    beside_awp = pairs["at+awp+ensgd", "at+awp"]
    assert f"beside AWP EntropySGD costs {-100 * beside_awp['mean']:.2f} points (p " in text
    (paper_lr,) = (
        each
        for each in read_results(reproducing.HERE)["digits-paper-lr"]["groups"][0]["differences"]
        if (each["method"], each["minus"]) == ("at+ensgd", "at")
    )
    assert f"{-100 * paper_lr['mean']:.2f} below): no paper's claim" in text


@pytest.mark.parametrize(
    "cell", CELLS, ids=lambda paper_result: f"{paper_result.recipe} ({paper_result.column}; {paper_result.row})"
)
def test_a_cells_command_is_its_recipe(cell):
    words = shlex.split(command(cell))
    assert words[:3] == ["python", "-m", "rb_smooth.recipe"]
    dataset, method, *settings = words[3:]
    assert settings[::2] == ["--set"] * len(cell.settings)
    expected = resolve_config(*cell.recipe.split("/"), cell.settings)
    assert resolve_config(dataset, method, settings[1::2]) == expected
    assert f"`{command(cell)}`" in PAGE.read_text()


def test_no_number_is_given_for_kanai_et_al_and_one_for_every_cell_of_the_awp_authors():
    for paper_result in CELLS:
        assert (paper_result.reported is None) == ("Kanai" in paper_result.paper)
        if paper_result.reported is not None:
            shares = {key: value for key, value in paper_result.reported.items() if key != "by"}
            assert shares.keys() < set(METRICS)
            assert all(0 < share < 1 for share in shares.values())
            assert paper_result.reported["by"].startswith("their ")


@pytest.mark.parametrize(
    ("board", "name", "cell"),
    [
        (("cifar10", "Linf"), "Wu2020Adversarial", ("AutoAttack", "CIFAR-10, Linf, WRN", "TRADES-AWP")),
        (("cifar10", "Linf"), "Wu2020Adversarial_extra", ("AutoAttack", "CIFAR-10, Linf, WRN", "RST-AWP")),
        (("cifar100", "Linf"), "Wu2020Adversarial", ("AutoAttack", "CIFAR-100, Linf, WRN-34-10", "AT-AWP")),
    ],
)
def test_what_the_authors_report_is_what_robustbench_measured(board, name, cell):
    row = next(row for row in published_entries(*board)["entries"] if row["name"] == name)
    assert BY_NAME[cell].reported["clean"] == row["clean"]
    assert BY_NAME[cell].reported["autoattack"] == row["autoattack"]


def test_several_seeds_have_a_deviation_and_one_has_an_interval():
    (several,) = result_lines(AT, {"here": record(results("at", 0.46, 0.48))})
    assert "AutoAttack 47.00 ± 1.41 (2 seeds, 10,000 points; [here.json](../benchmarks/here.json))" in several
    (one,) = result_lines(AT, {"here": record(results("at", 0.47))})
    assert "AutoAttack 47.00 (46.02 to 47.98) (1 seed, 10,000 points;" in one


def test_what_differs_from_the_recipe_is_told_with_the_figure():
    found = results("at", 0.47, title="at (30 epochs, selected on test)", version="quick", selected_on="test", n=500)
    (line,) = result_lines(AT, {"here": record(found, settings=["train.select=test", "evaluate.version=quick"])})
    assert "upper bound (quick, not AutoAttack) 47.00" in line
    assert "(1 seed, 500 points, 30 epochs, selected on test;" in line
    found = results("at", 0.47, title="at (selected by mean3)")
    (line,) = result_lines(AT, {"here": record(found, settings=["train.select_rule=mean3"])})
    assert "(1 seed, 10,000 points, selected by mean3;" in line


@pytest.mark.parametrize(
    "other",
    [
        record(results("at", 0.5), dataset="digits"),
        record(results("at+awp", 0.5)),
        record(results("at", 0.5), settings=["data.name=folder", "data.root=jpegs"]),
        record(results("at", 0.5), settings=["optimizer.lr=0.05"]),
    ],
    ids=["other data", "other method", "other images", "other settings"],
)
def test_what_is_not_the_cell_does_not_stand_in_it(other):
    assert not list(result_lines(AT, {"here": other}))


def test_a_cell_with_settings_takes_what_was_run_with_them():
    wide = BY_NAME["AutoAttack", "CIFAR-10, Linf, WRN", "AT"]
    assert list(result_lines(wide, {"here": record(results("at-wrn34", 0.5), settings=wide.settings)}))
    assert not list(result_lines(wide, {"here": record(results("at-wrn34", 0.5))}))


def test_what_was_measured_elsewhere_has_a_table_and_what_is_expected_is_missed(tmp_path):
    found = results("at", 0.5, 0.52, 0.55) + results("at+awp", 0.53, 0.56, 0.57) + results("at+ensgd", 0.4, 0.5, 0.5)
    text = page_with(tmp_path, digits=record(found, dataset="digits"))
    _, _, shown = text.partition("<!-- measured -->")
    assert shown.count("\nNot measured yet.\n") == 1
    assert "commit 0123456 (Some CPU, 2 cores; device Some GPU; [digits.json](../benchmarks/digits.json))." in shown
    assert "| `at+awp` | 3 | 80.00 ± 0.00 | 50.00 ± 0.00 | 45.00 ± 0.00 | 55.33 ± 2.08 | +5.00 ± 0.00 | 110 |" in shown
    assert "| `at+awp` − `at` | 3 | +3.00 |" in shown
    assert "`at+ensgd` − `at+awp`" not in shown


def test_table_1_stands_in_its_layout_with_ours_and_says_what_is_missing():
    wide = results("at+awp-wrn34", 0.5, 0.52)
    digits = record(results("at", 0.5, 0.52) + results("at+awp", 0.6, 0.62), dataset="digits")
    lines = list(overview_lines(CELLS, {"cifar10": record(results("at", 0.46, 0.48) + wide), "digits": digits}))
    assert lines[0] == "| data (attack, network) | AT | AT+EnSGD | AWP | AWP+EnSGD |"
    missing = "not measured yet / not available"
    assert lines[2:6] == [
        f"| CIFAR10 (AA, RN18) | 47.00 ± 1.41 / not available | {missing} | {missing} | {missing} |",
        f"| CIFAR10 (AA, WRN) | {missing} | {missing} | 51.00 ± 1.41 / not available | {missing} |",
        f"| SVHN (PGD-20, RN18) | {' | '.join([missing] * 4)} |",
        f"| CIFAR100 (PGD-20, RN18) | {' | '.join([missing] * 4)} |",
    ]
    assert lines[-2].endswith("[digits.json](../benchmarks/digits.json)) | 51.00 ± 1.41 |  | 61.00 ± 1.41 |  |")


def test_a_row_of_table_1_that_is_attacked_by_pgd_shows_pgd():
    lines = list(overview_lines(CELLS, {"svhn": record(results("at", 0.46), dataset="svhn")}))
    (row,) = [line for line in lines if line.startswith("| SVHN")]
    assert row.split(" | ")[1].startswith("50.00 (49.02 to 50.98) / ")


def test_what_was_tried_on_validation_images_stands_below(tmp_path):
    assert list(tuning_lines(tmp_path)) == []
    origin = {key: record([])[key] for key in ("commit", "machine", "dataset")}
    rows = [{"title": "`at+ensgd`", "by_seed": {"0": {"best": 0.8, "last": 0.7}}}]
    about = {"command": "python benchmarks/tuning.py", "epochs": 40, "validation": 200, "rows": rows}
    files.write_json(tmp_path / "tuning-lr.json", origin | about)
    lines = list(tuning_lines(tmp_path))
    assert "commit 0123456 (Some CPU, 2 cores; [tuning-lr.json](../benchmarks/tuning-lr.json))." in lines[0]
    assert "`cifar10`, 40 epochs: PGD accuracy on 200 validation images" in lines[2]
    assert "| `at+ensgd` | 1 | 80.00 | 70.00 |  |  |  |  |" in lines


def test_a_model_trained_elsewhere_stands_beside_ours(tmp_path):
    shown = {"n": 200, "pgd20": 0.01, "autoattack": 0.0, "interval": [0.0, 0.0188], "clean": 0.845}
    make_entry(tmp_path, "theirs", dataset="folder-mine", own={"origin": {"file": "net.pt"}}, **shown)
    make_entry(tmp_path, "at_s0", dataset="folder-mine", n=200)
    assert list(board_lines(tmp_path, "folder-mine", "Linf"))[2:4] == [
        "| `at_s0` | here | 200 | 80.00 | 60.00 | 50.00 | 49.00 to 51.00 |",
        "| `theirs` | elsewhere | 200 | 84.50 | 1.00 | 0.00 | 0.00 to 1.88 |",
    ]


def test_a_sweep_is_kept_with_the_kind_of_machine_and_stands_on_the_page(tmp_path, monkeypatch):
    sweep, here = tmp_path / "sweep-1f2e3d.json", tmp_path / "benchmarks"
    left = record(results("at", 0.5, 0.6))
    files.write_json(sweep, {key: value for key, value in left.items() if key not in ("machine", "images")})
    for seed in range(2):
        row = f"0,0.1,2.0,0.3,0.8,{0.4 + seed / 10},True,5.0"
        log = f"epoch,lr,loss,train_robust,val_clean,val_robust,best,seconds\n{row}\n"
        files.write_text(tmp_path / f"at-s{seed}" / "log.csv", log)
    files.write_json(here / "speed.json", {"step": {}})
    files.write_text(here / "page.md", PAGE.read_text())
    monkeypatch.setattr(reproducing, "HERE", here)
    monkeypatch.setattr(reproducing, "PAGE", here / "page.md")
    words = ["--keep", str(sweep), "--as", "mine", "--images", "CIFAR-10"]
    assert run_program(reproducing.main, *words) == 0
    kept = read_results(here)
    assert kept.keys() == {"mine"}
    curves = read_curves(here / "curves" / "mine.csv")
    assert [curves["at"][seed][0]["val_robust"] for seed in range(2)] == [0.4, 0.5]
    assert kept["mine"]["machine"].keys() == {"cpu", "cores"}
    assert kept["mine"]["versions"].keys() == {"torch", "python"}
    assert (here / "page.md").read_text().count(
        "[mine.json](../benchmarks/mine.json)"
    ) == 4  # twice a cell, and 2 tables
    assert "](figures/learning-curves-mine.png)" in (here / "page.md").read_text()


def test_what_is_no_record_of_runs_is_refused_by_what_it_lacks(tmp_path):
    lacking = {key: value for key, value in record([]).items() if key != "settings"}
    with pytest.raises(UserError, match=r"expected settings in .*x\.json, got none"):
        check_record(lacking, tmp_path / "x.json")


def test_keep_needs_a_name_and_what_the_images_are(monkeypatch, capsys):
    assert run_program(reproducing.main, "--keep", "sweep.json") == 2
    assert "expected --keep, --as and --images together" in capsys.readouterr().err
