"""The wheel works alone: installed beside its dependencies, outside the checkout, in an empty folder."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from venv_layers import ROOT, VenvLayer, build_distribution

import rb_smooth

pytestmark = pytest.mark.slow
SHIPPED = {
    "rb_smooth": "rb_smooth",
    "recipes": "rb_smooth/_data/recipes",
    "leaderboard/published": "rb_smooth/_data/published",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_distribution("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def layer(wheel, tmp_path_factory):
    layer = VenvLayer(tmp_path_factory.mktemp("layer"), wheel.parent)
    layer.install(wheel)
    return layer


@pytest.fixture(scope="module")
def used(layer, tmp_path_factory):
    """A folder, empty before, in which the recipe has been run: (the folder, what was printed)."""
    folder = tmp_path_factory.mktemp("empty")
    short = ("--epochs=1", "--n-examples=20", "--set=evaluate.version=quick")
    return folder, layer.run("-m", "rb_smooth.recipe", "digits", "at+awp", *short, cwd=folder)


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_its_recipes_and_tables_and_nothing_else(wheel):
    there = contents(wheel)
    info = f"rb_smooth-{rb_smooth.__version__}.dist-info"
    assert f"\nVersion: {rb_smooth.__version__}\n" in there[f"{info}/METADATA"].decode()
    ours = {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}": path.read_bytes()
        for source, target in SHIPPED.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name: text for name, text in there.items() if not name.startswith(f"{info}/")} == ours
    assert {
        "rb_smooth/py.typed",
        "rb_smooth/leaderboard/page/page.js",
        "rb_smooth/_data/recipes/cells.yaml",
    } <= there.keys()


def test_the_sdist_builds_the_very_same_wheel(wheel, tmp_path):
    with tarfile.open(build_distribution("sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("rb_smooth-*")
    assert contents(build_distribution("wheel", tmp_path / "again", source)) == contents(wheel)


def test_what_is_imported_is_the_installed_package_with_its_own_data(layer, tmp_path):
    code = (
        "import importlib.metadata, json, rb_smooth; from rb_smooth.core import environment; "
        "from rb_smooth.leaderboard import entries, zoo; print(json.dumps(dict("
        "file=rb_smooth.__file__, version=importlib.metadata.version('rb_smooth'), recipes=zoo.recipes(), "
        "roots=[str(root) for root in environment.data_roots()], "
        "published=len(entries.published_entries('cifar10', 'Linf')['entries']))))"
    )
    found = json.loads(layer.run("-c", code, cwd=tmp_path))
    assert Path(found["file"]) == layer.site / "rb_smooth" / "__init__.py"
    assert found["version"] == rb_smooth.__version__
    assert found["roots"] == [str(layer.site / "rb_smooth" / "_data")]
    assert found["recipes"] == rb_smooth.recipes()
    assert found["published"] > 70
    assert not list(tmp_path.iterdir())


def test_the_papers_cells_are_listed(layer, tmp_path):
    said = layer.run("-m", "rb_smooth.recipe", "list", "cifar10", cwd=tmp_path)
    assert "at+awp+ensgd" in said
    assert not list(tmp_path.iterdir())


def test_a_recipe_writes_runs_and_leaderboard_where_it_is_run_and_nothing_else(used):
    folder, said = used
    assert sorted(path.name for path in folder.iterdir()) == ["leaderboard", "runs"]
    assert "at+awp (1 epoch)" in said
    assert len(list(folder.glob("leaderboard/model_info/digits/Linf/*.json"))) == 1


def test_the_page_is_built(layer, used):
    folder, _ = used
    layer.run("-m", "rb_smooth.leaderboard", "page", cwd=folder)
    page = (folder / "leaderboard" / "index.html").read_text()
    assert "at+awp" in page
    assert "<script>" in page  # page.js came with the wheel


def test_the_entry_loads_through_our_api_and_through_robustbenchs(layer, used):
    folder, _ = used
    code = (
        "import rb_smooth, torch; (name,) = rb_smooth.register(new_datasets=True); import robustbench\n"
        "theirs = robustbench.load_model(name, 'leaderboard/models', 'digits', 'Linf')\n"
        "x = torch.rand(2, 1, 8, 8)\n"
        "print(torch.equal(theirs(x), rb_smooth.load_model(name, 'digits')(x)))"
    )
    assert layer.run("-c", code, cwd=folder).split() == ["True"]
