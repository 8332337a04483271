"""Hostile command lines and files, made from real ones: each is used, or refused in lines that say what to do."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from run_program import run_program

from rb_smooth import landscape, recipe, runs, smoothness, theory
from rb_smooth.config.resolver import resolve_method
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard import __main__ as leaderboard
from rb_smooth.leaderboard import external

pytestmark = pytest.mark.slow

SECONDS = 10
"""Longest time of a case."""

NUMBERS = [0, -1, 1.5, 2**31, 2**63, 2**64, 10**400, 1e308, float("nan"), float("inf"), -float("inf")]
TEXTS = ["", " ", "nan", "a\nb", "../../x", "/dev/null", "\x1b[2J", "é" * 300, "=1+1", "<script>", "null", "1:30", "%s"]
HOSTILE = [*NUMBERS, *TEXTS, None, True, [], {}, [[]], {"a": {}}, [None], {"": 1}, [1, "a"]]
YAMLS = ["&a [*a]", "!!bool x", "!!int ''", "{a: 1, a: 2}", "1/0", "0x" + "f" * 999, "2020-01-01", "[" * 99, "{1: 2}"]
YAMLS += ["!!set {a}", "!!binary YQ==", "1" * 5000, "1" * 400 + "/1", ".inf", ".nan", "|", "- a", "[a, {b: c}]", "~"]

hostile = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8), st.floats(), st.integers())
texts = st.one_of(
    st.sampled_from([*map(str, HOSTILE), *YAMLS]), st.text(st.characters(exclude_characters="\0"), max_size=9)
)


def few(cases: int) -> Callable[[Any], Any]:
    """Settings of a test with so many cases, the same ones in every run."""
    ignored = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=int(os.environ.get("FUZZ_CASES", cases)),
        derandomize="FUZZ_CASES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=ignored,
    )


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(main: Callable[[], int | None], *arguments: object) -> int:
    """The exit code, 0 or 2; 2 comes with lines that say what to do. An exception fails the test."""
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()), time_limit():
        code = run_program(main, *arguments)
    lines = [line for line in said.getvalue().splitlines() if line.startswith("rb_smooth")]
    assert "Traceback" not in said.getvalue()
    assert code in (0, 2), said.getvalue()
    if code == 2:
        assert lines, said.getvalue()
        assert all(line.count(";") for line in lines if "valid:" not in line), lines
    return code


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all parts of nested lists and dictionaries."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutated(value: Any) -> st.SearchStrategy[Any]:
    """`value` with one to three parts replaced by hostile ones, dropped, or nested."""
    every = list(places(value))

    @st.composite
    def change(draw: Any) -> Any:
        changed = json.loads(json.dumps(value))
        for _ in range(draw(st.integers(1, 3))):
            *within, last = draw(st.sampled_from(every)) or (None,)
            how = draw(st.sampled_from(["replace", "replace", "drop", "nest", "add"]))
            if last is None:
                if draw(st.integers(0, 9)) == 0:
                    return draw(hostile)
                continue
            target = changed
            try:
                for key in within:
                    target = target[key]
                if how == "replace":
                    target[last] = draw(hostile)
                elif how == "drop":
                    del target[last]
                elif how == "nest":
                    target[last] = {"a": [target[last]]}
                else:
                    target[draw(st.text(max_size=5))] = draw(hostile)
            except (KeyError, IndexError, TypeError):
                continue
        return changed

    return change()


def broken_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` cut off, with bytes replaced or inserted."""
    positions, pieces = st.integers(0, len(content)), st.binary(max_size=6)
    cut = positions.map(lambda at: content[:at])
    replaced = st.tuples(positions, pieces).map(lambda p: content[: p[0]] + p[1] + content[p[0] + len(p[1]) :])
    inserted = st.tuples(positions, pieces).map(lambda p: content[: p[0]] + p[1] + content[p[0] :])
    return st.one_of(cut, replaced, inserted, pieces)


def as_json(value: Any) -> str:
    return json.dumps(value, default=str)


