"""cifar10-small: its command continues from the files of finished runs, and its tables hold what those files hold."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar10_small import GRIDS, Job, plan, run_job, tuned
from learning_curves import curves_of
from PIL import Image
from result_tables import detectable, seeds_needed
from small_tables import answer, small_lines

from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files
from rb_smooth.training.validate import check_recipe


def write_result(results, job, robust=0.4, val_robust=0.5, last=0.35, trained=0.9):
    score = {
        "title": job.method,
        "clean": 0.7,
        "pgd20": robust + 0.02,
        "autoattack": robust,
        "last": {"pgd20": last},
        "threat": {"norm": "Linf", "eps": 8 / 255, "step_size": 8 / 765},
        "version": "standard",
        "n": 500,
        "fingerprint": "f",
        "selected_on": "validation",
    }
    record = {
        "method": job.method,
        "settings": job.settings,
        "seed": job.seed,
        "images": "CIFAR-10",
        "commit": "0123456789abcdef",
        "machine": {"cpu": "Some CPU", "cores": 2},
        "val_robust": val_robust,
        "last_val_robust": val_robust - 0.1,
        "training": {"seconds": 100.0},
        "wall_seconds": 300.0,
        "cpu_seconds": 200.0,
        "curve": {"epoch": "0 1", "val_robust": "0.3 0.4", "train_pgd20": f"- {trained}", "seconds": "1 2"},
        "score": score if job.evaluated else None,
    }
    results.mkdir(exist_ok=True)
    files.write_json(job.file(results), record)


def test_every_method_has_six_settings_that_its_recipe_takes_and_the_first_are_its_own():
    for method, grid in GRIDS.items():
        assert grid[0] == {}
        hashes = set()
        for settings in grid:
            resolved = resolve_config("cifar10-small", method, [f"{key}={value}" for key, value in settings.items()])
            check_recipe(*resolved)
            hashes.add(resolved.config_hash)
        assert len(hashes) == 6


def test_a_finished_file_is_skipped_and_one_without_a_score_only_where_none_is_needed(tmp_path):
    job = Job("at", {"optimizer.lr": 0.3}, evaluated=False)
    write_result(tmp_path, job)
    assert job.is_finished(tmp_path)
    assert not replace(job, evaluated=True).is_finished(tmp_path)
    write_result(tmp_path, replace(job, evaluated=True))
    assert job.is_finished(tmp_path)
    assert replace(job, evaluated=True).is_finished(tmp_path)
    assert not Job("at").is_finished(tmp_path)


def test_the_highest_validation_accuracy_decides_once_the_whole_grid_is_run(tmp_path):
    for number, settings in enumerate(GRIDS["at"]):
        assert tuned("at", tmp_path) is None
        write_result(
            tmp_path, Job("at", settings), robust=0.4 - 0.01 * number, val_robust=0.6 if number in (2, 4) else 0.5
        )
    assert tuned("at", tmp_path) == GRIDS["at"][2]
    assert Job("at", GRIDS["at"][2], 4) in plan(tmp_path)


def test_the_tables_hold_the_files_figures_and_name_what_is_not_run(tmp_path):
    assert list(small_lines(tmp_path)) == ["Not run yet.", ""]
    for seed, robust in enumerate((0.40, 0.42)):
        write_result(tmp_path, Job("at", {}, seed), robust, last=robust - 0.03)
        write_result(tmp_path, Job("at+awp", {}, seed), robust + 0.06 + 0.001 * seed, last=robust + 0.07)
    page = "\n".join(small_lines(tmp_path))
    assert "Not run yet: `at+ensgd-recipe-s0`, `at+awp+ensgd-recipe-s0`, `at-lr=0.03-s0`" in page
    assert "| `at` | 2 | 70.00 ± 0.00 | 43.00 ± 1.41 | 38.00 ± 1.41 | 41.00 ± 1.41 | +5.00 ± 0.00 | 100 |" in page
    assert "| `at+awp` − `at` | 2 | +6.05 |" in page
    assert "- Is `at+awp` more robust than `at` under AutoAttack? Yes (+6.05 points, p 0.0053)." in page
    assert "| `at+awp` | 2 | +1.05 ± 0.07 | +3.95 | +3.31 to +4.59 | 0.0081 | 90.00 ± 0.00 |" in page
    assert "| `at` | **optimizer.lr=0.3** |" not in page
    assert "| `at` | the recipe's | 50.00 | 40.00 | 90.00 |" in page
    assert "| `at` | optimizer.lr=0.3 | not run | not run | not run |" in page
    assert "The values chosen" not in page
    assert "A run with AutoAttack took 200 CPU seconds on one core, and 300 by the clock of the shared machine" in page


def difference(mean, half_width, p_holm, n=5):
    return {
        "seeds": list(range(n)),
        "mean": mean,
        "low": mean - half_width,
        "high": mean + half_width,
        "p": p_holm,
        "p_holm": p_holm,
    }


def test_a_claim_is_answered_with_yes_no_or_the_seeds_that_would_tell():
    assert answer(difference(0.03, 0.01, 0.01)).startswith("Yes (+3.00")
    assert answer(difference(-0.03, 0.01, 0.01)).startswith("No, it is less robust (−3.00")
    assert "would need about 40 seeds" in answer(difference(0.01, 0.0272, 0.4))
    assert answer(difference(0.01, 0, None, n=1) | {"p": None}).startswith("Cannot be told from 1 seed (+1.00")


def test_with_the_seeds_needed_the_mean_is_detectable_and_with_one_less_it_is_not():
    found = difference(0.01, 0.02, 0.3)
    needed = seeds_needed(found)

    def with_seeds(n):
        from scipy.stats import t

        deviation = 0.02 / t.ppf(0.975, 4) * 5**0.5
        return detectable(difference(0.01, deviation * t.ppf(0.975, n - 1) / n**0.5, 0.3, n))

    assert with_seeds(needed) <= 0.01 < with_seeds(needed - 1)
    assert seeds_needed(difference(0.0, 0.02, 1)) is None


def test_curves_are_those_of_the_recipes_values(tmp_path):
    write_result(tmp_path, Job("at", {}, 1))
    write_result(tmp_path, Job("at", {"optimizer.lr": 0.3}, 1))
    (curves,) = curves_of([files.read_json(path) for path in sorted(tmp_path.glob("*.json"))]).values()
    assert curves == {1: [{"epoch": 0, "val_robust": 0.3, "train_pgd20": None, "seconds": 1}, *curves[1][1:]]}
    assert len(curves[1]) == 2


@pytest.mark.slow
def test_one_run_on_a_folder_leaves_a_file_with_curve_and_score(tmp_path):
    pixels = np.random.default_rng(0)
    for part, each in (("train", 12), ("test", 4)):
        for name in ("automobile", "frog", "ship", "truck"):
            (place := tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(each):
                Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{i}.png")
    settings = {"data.train_examples": 32, "data.validation": 8, "train.epochs": 2, "evaluate.n_examples": 4}
    places = {"results": tmp_path / "results", "runs": tmp_path / "runs", "leaderboard": tmp_path / "board"}
    (tmp_path / "results").mkdir()
    options = argparse.Namespace(root=tmp_path / "images", label="tiny", data_dir=Path("data"), **places)
    run_job(job := Job("at", settings), options)
    found = files.read_json(job.file(options.results))
    assert job.is_finished(options.results)
    assert len(found["curve"]["val_robust"].split()) == 2
    assert found["score"]["n"] == 4
    assert 0 < found["training"]["seconds"] < found["wall_seconds"]
    assert found["cpu_seconds"] > 0
    assert found["score"]["board"] == "folder-tiny"
    assert not list(options.results.glob("*.pt"))
