"""docs/api.md is true: its blocks run as they are printed, and its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rb_smooth

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("short_attacks", "no_curve_plots")
def test_the_page_runs_as_it_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    left: dict = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/api.md, block {number}", "exec"), left)
    said = capsys.readouterr().out
    assert re.search(r"^expected an option of optimizer sgd, got 'lrr'; did you mean 'lr'\?", said, re.MULTILINE)
    assert f"\n{left['score']}\n" in said
    assert left["bound"].n == 12
    assert left["table"]["methods"][1]["method"] == "trades"
    assert "\\toprule" in left["latex"]
    assert left["best"].state == "evaluated"
    for made in ("leaderboard/index.html", f"bundles/{left['entry'].name}/SHA256SUMS"):
        assert Path(made).exists()
    _, _, table = PAGE.partition("| command |")
    for word in re.findall(r"`(\w+)\(", table.partition("```")[0]):
        assert word in left or hasattr(rb_smooth, word), word


def test_every_function_of_the_package_is_on_the_page():
    for name in rb_smooth.__all__:
        assert re.search(rf"\b{name}\b", PAGE), name