@pytest.fixture
def home(finished_run, tmp_path, monkeypatch):
    """A finished run and its entry, in the current folder."""
    shutil.copytree(finished_run, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")


def run_folder() -> Path:
    return next(Path("runs/digits").glob("at-s0-*"))


def entry_file() -> Path:
    return next(Path("leaderboard/model_info").glob("*/*/*.json"))


_LINES = [
    (recipe.main, ("show", "digits", "at"), ("--seed", "--epochs", "--set", "--n-examples", "--json", "--gpus")),
    (recipe.main, ("list",), ("digits", "--json", "--seeds")),
    (recipe.main, ("keys",), ("objective.at", "data", "--json")),
    (leaderboard.main, ("table", "digits", "Linf"), ("--published", "--csv", "--latex", "--leaderboard")),
    (leaderboard.main, ("show",), ("--dataset", "--threat", "--json", "--leaderboard")),
    (leaderboard.main, ("compare",), ("--dataset", "--threat", "--json")),
    (leaderboard.main, ("evaluate", "x"), ("--eps", "--norms", "--n-examples", "--leaderboard", "--zoo-dir")),
    (leaderboard.main, ("submit", "x"), ("--arch", "--eps", "--threat", "--dataset", "--set", "--step-size", "--name")),
    (runs.main, (), ("compare", "--runs", "--json", "--out")),
    (theory.main, ("--only", "x"), ("--seed", "--gamma", "--json")),
    (landscape.main, ("plot",), ("--points", "--range", "--out", "--weights")),
    (smoothness.main, ("plot",), ("--n", "--radii", "--eps", "--out")),
]


@few(60)
@given(data=st.data())
def test_a_command_line(home, data):
    main, start, more = data.draw(st.sampled_from(_LINES))
    words = data.draw(st.lists(st.one_of(st.sampled_from(more), texts), max_size=5))
    tried(main, *start, *words)


_KEYS = [
    f"{'.'.join(map(str, path))}"
    for path in places(resolve_method("digits", "trades+awp+ensgd+wa")[1])
    if path and len(path) > 1
]


@few(150)
@given(data=st.data())
def test_a_value_of_set(home, data):
    keys = data.draw(st.lists(st.one_of(st.sampled_from(_KEYS), st.text(max_size=5)), min_size=1, max_size=3))
    method = data.draw(st.sampled_from(["at", "trades+awp+ensgd+wa", "standard", "mart"]))
    tried(recipe.main, "show", "digits", method, *(f"--set={key}={data.draw(texts)}" for key in keys))


@few(60)
@given(data=st.data())
def test_a_recipe_file(home, data):
    sections = data.draw(mutated(resolve_method("digits", "at+awp+ensgd")[1]))
    text = as_json(sections)
    if data.draw(st.booleans()):
        text = text.replace(data.draw(st.sampled_from(["{", "}", ": ", ", ", "0", "a"])), data.draw(texts), 1)
    Path("mine.yaml").write_text(text, errors="replace")
    tried(recipe.main, "show", "mine.yaml")


@few(40)
@given(data=st.data())
def test_an_entry(home, data):
    path = entry_file()
    whole = path.read_bytes()
    try:
        path.write_text(as_json(data.draw(mutated(json.loads(whole)))), errors="replace")
        for command in (["show", path.stem], ["compare", path.stem], ["table", "digits", "Linf"]):
            tried(leaderboard.main, *command)
    finally:
        path.write_bytes(whole)


@few(10)
@given(data=st.data())
def test_the_page_of_an_entry(home, data):
    path = entry_file()
    whole = path.read_bytes()
    try:
        path.write_text(as_json(data.draw(mutated(json.loads(whole)))), errors="replace")
        tried(leaderboard.main, "page")
    finally:
        path.write_bytes(whole)


@few(60)
@given(data=st.data())
def test_a_score(home, data):
    path = run_folder() / "score.json"
    whole = path.read_bytes()
    try:
        path.write_text(as_json(data.draw(mutated(json.loads(whole)))), errors="replace")
        tried(runs.main)
        tried(leaderboard.main, "submit", run_folder(), "--leaderboard", "other", "--n-examples", 1)
    finally:
        path.write_bytes(whole)
        shutil.rmtree("other", ignore_errors=True)


@few(40)
@given(data=st.data())
def test_a_file_of_a_run(home, data):
    folder = run_folder()
    path = folder / data.draw(st.sampled_from(["log.csv", "recipe.yaml", "training.json"]))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(broken_bytes(whole)))
        tried(runs.main)
        tried(runs.main, "compare", folder, "--out", "x.png") if data.draw(st.integers(0, 9)) == 0 else None
        tried(leaderboard.main, "submit", folder, "--leaderboard", "other")
    finally:
        path.write_bytes(whole)
        shutil.rmtree("other", ignore_errors=True)


