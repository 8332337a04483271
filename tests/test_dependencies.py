"""The wheel's dependencies can be had together, at both ends of their ranges; resolved by pip, and not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pyproject_toml import read_pyproject
from venv_layers import ROOT, build_distribution

pytestmark = pytest.mark.slow
PYTHON = "3.11"
REQUIRED = [Requirement(each) for each in read_pyproject(ROOT)["project"]["dependencies"]]


def lowest_version(required):
    """`numpy>=1.26` -> `numpy==1.26.*`"""
    (bound,) = (each.version for each in required.specifier if each.operator == ">=")
    return f"{required.name}=={bound}.*"


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    """What pip would install with the wheel and further requirements, name -> version. It reads metadata alone."""
    place = tmp_path_factory.mktemp("resolution")
    wheel = build_distribution("wheel", place)
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, "pip"]
    if subprocess.run(fetch, capture_output=True).returncode:
        pytest.skip("needs a package index")
    (newest_pip,) = place.glob("pip-*.whl")  # older ones download what they only look at

    def resolve(*more):
        options = ["--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--python-version", PYTHON]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                *options,
                f"--target={place / 'no'}",
                f"--report={place / 'r'}",
                wheel,
                *more,
            ],
            env=os.environ | {"PYTHONPATH": str(newest_pip)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not (place / "no").exists()
        said = json.loads(Path(place, "r").read_text())
        return {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in said["install"]}

    return resolve


def test_the_newest_of_all_go_together(resolved):
    found = resolved()
    assert {each.name.lower() for each in REQUIRED} <= found.keys()
    assert Version(found["torch"]) > Version("2.11")


def test_they_go_with_the_torch_of_older_gpu_machines(resolved):
    found = resolved("torch==2.11.*")
    assert found["torch"].startswith("2.11.")
    assert Version(found["setuptools"]) < Version("82")  # which has pkg_resources still


def test_the_lowest_of_all_go_together(resolved):
    found = resolved(*(lowest_version(each) for each in REQUIRED))
    assert found["torch"].startswith("2.6.")
    assert found["numpy"].startswith("1.26.")
