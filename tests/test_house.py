"""The house: imports point down, methods do not know each other, names do not collide, files stay small."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rb_smooth"
FOLDERS = ("core", "components", "data", "config", "evaluation", "training", "leaderboard", "analysis")
"""Each imports from itself and from those before it; the programs beside them, from all."""

PROGRAMS = {
    *("__init__", "__main__", "api", "recipe", "runs", "doctor", "laws", "landscape", "smoothness", "theory"),
    *("plugin", "tune"),
}
ALLOWED = {"robustbench", "run"}
"""Functions that share the name of a module: a recipe's model, and the console script."""
METHOD_FOLDERS = ("objectives", "perturbations", "optimizers", "averaging")
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def text_of(file: Path) -> str:
    return file.read_text()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(text_of(file))


def folder_index(module: str) -> int:
    first = module.split(".")[0]
    return FOLDERS.index(first) if first in FOLDERS else len(FOLDERS)


def module_path(file: Path) -> str:
    """The dotted path of a file below the package; of an __init__, its folder's."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_path(file) for file in FILES}


@cache
def imported_modules(file: Path) -> frozenset[str]:
    """The rb_smooth modules that `file` imports when it runs, as dotted paths below the package."""
    tree = tree_of(file)
    guarded = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in guarded:
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("rb_smooth.")}
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative imports would hide from this test"
        if (
            isinstance(node, ast.ImportFrom)
            and node not in guarded
            and (node.module or "").split(".")[0] == "rb_smooth"
        ):
            path = node.module.split(".")[1:]
            inner = {".".join([*path, alias.name]) for alias in node.names}
            found |= {each if each in MODULES else ".".join(path) for each in inner}
    return frozenset(found)


def test_imports_point_downward_and_methods_do_not_know_each_other():
    faults = []
    method = re.compile(rf"components\.({'|'.join(METHOD_FOLDERS)})\.[a-z]\w*")
    for file in FILES:
        if own := module_path(file):
            faults += [
                f"{own} reaches up to {each}"
                for each in imported_modules(file)
                if folder_index(each) > folder_index(own)
            ]
            if method.fullmatch(own):
                faults += [f"{own} knows {each}" for each in imported_modules(file) if method.fullmatch(each)]
    assert not faults


def test_every_file_is_in_a_folder_or_is_a_program():
    assert {file.stem for file in PACKAGE.glob("*.py")} == PROGRAMS
    assert {file.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE} == set(FOLDERS)
    assert all((file.parent / "__init__.py").exists() for file in FILES)


def test_imports_form_no_circle():
    TopologicalSorter(
        {module_path(file): imported_modules(file) - {module_path(file)} for file in FILES if module_path(file)}
    ).prepare()


def test_files_stay_small():
    lines = {str(file.relative_to(PACKAGE)): len(text_of(file).splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if count > 265}


def test_no_public_function_shares_a_modules_name():
    modules = {f.stem for f in FILES} | {f.parent.name for f in FILES}
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.FunctionDef):
                assert node.name not in modules - ALLOWED, f"{file.name}: {node.name}"


def test_no_test_folder_is_a_package():
    assert not list(Path(__file__).parent.rglob("__init__.py"))  # robustbench installs a top-level `tests`


@pytest.mark.parametrize(
    "statement",
    ["import rb_smooth", "import rb_smooth.recipe, rb_smooth.config.resolver, rb_smooth.training.run_folder.run"],
)
def test_importing_costs_no_torch(statement):
    code = f"{statement}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("folder", METHOD_FOLDERS)
def test_each_method_file_holds_one_documented_keyword_only_class(folder):
    from rb_smooth.config.registry import component_names, find_component

    kind = {"averaging": "averaging"}.get(folder, folder[:-1])
    assert component_names(kind)
    for name in component_names(kind):
        cls = find_component(kind, name)
        assert inspect.getdoc(sys.modules[cls.__module__])
        assert inspect.getdoc(cls)
        parameters = list(inspect.signature(cls).parameters.values())
        positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert [p.name for p in positional] == (["params"] if kind == "optimizer" else [])


def test_git_ignores_no_file_of_the_package():
    listed = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", "rb_smooth"]
    done = subprocess.run(listed, cwd=PACKAGE.parent, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not in a git checkout")
    assert not [path for path in done.stdout.split("\n") if path and "__pycache__" not in path]
