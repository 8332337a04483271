"""docs/adding-a-method.md does what it says: the package that it prints is made of it, and its commands are typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from document_sandbox import run_command
from fake_plugins import SAMPLE, install_project
from rb_smooth_sam import more

import rb_smooth
from rb_smooth import plugin
from rb_smooth.leaderboard.entries import list_entries

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text()
FILES = dict(re.findall(r"^`([\w./+]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
INSTALLING = "python -m pip install --editable ."


def test_every_block_is_a_file_a_command_or_what_a_command_prints():
    there = [path for path in SAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert FILES.keys() == {path.relative_to(SAMPLE).as_posix() for path in there}
    assert len(BLOCKS) == len(FILES) + sum(kind == "bash" for kind, _ in BLOCKS) + 1


@pytest.mark.parametrize("path", FILES)
def test_the_sample_plugin_is_the_one_on_the_page(path):
    assert (SAMPLE / path).read_text() == FILES[path]


@pytest.mark.parametrize(("kind", "method"), [("objective", more.LogitPairing), ("optimizer", more.SignSGD)])
def test_the_other_methods_on_the_page_pass_the_checks(kind, method):
    for check in plugin.contract_checks(kind):
        check(method)


def test_the_augmentation_on_the_page_blacks_out_one_square_of_each_image():
    x = torch.full((500, 1, 8, 8), 7, dtype=torch.uint8)
    cut, again = (more.cutout(reach=1)(x, torch.Generator().manual_seed(0)) for _ in range(2))
    black = (cut == 0).flatten(1).sum(1)
    assert torch.equal(cut, again)
    assert cut.dtype == torch.uint8
    assert set(black.tolist()) == {4, 6, 9}  # in a corner, at a border, inside


@pytest.mark.slow
def test_the_commands_on_the_page_lead_to_an_entry_of_the_leaderboard(package_site, tmp_path, monkeypatch, capsys):
    """Our programs are typed in this process; the page's own tests run in another, as a user's would."""
    project = tmp_path / "project"
    for path, text in FILES.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "200")
    paths = [package_site.place, Path(rb_smooth.__file__).parents[1]]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    printed = {}
    for command in COMMANDS:
        python, m, module, *arguments = command.split()
        assert (python, m) == ("python", "-m")
        if command == INSTALLING:
            install_project(project, package_site.place)  # what pip would leave
            package_site.refresh()
        elif module.startswith("rb_smooth."):
            code = run_command(module.removeprefix("rb_smooth."), arguments)
            said = capsys.readouterr()
            assert code == 0, f"{command}\n{said.out}{said.err}"
            printed[command] = said.out
        else:
            done = subprocess.run([sys.executable, m, module, *arguments], env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "(from rb-smooth-sam 0.1)" in printed["python -m rb_smooth.recipe list digits"]
    assert printed["python -m rb_smooth.laws perturbation sam"] in [text for kind, text in BLOCKS if not kind]
    (entry,), _ = list_entries(project / "leaderboard")
    assert entry.own["method"] == "at+sam (2 epochs)"
    assert entry.packages == {"perturbation.sam": "rb-smooth-sam 0.1"}
    assert "perturbation sam from rb-smooth-sam 0.1" in (project / "leaderboard" / "index.html").read_text()


@pytest.mark.slow
def test_pip_makes_of_it_what_the_tests_make_of_it(tmp_path):
    pytest.importorskip("hatchling")
    shutil.copytree(SAMPLE, tmp_path / "project")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "."]
    subprocess.run(pip, check=True, cwd=tmp_path / "project")
    (wheel,) = (tmp_path / "project").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "by pip")
    install_project(SAMPLE, tmp_path / "by us")
    for path in (tmp_path / "by us").rglob("*"):
        if path.is_file() and path.name != "METADATA":
            twin = tmp_path / "by pip" / path.relative_to(tmp_path / "by us")
            assert twin.read_text().split() == path.read_text().split(), path.name
