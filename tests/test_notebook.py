"""examples/quickstart.ipynb runs in a Jupyter kernel, with other values in its cell of parameters."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
QUICK = """
epochs = 1
changes = {"model.width": 2, "data.train_examples": 128, "evaluate.version": "quick", "evaluate.n_examples": 12}
"""


def output_of(cell):
    """The text that a cell prints."""
    return "".join(each.text for each in cell.outputs if each.output_type == "stream" and each.name == "stdout")


@pytest.fixture(scope="module")
def stored():
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_runs(tmp_path, monkeypatch, stored):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    quick = stored.copy()
    quick.cells = [cell.copy() for cell in stored.cells]
    (parameters,) = [cell for cell in quick.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = QUICK
    place = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(quick, timeout=300, kernel_name="python3", resources=place).execute()
    _, train, evaluate, plot, compare, examples = code_cells(quick)
    assert len(re.findall("^epoch +1/1", output_of(train), re.MULTILINE)) == 2
    assert "at+awp: clean" in output_of(evaluate)
    assert "at+awp" in output_of(compare)  # printed, not only displayed
    for cell in (plot, examples):
        assert any("image/png" in each.get("data", {}) for each in cell.outputs)
    assert "\x1b" not in "".join(output_of(cell) for cell in code_cells(quick))
    assert not any(each.get("name") == "stderr" for cell in code_cells(quick) for each in cell.outputs)


def test_the_stored_outputs_are_those_of_one_complete_run(stored):
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    for epoch in range(1, 21):  # no line is lost beside the progress bars
        assert len(re.findall(rf"^epoch +{epoch}/20 ", output_of(cells[1]), re.MULTILINE)) == 2
    text = NOTEBOOK.read_text()
    for absent in ("/home/", "/tmp/", '"output_type": "error"', "\\u001b"):
        assert absent not in text