@few(40)
@given(data=st.data())
def test_the_points_of_an_entry(home, data):
    path = next(entry_file().parents[3].rglob("*.csv"))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(broken_bytes(whole)))
        tried(leaderboard.main, "compare", entry_file().stem)
        tried(leaderboard.main, "show", entry_file().stem)
    finally:
        path.write_bytes(whole)


@pytest.fixture
def no_attack(monkeypatch):
    """An evaluation ends where its attack would start."""

    def stop(*_: Any, **__: Any) -> None:
        raise UserError("expected no attack, got here; done")

    monkeypatch.setattr(external, "evaluate_model", stop)
    monkeypatch.setattr(external, "evaluation_estimate", lambda *_: "")


def submit_file(path: Path, *more: object) -> None:
    known = ("--arch=small_preactresnet", "--set=model.width=4", "--threat=Linf", "--eps=8/255", "--n-examples=2")
    tried(leaderboard.main, "submit", path, *known, *(more or ["--dataset=digits"]))


@few(60)
@given(data=st.data())
def test_a_checkpoint(home, no_attack, data):
    path = Path("net.pt")
    whole = (run_folder() / "best.pt").read_bytes()
    how = data.draw(st.sampled_from(["bytes", "pickle", "state", "zip"]))
    if how == "bytes":
        path.write_bytes(data.draw(broken_bytes(whole)))
    elif how == "pickle":
        path.write_bytes(b"\x80\x02" + data.draw(st.binary(max_size=40)) + b".")
    elif how == "zip":
        with zipfile.ZipFile(io.BytesIO(whole)) as read, zipfile.ZipFile(path, "w") as written:
            for name in read.namelist():
                content = read.read(name)
                changed = data.draw(broken_bytes(content)) if data.draw(st.integers(0, 5)) == 0 else content
                written.writestr(name, changed)
    else:
        state = dict(torch.load(io.BytesIO(whole), weights_only=True))
        for key in data.draw(st.lists(st.sampled_from(sorted(state)), max_size=4)):
            values = [
                torch.zeros(0),
                torch.zeros(2, 3),
                torch.full((4,), float("nan")),
                torch.zeros(4, dtype=torch.int8),
            ]
            value = data.draw(st.one_of(hostile, st.sampled_from(values)))
            if isinstance(value, int) and abs(value) >= 2**63:
                value = 0
            state[key] = value
        torch.save(data.draw(st.sampled_from([state, [state], {"model": state}, {"a": state, "b": state}])), path)
    submit_file(path)


@few(100)
@given(data=st.data())
def test_an_image_of_a_folder(home, no_attack, data):
    buffer = io.BytesIO()
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF"]))
    mode = data.draw(st.sampled_from(["RGB", "L", "P", "1"] if kind != "JPEG" else ["RGB", "L", "CMYK"]))
    Image.new(mode, (8, 8)).save(buffer, kind)
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png", "train/c/1.png", "test/c/1.png"):
        path = Path("images") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    path = Path("images") / data.draw(st.sampled_from(["train/a/1.png", "test/a/1.png"]))
    path.write_bytes(data.draw(st.one_of(broken_bytes(buffer.getvalue()), st.just(buffer.getvalue()))))
    size = data.draw(st.sampled_from([[], ["--set=data.image_size=8"]]))
    submit_file(run_folder() / "best.pt", "--dataset=folder", "--set=data.root=images", *size)
    tried(recipe.main, "show", "digits", "at", "--set=data.name=folder", "--set=data.root=images", *size)


@few(100)
@given(data=st.data())
def test_extra_images(home, data):
    buffer, path = io.BytesIO(), Path("extra.npz")
    count = data.draw(st.integers(0, 3))
    image = np.zeros((count, *data.draw(st.sampled_from([(8, 8, 1), (8, 8), (1, 8, 8), ()]))), np.uint8)
    label = data.draw(st.sampled_from([[0] * count, [99] * count, [0.5] * count, ["a"] * count, [None] * count, []]))
    np.savez(buffer, image=image, label=np.array(label))
    path.write_bytes(data.draw(st.one_of(broken_bytes(buffer.getvalue()), st.just(buffer.getvalue()))))
    extra = f"--set=data.extra={as_json({'file': str(path), 'share': 0.5})}"
    tried(recipe.main, "show", "digits", "at", extra)
