"""A bundle for RobustBench: whole, checked, honest about what it is not, and loadable by RobustBench itself."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import torch
from fake_entries import add_points, add_weights, make_entry

from rb_smooth.config import yaml
from rb_smooth.config.registry import build_model, component_names
from rb_smooth.core import files, robustbench
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.reports import bundle
from rb_smooth.leaderboard.reports.architecture_source import write_architecture_source
from rb_smooth.leaderboard.reports.bundle import write_bundle

MODEL = {"name": "small_preactresnet", "options": {"width": 2}, "shape": [3, 8, 8], "classes": 5}

SMALL = {
    "preactresnet18": ({}, [3, 32, 32]),
    "resnet18": ({}, [3, 32, 32]),
    "wideresnet": ({"depth": 10, "width": 1}, [3, 32, 32]),
    "small_preactresnet": ({"width": 2}, [1, 8, 8]),
    "robustbench": ({"id": "Wong2020Fast", "threat": "Linf", "zoo_dir": "models"}, [3, 32, 32]),
    "timm": ({"id": "resnet10t"}, [3, 32, 32]),
}


def complete_entry(folder, name="mine", own=None, **changed):
    """An entry of a tiny net, with its weights and points."""
    score = {"n": 4, "autoattack": 0.5, "whole": False} | changed
    entry = make_entry(folder, name, model=MODEL, own=own, **score)
    net = build_model(MODEL["name"], MODEL["options"], tuple(MODEL["shape"]), 5, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    return add_points(add_weights(entry, net.state_dict()), [True, True, False, False])


def run_python_file(path) -> dict:
    namespace: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace


def test_robustbenchs_own_loader_takes_the_bundle(tmp_path):
    entry = complete_entry(tmp_path / "board")
    folder = write_bundle(entry, tmp_path / "out")
    assert folder == tmp_path / "out" / "mine"
    name, record = run_python_file(folder / "registry.py")["ENTRY"]
    assert name == "mine"
    table = robustbench.zoo_table("cifar10", "Linf")
    table[name] = record
    try:
        loaded = robustbench.import_robustbench().utils.load_model(name, model_dir=folder / "models", dataset="cifar10")
    finally:
        del table[name]
    ours = build_model(MODEL["name"], MODEL["options"], tuple(MODEL["shape"]), 5)
    ours.load_state_dict(files.load_tensors(entry.weights))
    x = torch.rand(3, *MODEL["shape"])
    with torch.no_grad():
        assert torch.equal(loaded(x), ours.eval()(x))


def test_the_snippet_needs_nothing_of_ours(tmp_path):
    source = (write_bundle(complete_entry(tmp_path / "board"), tmp_path / "out") / "registry.py").read_text()
    assert re.findall(r"^(?:import|from) +([\w.]+)", source, re.M) == [
        "importlib",
        "typing",
        "torch",
        "torch.nn.functional",
        "torch",
    ]
    assert "rb_smooth" not in source


@pytest.mark.parametrize("name", component_names("model"))
def test_every_architecture_can_be_written_down_and_takes_our_weights(name, tmp_path):
    options, shape = SMALL[name]
    path = tmp_path / "architecture.py"
    model = {"name": name, "options": options, "shape": shape, "classes": 10}
    path.write_text(write_architecture_source(model))
    with torch.device("meta"):  # names and shapes are all that is compared
        theirs = run_python_file(path)["build"]().state_dict()
    ours = build_model(name, options, tuple(shape), 10).state_dict()
    assert {key: value.shape for key, value in theirs.items()} == {key: value.shape for key, value in ours.items()}


@pytest.mark.parametrize(
    "model",
    [
        MODEL | {"name": "Normalized"},
        MODEL | {"name": "vit"},
        MODEL | {"options": {"width=1); import os; (": 1}},
        MODEL | {"options": {"width": [1]}},
    ],
)
def test_what_cannot_be_written_down_is_refused(model):
    with pytest.raises(UserError):
        write_architecture_source(model)


def test_the_bundle_holds_all_that_is_asked_for_and_its_sums_are_true(tmp_path):
    entry = complete_entry(tmp_path / "board")
    folder = write_bundle(entry, tmp_path / "out")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert found == sums.keys() | {"SHA256SUMS"}
    assert found == {
        *("README.md", "issue.md", "registry.py", "evaluation.log", "recipe.yaml", "points.csv", "SHA256SUMS"),
        "model_info/cifar10/Linf/mine.json",
        "models/cifar10/Linf/mine.pt",
    }
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "points.csv").read_bytes() == entry.points.read_bytes()
    assert yaml.parse_yaml((folder / "recipe.yaml").read_text(), "") == entry.own["recipe"]
    assert (folder / "README.md").read_text().count("\n") == 2


def test_the_json_is_robustbenchs_without_our_block_and_without_nulls(tmp_path):
    entry = complete_entry(tmp_path / "board")
    entry.info["footnote"] = None
    info = json.loads((write_bundle(entry, tmp_path / "out") / "model_info/cifar10/Linf/mine.json").read_text())
    assert "rb_smooth" not in info
    assert None not in info.values()
    assert (info["eps"], info["autoattack_acc"], info["additional_data"]) == ("8/255", "50.00", False)
    for own in ("rb_smooth", "footnote"):
        entry.info.pop(own)
    assert info == entry.info


def test_an_older_entrys_architecture_is_spelt_as_robustbench_does(tmp_path):
    entry = make_entry(
        tmp_path, "mine", metadata={"architecture": "wideresnet"}, model={"name": "wideresnet", "options": {}}
    )
    assert bundle.robustbench_json(entry)["architecture"] == "WideResNet-34-10"


def test_the_issue_says_what_is_not_true_of_the_rules(tmp_path):
    failed = {"name": "gradients", "verdict": "unreliable", "found": "all of them are zero"}
    entry = complete_entry(
        tmp_path / "board",
        official=False,
        version="quick",
        selected_on="test",
        warnings=["zero gradients"],
        checks=[failed],
    )
    issue = (write_bundle(entry, tmp_path / "out") / "issue.md").read_text()
    assert issue.startswith("# [New Model] mine\n")
    gaps = issue.partition("**Not as RobustBench's rules want it**")[2].partition("**Model Zoo**")[0]
    for told in (
        *("official", "upper bound (quick, not AutoAttack)", "4 test points", "chosen on the test set"),
        *("gradients: all of them are zero", "zero gradients", "authors, venue"),
    ):
        assert told in gaps, told
    assert "- Robust accuracy: 50.00 % (upper bound (quick, not AutoAttack))" in issue


def test_the_issue_of_an_entry_that_lacks_nothing_says_so(tmp_path):
    told = {"authors": "A. Author", "venue": "ICLR 2026"}
    entry = make_entry(tmp_path, "mine", metadata=told)
    assert bundle.rule_violations(entry) == []
    assert "- nothing that is known" in bundle.issue_text(entry)
    assert "- Paper authors: A. Author" in bundle.issue_text(entry)
    for field in ("Architecture: ResNet-18", "Threat Model: Linf", "eps: 8/255", "Additional data: false"):
        assert f"- {field}" in bundle.issue_text(entry)


def test_the_log_tells_protocol_attacks_checks_and_versions(tmp_path):
    log = (write_bundle(complete_entry(tmp_path / "board"), tmp_path / "out") / "evaluation.log").read_text()
    for line in (
        "robust accuracy after apgd-ce: 55.00 % (90.0 s)",
        "AutoAttack: 50.00 % (95 % interval 49.00 to 51.00)",
        "points broken by apgd-ce: 2",
        "check deterministic: passed; logits equal twice over",
        "torch: 2.0",
        "protocol: version standard, seed 0, batch size 200, pyautoattack 0.2.0",
    ):
        assert f"{line}\n" in log, line


def test_an_entry_without_points_is_packed_without_them(tmp_path):
    entry = complete_entry(tmp_path / "board")
    entry.points.unlink()
    folder = write_bundle(entry, tmp_path / "out")
    assert not (folder / "points.csv").exists()
    assert "points.csv" not in (folder / "SHA256SUMS").read_text()
    assert "points.csv" not in (folder / "issue.md").read_text()


def test_a_bundle_is_replaced_whole_and_nothing_else_is_touched(tmp_path):
    entry = complete_entry(tmp_path / "board")
    folder = write_bundle(entry, tmp_path / "out")
    (folder / "left.over").touch()
    write_bundle(entry, tmp_path / "out")
    assert not (folder / "left.over").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "else" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="something else"):
        write_bundle(entry, tmp_path / "else")


def test_what_fails_leaves_the_old_bundle(tmp_path, monkeypatch):
    entry = complete_entry(tmp_path / "board")
    before = (write_bundle(entry, tmp_path / "out") / "SHA256SUMS").read_text()
    monkeypatch.setattr(bundle, "readme_text", lambda entry: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bundle(entry, tmp_path / "out")
    assert (tmp_path / "out" / "mine" / "SHA256SUMS").read_text() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_weights_are_copied_where_disks_do_not_link(tmp_path, monkeypatch):
    entry = complete_entry(tmp_path / "board")
    monkeypatch.setattr(bundle.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    packed = write_bundle(entry, tmp_path / "out") / "models/cifar10/Linf/mine.pt"
    assert packed.read_bytes() == entry.weights.read_bytes()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda entry: entry.weights.unlink(), "got nothing there"),
        (lambda entry: entry.weights.write_bytes(b"other"), "got others"),
        (lambda entry: entry.points.write_text("index\n"), "header"),
    ],
)
def test_what_is_missing_or_damaged_is_named_and_nothing_is_left(tmp_path, damage, found):
    entry = complete_entry(tmp_path / "board")
    damage(entry)
    with pytest.raises(UserError, match=found):
        write_bundle(entry, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_data_set_that_is_no_name_is_refused_before_anything_is_written(tmp_path):
    entry = make_entry(tmp_path / "board", "mine", dataset='x"""; print(1); """')
    with pytest.raises(UserError, match="expected a name"):
        write_bundle(entry, tmp_path / "out")
