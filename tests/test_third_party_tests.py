"""The tests that RobustBench and torchattacks bring of their own pass beside us."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = os.environ.get("TORCHATTACKS_SOURCE")
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}

pytestmark = pytest.mark.slow


def test_all_five_of_robustbenchs_own_tests_pass_beside_us_without_network(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "robustbench_own_tests.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *said, told = done.stdout.splitlines()
    assert json.loads(told) == {
        "passed": [
            "tests.test_clean_acc.CleanAccTester.test_clean_acc_jsons_exact",
            "tests.test_clean_acc.CleanAccTester.test_clean_acc_jsons_fast",
            "tests.test_eval.CleanAccTester.test_benchmark_train",
            "tests.test_utils.Test.test_load_model",
            "tests.test_utils.Test.test_load_model_norm",
        ],
        "failed": {},
        "skipped": {},
    }
    assert said.count("Test is passed for 7/7 models.") == 2  # four of ours, three published
    accuracies = re.findall(r"ours_(\w+): clean accuracy ([\d.]+)% \(on 10000", done.stdout)
    assert len({accuracy for _, accuracy in accuracies}) > 1  # or any model might pass for another


@pytest.mark.skipif(SOURCE is None, reason="TORCHATTACKS_SOURCE names no checkout; torchattacks' wheel has no tests")
def test_torchattacks_own_tests_pass_beside_us_without_network(tmp_path):
    for path in Path(SOURCE, "code_coverage").glob("test_*.py"):
        shutil.copy(path, tmp_path)  # elsewhere, or they would import the checkout's packages
    options = ("-q", "-p", "torchattacks_beside_us", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    import torchattacks

    attacks = [name for name in torchattacks.__all__ if name not in torchattacks.__wrapper__]
    assert f"{len(attacks) + 1} passed" in done.stdout  # each attack, and that of the import
