"""The house: imports point down, methods do not know each other, names do not collide, files stay small."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rb_smooth"
FLOORS = [
    {
        *(
            "refusal",
            "interruption",
            "seeding",
            "files",
            "documents",
            "crews",
            "provenance",
            "console",
            "standins",
            "bridge",
        ),
        *(
            "launch",
            "crashes",
            "commandline",
            "plugins",
            "processes",
            "weights",
            "batchnorm",
            "attacks",
            "ranges",
            "divergence",
            "langevin",
            "contracts",
            "exactness",
        ),
    },
    {
        *("objectives", "perturbations", "optimizers", "averaging"),
        *(
            "coupling",
            "schedules",
            "augmentations",
            "data",
            "images",
            "streaming",
            "splits",
            "models",
            "memory_format",
            "outlines",
            "extra",
            "checkpoints",
        ),
    },
    {
        *("notation", "sections", "cookbook", "cells", "settings", "entries", "states", "run_folder", "units"),
        "radii",
        *("registry", "declaration", "schema", "preflight", "pretrained", "labelling"),
        *("comparison", "scoreboard"),
    },
    {
        "training",
        "guards",
        "minibatches",
        "listing",
        *("keys", "reference"),
        "session",
        "epochs",
        "networks",
        *("evaluation", "protocols", "attackers", "trust", "findings", "assessment", "scores", "measurement"),
        "plan",
        *("credits", "submission", "outsiders", "audit", "reproduction", "profile"),
        "board",
        "zoo",
        "doctor",
        "recipe",
        *("devices", "pipeline"),
        *("logs", "curves", "scalars", "reports", "summaries", "runs"),
        *("attempts", "workers", "sweep"),
    },
    {
        "__main__",
        "api",
        "laws",
        "page",
        "board_options",
        "leaderboard",
        "theory",
        "study",
        "plots",
        "smoothness",
        "landscape",
    },
]
METHOD_FOLDERS = ("objectives", "perturbations", "optimizers", "averaging")
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def text_of(file: Path) -> str:
    return file.read_text()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(text_of(file))


def floor(module: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if module in rooms)


@cache
def imported(file: Path) -> frozenset[str]:
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
            found |= {".".join(path)} if path else {alias.name for alias in node.names}
    return frozenset(found)


def test_imports_point_downward_and_methods_do_not_know_each_other():
    faults = []
    for file in FILES:
        if file.stem == "__init__":
            continue
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        rooms = {target: target.split(".")[0] for target in imported(file)}
        faults += [f"{file.name} reaches up to {each}" for each in rooms if floor(rooms[each]) > floor(room)]
        if room in METHOD_FOLDERS:
            faults += [f"{file.name} knows {each}" for each in rooms if rooms[each] in METHOD_FOLDERS]
    assert not faults


def test_every_room_is_on_a_floor():
    rooms = {f.relative_to(PACKAGE).with_suffix("").parts[0] for f in FILES} - {"__init__"}
    assert rooms == set().union(*FLOORS)


def test_no_two_files_import_each_other():
    graph = {f.stem: {t.split(".")[0] for t in imported(f)} for f in PACKAGE.glob("*.py") if f.stem != "__init__"}
    for one, targets in graph.items():
        for other in targets & graph.keys():
            # an import inside a function counts, too
            assert one not in graph[other], f"{one} and {other} import each other"


def test_files_stay_small():
    lines = {str(file.relative_to(PACKAGE)): len(text_of(file).splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if count > 265}


def test_no_public_function_shares_a_modules_name():
    modules = {f.stem for f in FILES} | {f.parent.name for f in FILES}
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.FunctionDef):
                assert node.name not in modules, f"{file.name}: {node.name}"


def test_no_test_folder_is_a_package():
    assert not list(Path(__file__).parent.rglob("__init__.py"))  # robustbench installs a top-level `tests`


@pytest.mark.parametrize(
    "statement", ["import rb_smooth", "import rb_smooth.recipe, rb_smooth.cookbook, rb_smooth.run_folder"]
)
def test_importing_costs_no_torch(statement):
    code = f"{statement}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("folder", METHOD_FOLDERS)
def test_each_method_file_holds_one_documented_keyword_only_class(folder):
    from rb_smooth.registry import find, names

    kind = {"averaging": "averaging"}.get(folder, folder[:-1])
    assert names(kind)
    for name in names(kind):
        cls = find(kind, name)
        assert inspect.getdoc(sys.modules[cls.__module__])
        assert inspect.getdoc(cls)
        parameters = list(inspect.signature(cls).parameters.values())
        positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert [p.name for p in positional] == (["params"] if kind == "optimizer" else [])
