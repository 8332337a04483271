"""An audit refutes a false claim with few points, does not refute a true one, and counts only verified examples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rb_smooth
from rb_smooth.components.foreign_model import build_foreign_model
from rb_smooth.config.schema import load_raw_dataset
from rb_smooth.core.errors import UserError
from rb_smooth.core.statistics import clopper_pearson_upper
from rb_smooth.evaluation import audit_attacks
from rb_smooth.evaluation.attack_cache import AttackCache
from rb_smooth.evaluation.custom_model import as_module, load_points
from rb_smooth.evaluation.sequential_audit import ERROR, LOOKS, audit_model, planned_looks, upper_bound

JPEG = Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg.tar.xz"


@pytest.fixture(scope="module")
def digits():
    return load_raw_dataset({"name": "digits"}, Path("data"))


@pytest.fixture(scope="module")
def linear(digits):
    """A linear model of the digits: 94 % clean, few points robust at eps 0.1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = digits.train.load()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(images.x / 255), images.y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(("right", "n", "error"), [(0, 50, 0.01), (22, 50, 0.0125), (499, 500, 0.05)])
def test_the_bound_is_where_so_few_right_points_have_the_error_as_probability(right, n, error):
    bound = clopper_pearson_upper(right, n, error)
    assert binom.cdf(right, n, bound) == pytest.approx(error, rel=1e-9)
    assert clopper_pearson_upper(n, n, error) == 1


def test_a_true_claim_is_refuted_in_at_most_five_percent_of_the_samples():
    n_test, robust, looks = 5000, 2500, planned_looks(1000)
    refuted = 0
    for seed in range(400):
        standing = torch.randperm(n_test, generator=torch.Generator().manual_seed(seed)) < robust
        refuted += any(
            upper_bound(int(standing[:look].sum()), look, n_test, len(looks)) < robust / n_test for look in looks
        )
    assert 0 < refuted <= ERROR * 400


def test_looks_grow_to_the_limit():
    assert planned_looks(360) == (50, 100, 200, 360)
    assert planned_looks(50) == (50,)
    assert tuple(sorted(LOOKS)) == LOOKS


def test_on_the_whole_test_set_the_bound_is_the_count():
    assert upper_bound(40, 100, 100, 3) == pytest.approx(0.4)
    assert upper_bound(0, 50, 100, 3) <= 0.5  # 50 broken points of 100 are certain


def test_a_false_claim_is_refuted_at_the_first_look(linear, tmp_path):
    found = rb_smooth.audit(linear, "digits", eps=0.1, claimed=0.9, report=tmp_path, verbose=False)
    assert found.refuted
    assert (found.steps[-1].attack, found.steps[-1].points) == ("pgd-20", 50)
    assert str(found).startswith("claim of 90.0 % refuted: at most ")
    values = json.loads((tmp_path / "audit.json").read_text())
    assert values["verdict"] == "refuted"
    kept = len(found.examples.index)
    assert values["examples"] == f"{kept} of {kept} kept are in the ball, in [0, 1] and misclassified"
    assert kept > 10
    for name in ("report.md", "report.html"):
        assert str(found) in (tmp_path / name).read_text()
    rows = (tmp_path / "points.csv").read_text().splitlines()
    assert len(rows) == 51
    assert rows[1].split(",")[0] == str(found.sample[0])


def test_a_wrong_preprocessing_is_named_before_the_author_is_blamed(linear):
    found = rb_smooth.audit(linear, "digits", eps=0.02, claimed=1.0, verbose=False)
    assert found.steps[-1].attack == "clean"
    assert "check architecture, normalisation and order of classes first" in str(found)


@pytest.mark.slow
def test_a_true_claim_is_consistent_after_all_attacks_and_checks(linear):
    found = rb_smooth.audit(lambda x: linear(x), "digits", eps=0.02, claimed=0.5, limit=50, verbose=False)
    assert not found.refuted
    assert [step.attack for step in found.steps] == list(audit_attacks.LADDER)
    assert "stand all attacks; at most" in str(found)
    assert {"falls as eps grows", "no black box ahead"} <= {check.name for check in found.checks}
    assert not found.doubts


def test_examples_outside_the_ball_do_not_count(linear, digits, monkeypatch):
    monkeypatch.setattr(audit_attacks, "pgd", lambda model, x, *_: (x + 0.5).clamp(0, 1))
    monkeypatch.setattr("rb_smooth.evaluation.sequential_audit.LADDER", ("clean", "pgd-20"))
    monkeypatch.setattr(audit_attacks.AuditAttacks, "post_attack_checks", lambda *_: [])
    found = audit_model(linear, digits.test, rb_smooth.Threat("Linf", 0.1, 0.025), 0.01, classes=10, limit=50)
    assert found.steps[0].standing == found.steps[1].standing > 40


