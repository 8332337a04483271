"""Smoothness metrics against closed forms and full Hessians, and the program on small runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from fake_runs import fake_run
from run_program import run_program
from scipy import stats
from torch import nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy, logsigmoid
from write_docs import DOCS, smoothness_blocks

from rb_smooth import smoothness
from rb_smooth.analysis.adversarial_loss import AdversarialLoss, flatten
from rb_smooth.analysis.smoothness.curvature import dominant_eigenvalue, estimate_trace, find_sharpness, top_eigenvalue
from rb_smooth.analysis.smoothness.metrics import boundary_shares, diameter, probe
from rb_smooth.analysis.smoothness.records import append_record, lipschitz, pair_by_seed, read_records
from rb_smooth.analysis.smoothness.tables import format_estimate
from rb_smooth.core.files import write_between
from rb_smooth.core.statistics import geometric_ratio, mean_interval
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images

BALLS = [Threat("L2", 0.2, 0.04), Threat("Linf", 0.1, 0.02)]
MARGIN_NORM = {"L2": 2, "Linf": 1}


def linear(weights) -> nn.Module:
    """Two classes by theta = w_0 - w_1: cross-entropy of class 0 is the logistic loss of Kanai et al., section 3.1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.shape[1], 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(weights)
    return model


def grey_images(n: int, d: int) -> Images:
    """Grey enough that no attack within 0.2 meets the ends of [0, 1]."""
    return Images(torch.randint(70, 186, (n, 1, 1, d), dtype=torch.uint8), torch.arange(n) % 2)


def printed_loss(w, images, threat):
    """1/N sum log(1 + exp(-y theta.x + eps ||theta||_dual)), y = +1 for class 0."""
    theta, x = w[0] - w[1], images.x.flatten(1).double() / 255
    sign = 1 - 2 * images.y.double()
    lost = threat.eps * theta.norm(p=MARGIN_NORM[threat.norm]) if threat else 0.0
    return -logsigmoid(sign * (x @ theta) - lost).mean()


@pytest.mark.parametrize("threat", [None, *BALLS], ids=["standard", "L2", "Linf"])
def test_value_and_gradient_are_the_closed_forms_of_the_linear_model(threat):
    w = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    images = grey_images(8, 6)
    loss = AdversarialLoss(linear(w.detach()), images, threat, steps=60, batch_size=3)
    expected = printed_loss(w, images, threat)
    (slope,) = torch.autograd.grad(expected, w)
    assert loss.value() == pytest.approx(expected.item(), abs=1e-7)
    assert torch.allclose(loss.gradient(), slope.flatten(), atol=1e-6)


