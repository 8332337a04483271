"""Bundles for RobustBench: complete files, checksums, the rules that an entry breaks, loading by RobustBench."""

from __future__ import annotations

import ast
import hashlib
import json

import pytest
import torch
from fake_entries import add_points, add_weights, make_entry

from rb_smooth.config import yaml
from rb_smooth.config.registry import build_model
from rb_smooth.core import files, robustbench
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.reports import bundle
from rb_smooth.leaderboard.reports.bundle import write_bundle

MODEL = {"name": "small_preactresnet", "options": {"width": 2}, "shape": [3, 8, 8], "classes": 5}


def complete_entry(folder, name="mine", own=None, **changed):
    """An entry of a tiny network, with its weights and points."""
    score = {"n": 4, "autoattack": 0.5, "whole": False} | changed
    entry = make_entry(folder, name, model=MODEL, own=own, **score)
    net = build_model(MODEL["name"], MODEL["options"], tuple(MODEL["shape"]), 5, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    return add_points(add_weights(entry, net.state_dict()), [True, True, False, False])


def run_python_file(path) -> dict:
    namespace: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace


def test_robustbench_load_model_loads_the_bundle(tmp_path):
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


def test_the_registry_module_names_the_class_and_its_package(tmp_path):
    source = bundle.registry_module(make_entry(tmp_path, "mine", model=MODEL))
    assert "# 'small_preactresnet' of 'rb_smooth.components.models'" in source
    assert "build_model('small_preactresnet', {'width': 2}, (3, 8, 8), 5)" in source
    plugin = make_entry(tmp_path, "other", model=MODEL, packages={"model.small_preactresnet": "rb-smooth-nets 0.1"})
    assert "of 'rb-smooth-nets 0.1'" in bundle.registry_module(plugin)


def test_no_text_of_an_entry_becomes_code(tmp_path):
    hostile = "x'\n); raise SystemExit"
    model = MODEL | {"name": hostile, "options": {hostile: hostile}}
    entry = make_entry(tmp_path, "mine", model=model, packages={f"model.{hostile}": hostile})
    statements = ast.parse(bundle.registry_module(entry)).body
    assert [type(each) for each in statements] == [ast.Expr, ast.ImportFrom, ast.FunctionDef, ast.Assign]


def test_the_bundle_holds_every_file_and_its_checksums_hold(tmp_path):
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


def test_the_json_has_robustbench_fields_only_and_no_nulls(tmp_path):
    entry = complete_entry(tmp_path / "board")
    entry.info["footnote"] = None
    info = json.loads((write_bundle(entry, tmp_path / "out") / "model_info/cifar10/Linf/mine.json").read_text())
    assert "rb_smooth" not in info
    assert None not in info.values()
    assert (info["eps"], info["autoattack_acc"], info["additional_data"]) == ("8/255", "50.00", False)
    for own in ("rb_smooth", "footnote"):
        entry.info.pop(own)
    assert info == entry.info


def test_an_older_entry_gets_robustbench_spelling_of_its_architecture(tmp_path):
    entry = make_entry(
        tmp_path, "mine", metadata={"architecture": "wideresnet"}, model={"name": "wideresnet", "options": {}}
    )
    assert bundle.robustbench_json(entry)["architecture"] == "WideResNet-34-10"


def test_the_issue_lists_the_rules_that_the_entry_breaks(tmp_path):
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
    violations = issue.partition("**Rules of RobustBench that this entry breaks**")[2].partition("**Model Zoo**")[0]
    for expected in (
        *("official", "upper bound (quick, not AutoAttack)", "4 test points", "selected on the test set"),
        *("gradients: all of them are zero", "zero gradients", "authors, venue"),
    ):
        assert expected in violations, expected
    assert "- Robust accuracy: 50.00 % (upper bound (quick, not AutoAttack))" in issue


def test_the_issue_of_an_entry_that_breaks_no_rule(tmp_path):
    metadata = {"authors": "A. Author", "venue": "ICLR 2026"}
    entry = make_entry(tmp_path, "mine", metadata=metadata)
    assert bundle.rule_violations(entry) == []
    assert "- none known" in bundle.issue_text(entry)
    assert "- Paper authors: A. Author" in bundle.issue_text(entry)
    for field in ("Architecture: ResNet-18", "Threat Model: Linf", "eps: 8/255", "Additional data: false"):
        assert f"- {field}" in bundle.issue_text(entry)


def test_the_log_lists_protocol_attacks_checks_and_versions(tmp_path):
    log = (write_bundle(complete_entry(tmp_path / "board"), tmp_path / "out") / "evaluation.log").read_text()
    for line in (
        "apgd-ce: 2 points broken, accuracy 55.00 % (90.0 s)",
        "AutoAttack: 50.00 % (95 % interval 49.00 to 51.00)",
        "broken points counted from: points.csv",
        "check deterministic: passed; logits equal twice over",
        "versions: torch 2.0, robustbench 1.1.1",
        "code of the attacks: pyautoattack 0.2.0",
    ):
        assert f"{line}\n" in log, line


def test_a_bundle_without_points_csv(tmp_path):
    entry = complete_entry(tmp_path / "board")
    entry.points.unlink()
    folder = write_bundle(entry, tmp_path / "out")
    assert not (folder / "points.csv").exists()
    assert "points.csv" not in (folder / "SHA256SUMS").read_text()
    assert "points.csv" not in (folder / "issue.md").read_text()


def test_a_bundle_replaces_an_older_bundle_and_nothing_else(tmp_path):
    entry = complete_entry(tmp_path / "board")
    folder = write_bundle(entry, tmp_path / "out")
    (folder / "left.over").touch()
    write_bundle(entry, tmp_path / "out")
    assert not (folder / "left.over").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "else" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="something else"):
        write_bundle(entry, tmp_path / "else")


def test_a_failure_leaves_the_older_bundle(tmp_path, monkeypatch):
    entry = complete_entry(tmp_path / "board")
    before = (write_bundle(entry, tmp_path / "out") / "SHA256SUMS").read_text()
    monkeypatch.setattr(bundle, "readme_text", lambda entry: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bundle(entry, tmp_path / "out")
    assert (tmp_path / "out" / "mine" / "SHA256SUMS").read_text() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_weights_are_copied_where_hard_links_fail(tmp_path, monkeypatch):
    entry = complete_entry(tmp_path / "board")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
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
def test_missing_or_damaged_files_raise_and_leave_nothing_behind(tmp_path, damage, found):
    entry = complete_entry(tmp_path / "board")
    damage(entry)
    with pytest.raises(UserError, match=found):
        write_bundle(entry, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_an_invalid_data_set_name_is_rejected_before_writing(tmp_path):
    entry = make_entry(tmp_path / "board", "mine", dataset='x"""; print(1); """')
    with pytest.raises(UserError, match="expected a name"):
        write_bundle(entry, tmp_path / "out")