def test_an_interrupted_audit_reads_its_cache(linear, digits, tmp_path, monkeypatch):
    threat, cache = rb_smooth.Threat("Linf", 0.3, 0.1), AttackCache(tmp_path, {"key": 1})
    cache.open()
    monkeypatch.setattr("rb_smooth.evaluation.sequential_audit.LADDER", ("clean", "apgd-ce", "square"))
    first = audit_model(linear, digits.test, threat, 0.2, classes=10, limit=50, cache=cache)

    def attacked_again(*_):
        raise AssertionError

    monkeypatch.setattr("rb_smooth.evaluation.attack_workers._LocalRunner.attack", attacked_again)
    second = audit_model(linear, digits.test, threat, 0.2, classes=10, limit=50, cache=cache)
    assert first.refuted
    assert [step[:4] for step in first.steps] == [step[:4] for step in second.steps]
    assert (first.examples.x_adv == second.examples.x_adv).all()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"claimed": 60}, "claimed accuracy in"), ({"limit": 0}, "at least 1 point"), ({"eps": 8}, "did you mean 8/255")],
)
def test_bad_arguments_are_refused(linear, changed, expected):
    with pytest.raises(UserError, match=expected):
        rb_smooth.audit(linear, "digits", **{"eps": 0.1, "claimed": 0.5, "verbose": False} | changed)


def test_points_come_from_loaders_data_sets_and_pairs(digits):
    images = digits.test[:20].load()
    data = TensorDataset(images.x, images.y)
    for points in (DataLoader(data, batch_size=7), data, [(images.x[i], int(images.y[i])) for i in range(20)]):
        found, classes = load_points(points, Path("data"))
        assert classes is None
        assert torch.equal(found.x, images.x)
        assert torch.equal(found.y, images.y)


@pytest.mark.parametrize("points", [3, None, [1, 2], [(torch.zeros(1, 8, 8), 1), (torch.zeros(1, 9, 8), 2)]])
def test_points_of_another_kind_are_refused_in_one_line(points):
    with pytest.raises(UserError, match="pass") as refused:
        load_points(points, Path("data"))
    assert "\n" not in str(refused.value)


def test_functions_and_torchscript_become_modules(linear):
    x = torch.rand(2, 1, 8, 8)
    traced = torch.jit.trace(linear, x)
    for model in (traced, lambda images: linear(images), nn.Flatten()):
        module = as_module(model)
        assert torch.equal(module.train().eval()(x), model(x))
        assert next(module.parameters()).device.type == "cpu"
    assert not traced.training
    assert as_module(linear) is linear
    with pytest.raises(UserError, match="got str"):
        as_module("net.pt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{}:Missing", "expected a class or function of .*, did you mean|got 'Missing'"),
        ("{}:broken", "got ZeroDivisionError"),
        ("{}:number", "got int"),
        ("no_such_file.py:Net", "got no such file"),
        ("no_such_package.models:Net", "got ModuleNotFoundError"),
    ],
)
def test_foreign_code_that_builds_no_network_is_refused(tmp_path, name, expected):
    file = tmp_path / "foreign_nets.py"
    file.write_text("def broken():\n    return 1 / 0\n\n\ndef number():\n    return 3\n")
    with pytest.raises(UserError, match=expected):
        build_foreign_model(name.format(file), {})


def audit_program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rb_smooth.leaderboard", "audit", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_program_executes_a_users_network_in_a_child_process(linear, tmp_path):
    torch.save({"state_dict": linear.state_dict()}, tmp_path / "net.pt")
    code = "from torch import nn\n\n\ndef Net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (tmp_path / "my_net.py").write_text(code)
    claim = ("--dataset", "digits", "--threat", "Linf", "--eps", "0.1", "--claimed", "0.9")
    done = audit_program(tmp_path, "net.pt", "--model", "my_net.py:Net", *claim)
    assert done.returncode == 1, done.stderr
    assert "executing the code of my_net.py:Net in a child process" in done.stdout
    assert "claim of 90.0 % refuted" in done.stdout
    assert (tmp_path / "audits" / "net" / "report.html").exists()
    (tmp_path / "my_net.py").write_text(code + "\nimport os\nos.abort()\n")
    done = audit_program(tmp_path, "net.pt", "--model", "my_net.py:Net", *claim)
    assert done.returncode == 2
    assert "a process that signal 6 ended" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not JPEG.exists(), reason="needs the JPEG copies of CIFAR-10")
def test_a_standard_network_is_refuted_with_fifty_points(tmp_path):
    import pyautoattack

    subprocess.run(["tar", "-xJf", JPEG, "-C", tmp_path, "test"], check=True)
    for folder in (tmp_path / "test").iterdir():  # a folder of each class; its images are not used
        (tmp_path / "train" / folder.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / folder.name / "0.jpg").write_bytes(next(folder.iterdir()).read_bytes())
    checkpoint = Path(pyautoattack.__file__).parent / "examples" / "model_test.pt"
    where = ("--dataset", "folder", "--set", f"data.root={tmp_path}", "--threat", "Linf", "--eps", "8/255")
    done = audit_program(tmp_path, str(checkpoint), "--arch", "resnet18", *where, "--claimed", "0.30")
    assert done.returncode == 1, done.stderr
    assert "on 50 of 10,000 points" in done.stdout