def test_at_weights_restores_the_model(net, batch):
    images = Images((batch[0] * 255).byte(), batch[1])
    loss = AdversarialLoss(net, images, BALLS[1], steps=2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    here = loss.value()
    with loss.at_weights(loss.weights * 1.5):
        assert loss.value() != here
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    torch.manual_seed(1)
    assert loss.value() == here  # with the same random starts each time
    assert all(parameter.grad is None for parameter in net.parameters())


def test_hessian_products_equal_the_full_hessian_for_any_batch_size(net, batch):
    net = net.double()
    images = Images((batch[0] * 255).byte(), batch[1])
    loss = AdversarialLoss(net, images, BALLS[1], steps=3, batch_size=5)
    x_adv, names = loss.adversarial_examples(), [name for name, _ in net.named_parameters()]

    def printed(w):
        logits = functional_call(net, dict(zip(names, loss.unflatten(w))), (x_adv,))
        return cross_entropy(logits, loss.y)

    full = hessian(printed)(loss.weights)
    for _ in range(3):
        v = torch.randn_like(loss.weights)
        assert torch.allclose(loss.hessian_vector_product(x_adv, v), full @ v, atol=1e-10)
    eigenvalues = torch.linalg.eigvalsh(full)
    start = torch.randn_like(loss.weights)
    product = partial(loss.hessian_vector_product, x_adv)
    top = top_eigenvalue(product, start, dominant_eigenvalue(product, start, products=1000), products=1000)
    assert top.value == pytest.approx(eigenvalues[-1].item(), rel=1e-4)
    traced = estimate_trace(
        lambda v: loss.hessian_vector_product(x_adv, v), start, samples=200, generator=torch.Generator().manual_seed(0)
    )
    assert abs(traced.value - full.trace().item()) < 4 * traced.error


@pytest.mark.parametrize(
    ("eigenvalues", "top"), [([5.0, 1.0, -2.0], 5.0), ([-9.0, 3.0, 1.0], 3.0), ([0.0, 0.0, 0.0], 0.0)]
)
def test_the_top_eigenvalue_is_the_most_positive_and_the_dominant_one_the_largest_in_magnitude(eigenvalues, top):
    matrix = torch.diag(torch.tensor(eigenvalues).double())
    start = torch.ones(3, dtype=torch.float64)
    dominant = dominant_eigenvalue(matrix.mv, start, products=200, tolerance=1e-6)
    found = top_eigenvalue(matrix.mv, start, dominant, products=200, tolerance=1e-6)
    assert found.value == pytest.approx(top, abs=1e-6)
    assert abs(dominant.value) == pytest.approx(max(map(abs, eigenvalues)))


def test_power_iteration_stops_after_its_products_and_returns_the_residual():
    matrix = torch.diag(torch.linspace(1, 2, 50, dtype=torch.float64))
    few = dominant_eigenvalue(matrix.mv, torch.ones(50, dtype=torch.float64), products=5, tolerance=0)
    assert few.products == 5
    assert (torch.linspace(1, 2, 50, dtype=torch.float64) - few.value).abs().min() <= few.residual


def test_the_trace_of_a_diagonal_matrix_is_exact_in_each_sample():
    matrix = torch.diag(torch.arange(5, dtype=torch.float64))
    found = estimate_trace(matrix.mv, torch.zeros(5).double(), samples=2, generator=torch.Generator())
    assert found == (10.0, 0.0)


def test_the_gradient_jumps_at_a_sign_change_under_linf_but_not_under_l2():
    """Lemma 3: the jump is 2 eps s in that coordinate, s the mean of sigma(-margin). Theorem 1 bounds the L2 ratio."""
    theta = torch.tensor([[1.0, 2e-6, -0.5]], dtype=torch.float64)
    images = Images(torch.full((1, 1, 1, 3), 128, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    ratios = {}
    for threat in BALLS:
        loss = AdversarialLoss(linear(torch.cat([theta / 2, -theta / 2])), images, threat, steps=60)
        here, w = loss.gradient(), loss.weights
        step = torch.zeros_like(w)
        step[1], step[4] = -2e-6, 2e-6  # theta_1 becomes -2e-6
        with loss.at_weights(w + step):
            change = loss.gradient() - here
        ratios[threat.norm] = (change.norm() / step.norm()).item()
        if threat.norm == "Linf":
            s = torch.sigmoid(-(theta @ torch.full((3,), 128 / 255).double()) + threat.eps * theta.abs().sum()).item()
            assert change[1].abs().item() == pytest.approx(2 * threat.eps * s, rel=1e-5)
    assert ratios["Linf"] > 1e3 * ratios["L2"]


def test_a_probe_equals_its_definition():
    images = grey_images(4, 3)
    loss = AdversarialLoss(linear(torch.randn(2, 3).double()), images, BALLS[0], steps=40)
    found = probe(loss, loss.adversarial_examples(), (1e-2,), 1, torch.Generator().manual_seed(3))
    assert [(each.direction, each.radius) for each in found] == [("descent", 1e-2), ("random", 1e-2)]
    w, g, x_adv = loss.weights, loss.gradient(), loss.adversarial_examples()
    there = w - 1e-2 * w.norm() * g / g.norm()
    with loss.at_weights(there):
        slope, moved = loss.gradient(), loss.adversarial_examples()
    assert found[0].lipschitz == pytest.approx(((slope - g).norm() / (there - w).norm()).item(), rel=1e-6)
    distance = sum((moved[n] - x_adv[n]).norm().item() for n in range(4)) / 4
    assert found[0].moved == pytest.approx(distance / 0.4, rel=1e-6)


def test_the_diameter_is_the_largest_distance_within_the_ball():
    for threat, longest in zip(BALLS, (0.4, 0.2 * math.sqrt(6))):
        assert diameter(AdversarialLoss(linear(torch.randn(2, 6)), grey_images(1, 6), threat)) == pytest.approx(longest)


def test_boundary_shares_count_attacks_on_the_boundary():
    x = torch.full((2, 1, 1, 2), 0.5)
    x[1, 0, 0, 1] = 1.0
    shift = torch.tensor([[0.1, 0.02], [0.05, 0.0]]).view(2, 1, 1, 2)
    assert boundary_shares(x, x + shift, "Linf", 0.1) == (0.5, 0.5)  # one face of the cube, one end of [0, 1]
    assert boundary_shares(x, x + shift, "L2", 0.1) == (0.5, None)
    assert boundary_shares(x, x + shift, "L2", 0.2) == (0.0, None)


def test_sharpness_of_one_image_equals_the_closed_form():
    """max over ||v|| <= r of log(1 + exp(-theta.x)) at theta + (v_0 - v_1) is at v_0 = -v_1, along -x."""
    images = grey_images(1, 4)
    weights = torch.randn(2, 4, dtype=torch.float64)
    loss = AdversarialLoss(linear(weights), images, None)
    found = find_sharpness(loss, loss.adversarial_examples(), 0.1, hessian_norm=3.0)
    x, r = images.x.flatten().double() / 255, 0.1 * weights.norm()
    margin = (weights[0] - weights[1]) @ x
    here, worst = -logsigmoid(margin), -logsigmoid(margin - math.sqrt(2) * r * x.norm())
    assert found.measured == pytest.approx(((worst - here) / (1 + here)).item(), rel=1e-6)
    assert found.estimate == pytest.approx((3.0 * r**2 / (2 * (1 + here))).item())
    assert found.first_order == pytest.approx((flatten([loss.gradient()]).norm() * r / (1 + here)).item())


def test_intervals_are_students_t_and_ratios_geometric():
    values = [1.0, 2.0, 4.0]
    found = mean_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    halves = geometric_ratio([2.0, 8.0], [4.0, 16.0])
    assert halves == pytest.approx((0.5, 0.5, 0.5, 2))
    assert geometric_ratio([1.0, 4.0], [1.0, 1.0]).mean == pytest.approx(2.0)
    assert mean_interval([3.0]) == (3.0, None, None, 1)


def test_pairs_have_equal_seeds():
    one, other = [{"seed": 2}, {"seed": 0}], [{"seed": 0, "b": 1}, {"seed": 1}]
    assert pair_by_seed(one, other) == [({"seed": 0}, {"seed": 0, "b": 1})]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with two tiny runs and the program's measurements."""
    home = tmp_path_factory.mktemp("smoothness")
    for method in ("at", "at-l2"):
        fake_run(home / "runs", method)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert program() == 0
    assert [path.name for path in home.iterdir()] == ["runs"]  # nothing lies beside it
    return home


SMALL = ["--n", "8", "--steps", "2", "--directions", "1", "--signs", "2", "--products", "3", "--device", "cpu"]


def program(*more, of=None):
    return run_program(smoothness.main, *(of or _runs()), *SMALL, *more)


def _runs():
    """at-l2's, and at's."""
    return sorted(path.name for path in Path("runs/digits").iterdir())


def test_the_program_measures_every_run_under_every_loss(measured):
    records = read_records(measured / "runs/smoothness.json")
    assert [(r["method"].split()[0], r["under"]) for r in records] == [
        (method, under) for method in ("at-l2", "at") for under in ("standard", "L2", "Linf")
    ]
    assert [r["threat"] and r["threat"]["eps"] for r in records] == [None, 0.8, 0.15] * 2
    assert (measured / "runs/smoothness.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((measured / "runs/smoothness.json").read_text())
    assert {"commit", "versions"} <= stored.keys()


def test_stored_measurements_are_not_repeated(measured, monkeypatch, capsys):
    monkeypatch.chdir(measured)
    monkeypatch.setattr("rb_smooth.analysis.smoothness.metrics.smoothness_metrics", None)
    assert program() == 0
    shown = capsys.readouterr().out
    assert "Linf 0.15 over L2 0.8: relative Lipschitz constant times" in shown
    assert "one seed, no interval" in shown


def test_several_seeds_give_intervals(measured, tmp_path, capsys, monkeypatch):
    records = read_records(measured / "runs/smoothness.json")
    path = tmp_path / "seeds.json"
    for seed, factor in ((0, 1.0), (1, 1.5), (2, 2.0)):
        for record in deepcopy(records):
            record["seed"] = seed
            for each in record["found"]["probes"]:
                each["lipschitz"] *= factor * (1 + seed * (record["under"] == "Linf"))
            append_record(path, record, {})
    assert run_program(smoothness.main, "plot", path) == 0
    shown = capsys.readouterr().out
    assert "±" in shown
    assert "(3 seeds)" in shown
    there = [[lipschitz(r, "random", 1e-3, relative=True) for r in records if r["under"] == u] for u in ("Linf", "L2")]
    expected = geometric_ratio([there[0][1] * f for f in (1, 2, 3)], [there[1][1]] * 3)
    assert f"{format_estimate(expected)} at 0.001" in shown


def test_measurements_with_other_settings_are_appended(measured, monkeypatch):
    monkeypatch.chdir(measured)
    before = (measured / "runs/smoothness.json").read_bytes()
    monkeypatch.setattr(
        "rb_smooth.analysis.smoothness.metrics.smoothness_metrics",
        lambda *_: read_records(measured / "runs/smoothness.json")[1]["found"],
    )
    assert program("--under", "L2", "--eps", "L2=0.4") == 0
    try:
        assert len(read_records(measured / "runs/smoothness.json")) == 8
    finally:
        (measured / "runs/smoothness.json").write_bytes(before)


def test_plot_needs_no_torch(measured, tmp_path):
    (tmp_path / "kept.json").write_bytes((measured / "runs/smoothness.json").read_bytes())
    code = (
        "import sys; sys.argv = ['smoothness', 'plot', 'kept.json']; from rb_smooth import smoothness; "
        "smoothness.main(); assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Lipschitz constants of the gradient" in ran.stdout
    assert (tmp_path / "kept.png").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--directions", "0"], "--directions: expected a whole number of at least 1, got '0'"),
        (["--signs", "1"], "--signs: expected a whole number of at least 2, got '1'"),
        (["--radii", "0.1,x"], "expected --radii such as 1e-3,1e-2, got '0.1,x'; correct it"),
        (["--radii", "0"], "expected --radii such as 1e-3,1e-2, got '0'; correct it"),
        (["--eps", "L3=1"], "expected --eps such as L2=0.5 or Linf=8/255, got 'L3=1'; correct it"),
        (["--under", "L1"], "expected losses, got 'L1'; did you mean 'L2'?"),
        (["--weights", "first"], "train with --set train.keep=[1]"),
        (["--out", "found.txt"], "expected --out to end in .json, got found.txt; correct it"),
    ],
)  # fmt: skip
def test_invalid_input_is_reported_in_one_line(measured, monkeypatch, capsys, more, message):
    monkeypatch.chdir(measured)
    assert program(*more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unknown_name_is_reported_with_a_suggestion(measured, monkeypatch, capsys):
    monkeypatch.chdir(measured)
    assert program(of=["at-l3-s0"]) == 2
    assert "expected a run in runs or an entry of leaderboard, got 'at-l3-s0'; did you mean" in capsys.readouterr().err


def test_missing_weights_are_reported_before_anything_is_measured(measured, monkeypatch, capsys):
    monkeypatch.chdir(measured)
    last = measured / "runs/digits" / _runs()[0] / "best.pt"
    kept = last.read_bytes()
    last.unlink()
    try:
        assert program() == 2
    finally:
        last.write_bytes(kept)
    assert "expected this run's weights in" in capsys.readouterr().err


@pytest.mark.slow
def test_records_are_appended(tmp_path):
    record = {"name": "a", "method": "at", "under": "L2", "seed": 0, "settings": {}, "found": {"probes": []}}
    for name in ("a", "b"):
        append_record(tmp_path / "kept.json", {**record, "name": name}, {"commit": "none"})
    assert [each["name"] for each in read_records(tmp_path / "kept.json")] == ["a", "b"]


@pytest.mark.slow
def test_the_page_on_smoothness_has_the_stored_numbers(tmp_path):
    page = (DOCS / "smoothness.md").read_text()
    (tmp_path / "smoothness.md").write_text(page)
    write_between(tmp_path / "smoothness.md", smoothness_blocks(DOCS / "results/smoothness-digits.json"))
    assert (tmp_path / "smoothness.md").read_text() == page
