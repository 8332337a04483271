"""The documentation builds as a website without warnings, and is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rb_smooth
from rb_smooth import plugin

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.with_suffix(".html").name).exists(), page


def test_the_reference_has_every_public_name(site):
    headings = set(re.findall(r'<h3 id="[^"]*?\.(\w+)"', (site / "reference.html").read_text()))
    assert headings >= ({*rb_smooth.__all__} - {"Refused", "Outsider"}) | {*plugin.__all__}


def test_pages_load_nothing_from_the_network(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*?(?:src|href)="(https?:[^"]*)"', page.read_text())
        assert not loaded, page


def test_copies_of_the_repositorys_files_are_linked_and_exist(site):
    text = (site / "gpu.html").read_text()
    assert 'href="repository/benchmarks/gpu.json"' in text
    assert (site / "repository/benchmarks/gpu.json").read_bytes() == (ROOT / "benchmarks/gpu.json").read_bytes()
