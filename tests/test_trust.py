"""Trust checks: each cheat is detected by its check; honest models pass; all state is restored."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from pathlib import Path

import cheats
import numpy as np
import pytest
import torch
from model_snapshots import equal_snapshots, snapshot
from torch import nn

from rb_smooth.components.models import Normalized
from rb_smooth.core import robustbench
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation import checks as trust
from rb_smooth.evaluation.autoattack import AttackResult, AutoAttackResult
from rb_smooth.evaluation.checks import gradients

LINF, L2 = Threat("Linf", 8 / 255, 2 / 255), Threat("L2", 0.5, 0.1)
PAGE = Path(__file__).parents[1] / "docs" / "trust.md"


@pytest.fixture(scope="module")
def trained():
    return cheats.trained_net()


def labelled_points(model: nn.Module, *shape: int) -> Images:
    """Random images, labelled as the model classifies them."""
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return Images(x, model.eval()(x.float() / 255).argmax(1))


def verdicts(checks) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


def doubts(checks) -> list:
    return [check for check in checks if check.verdict in ("failed", "unreliable")]


def found_by_autoattack(shares, points=1000, clean=0.9, warnings=()) -> AutoAttackResult:
    """A result with these shares left by its attacks, in their order; the first points stand."""
    attacks = {name: AttackResult(share, 1.0) for name, share in zip(robustbench.ATTACKS, shares)}
    robust = torch.arange(points) < round(shares[-1] * points)
    nothing = torch.zeros(points)
    return AutoAttackResult(robust, clean, attacks, nothing.long(), nothing, 1.0, list(warnings), {})


def post_attack(trained, result, **given) -> dict[str, str]:
    """Verdicts on this result for an honest net; points are shown again where there are not enough."""
    net, points = trained
    repeated = points[torch.arange(len(result.robust)) % len(points)]
    return verdicts(trust.post_attack_checks(net, repeated, LINF, result, **({"clean": 0.9, "pgd20": 0.55} | given)))


@pytest.mark.parametrize("cheat", cheats.CHEATS, ids=lambda cheat: cheat.what)
def test_each_cheat_is_detected_by_its_checks(trained, cheat):
    found = verdicts(cheat.checks(*trained))
    assert {name: found[name] for name in cheat.expected} == cheat.expected


def test_every_check_detects_a_cheat(trained):
    net, points = trained
    checks = trust.pre_attack_checks(net, points[:4], LINF, 10)
    checks += trust.post_attack_checks(net, points[:4], LINF, found_by_autoattack([0.0], points=4), clean=0, pgd20=0)
    assert {check.name for check in checks} == {name for cheat in cheats.CHEATS for name in cheat.expected}


def test_the_page_shows_the_cheats_of_the_table():
    table = PAGE.read_text().partition(cheats.BEGIN)[2].partition(cheats.END)[0]
    assert table.strip().splitlines() == list(cheats.rows())
    assert len({cheat.what for cheat in cheats.CHEATS}) == len(cheats.CHEATS) >= 30


@pytest.mark.parametrize("threat", [LINF, L2, cheats.THREAT], ids=str)
def test_honest_nets_pass_before_the_attack(trained, net, threat):
    trained_net, points = trained
    assert not doubts(trust.pre_attack_checks(trained_net, points, threat, 10))
    assert not doubts(trust.pre_attack_checks(net, labelled_points(net, 24, 2, 6, 6), threat, 5))


def test_an_untrained_resnet_of_robustbench_passes_before_the_attack():
    resnet = robustbench.architectures("resnet")
    model = Normalized(resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2], num_classes=10), [0.5] * 3, [0.25] * 3)
    checks = trust.pre_attack_checks(model, labelled_points(model, 1, 3, 32, 32), LINF, 10)
    assert not doubts(checks)
    assert [check.name for check in checks if check.verdict == "skipped"] == ["better than guessing"]  # one point


@pytest.mark.parametrize("threat", [cheats.THREAT, Threat("L2", 0.5, 0.1)], ids=lambda threat: threat.norm)
def test_an_honest_net_passes_after_a_true_attack(trained, threat):
    net, points = trained
    checks = cheats.post_attack_verdicts(net, points[: cheats.FEW], ("apgd-ce", "square"), threat)
    assert set(verdicts(checks).values()) == {"passed"}


def test_log_probabilities_and_an_average_over_mirror_images_are_no_cheats(trained):
    net, points = trained
    assert not doubts(trust.pre_attack_checks(nn.Sequential(net, nn.LogSoftmax(1)), points, LINF, 10))

    class Mirrored(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return (self.net(x) + self.net(x.flip(3))) / 2

    assert verdicts(trust.pre_attack_checks(Mirrored(), points, LINF, 10))["one pass"] == "passed"


def test_a_constant_net_is_robust_in_every_ball_and_detected_by_its_accuracy(trained):
    _, points = trained
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        one[1].bias[3] = 100
        one[1].weight *= 0.1
    of_that_class = points.y == 3
    result = AutoAttackResult(of_that_class, 0.1, {}, points.y, points.y.float(), 1.0, [], {})
    found = verdicts(trust.post_attack_checks(one, points, LINF, result, clean=0.1, pgd20=0.1))
    assert found["falls as eps grows"] == found["loss above chance"] == "passed"
    assert verdicts(trust.pre_attack_checks(one, points, LINF, 10))["better than guessing"] == "unreliable"


def test_model_and_random_states_are_restored(net):
    points = labelled_points(net, 6, 2, 6, 6)
    net.train()
    net.net[1].eval()  # frozen by hand
    next(net.parameters()).requires_grad_(False)
    random.seed(5)
    kept = snapshot(net), torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    trust.pre_attack_checks(net, points, LINF, 5)
    trust.post_attack_checks(net, points, LINF, found_by_autoattack([1.0], points=6), clean=1, pgd20=1)
    assert equal_snapshots(kept[0], snapshot(net))
    assert torch.equal(kept[1], torch.random.get_rng_state())
    assert kept[2:] == (random.getstate(), np.random.get_state()[1].tolist())


class StateChanger(nn.Module):
    """Leaves in itself whatever a module can: a replaced buffer, a changed one, a new one, gradients."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.register_buffer("replaced", torch.zeros(1))
        self.register_buffer("changed", torch.zeros(1))

    def forward(self, x):
        self.replaced = self.replaced + 1
        self.changed += 1
        self.register_buffer("new", torch.zeros(1))
        with torch.enable_grad():
            self.net(x.detach().requires_grad_()).sum().backward()
        return self.net(x)


def test_a_model_that_changes_itself_is_restored(trained):
    careless = StateChanger(deepcopy(trained[0]))
    buffer, before = careless.replaced, snapshot(careless)
    assert verdicts(trust.pre_attack_checks(careless, trained[1], LINF, 10))["leaves no trace"] == "failed"
    assert careless.replaced is buffer
    assert set(careless.state_dict()) == set(before[0])
    assert equal_snapshots(before, snapshot(careless))


def test_after_a_wrong_shape_other_checks_are_skipped_and_a_model_that_raises_fails(trained):
    _, points = trained
    broken = nn.Sequential(nn.Flatten(), nn.Linear(63, 10))
    first, *others = trust.pre_attack_checks(broken, points, LINF, 10)
    assert (first.name, first.verdict) == ("shape of logits", "failed")
    assert "RuntimeError" in first.found
    assert {check.verdict for check in others[1:]} == {"skipped"}


def test_memory_that_ran_out_is_not_the_models_fault(trained):
    net, points = trained

    def run_out(*_):
        raise torch.OutOfMemoryError("none left")

    hooked = deepcopy(net)
    hooked.register_forward_hook(run_out)
    with pytest.raises(torch.OutOfMemoryError):
        trust.pre_attack_checks(hooked, points, LINF, 10)


def test_at_most_64_points_are_used_chosen_by_the_seed(trained):
    net, shown = deepcopy(trained[0]), []
    net.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    many = Images(torch.arange(200).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8), torch.arange(200) % 10)
    firsts = []
    for seed in (0, 1):
        trust.pre_attack_checks(net, many, LINF, 10, seed=seed)
        firsts.append(shown[0])
        assert max(len(x) for x in shown) == 2 * 64
        shown.clear()
    assert not torch.equal(*firsts)


def test_checks_are_plain_values(trained):
    net, points = trained
    checks = [check._asdict() for check in trust.pre_attack_checks(net, points[:4], LINF, 10)]
    assert json.loads(json.dumps(checks)) == checks
    assert checks[0] == {"name": "shape of logits", "verdict": "passed", "found": "4 images have 10 logits each"}


def test_derivatives_use_the_steepest_direction_of_length_one():
    gradient = 7 * torch.randn(5, 2, 3, 3)
    for norm, order, most in (("Linf", torch.inf, 1), ("L2", 2, 2)):
        direction = gradients._steepest_direction(gradient, norm).flatten(1)
        assert torch.allclose(direction.norm(order, dim=1), torch.ones(5))
        assert torch.allclose((direction * gradient.flatten(1)).sum(1), gradient.flatten(1).norm(most, dim=1))


@pytest.mark.parametrize(
    ("shares", "given", "doubted"),
    [
        ([0.5, 0.5, 0.5, 0.5], {}, []),
        ([0.5, 0.5, 0.49, 0.488], {}, []),  # at the limits
        ([0.5, 0.5, 0.5, 0.497], {}, ["no black box ahead"]),
        ([0.5, 0.5, 0.48, 0.48], {}, ["no black box ahead"]),
        ([0.5, 0.4, 0.4, 0.4], {}, []),  # APGD-T goes by gradients
        ([0.5], {"pgd20": 0.495}, []),
        ([0.5], {"pgd20": 0.49}, ["as strong as PGD-20"]),
        ([0.5], {"clean": 0.89}, ["one clean accuracy"]),
        ([0.5], {"clean": 0.91}, ["one clean accuracy"]),
    ],
)
def test_figures_raise_doubts_beyond_their_limits(trained, shares, given, doubted):
    found = post_attack(trained, found_by_autoattack(shares), **given)
    by_figures = ("one clean accuracy", "AutoAttack's warnings", "no black box ahead", "as strong as PGD-20")
    assert [name for name in by_figures if found[name] == "unreliable"] == doubted


def test_one_or_two_points_are_no_evidence_in_a_small_sample(trained):
    assert post_attack(trained, found_by_autoattack([0.5, 0.5, 0.5, 0.4], points=20))["no black box ahead"] == "passed"
    assert (
        post_attack(trained, found_by_autoattack([0.5, 0.5, 0.5, 0.35], points=20))["no black box ahead"]
        == "unreliable"
    )


def test_without_robust_points_the_other_checks_are_skipped(trained):
    found = post_attack(trained, found_by_autoattack([0.3, 0, 0, 0], warnings=["there are zero gradients"]), pgd20=0.3)
    assert found.pop("one clean accuracy") == "passed"
    assert set(found.values()) == {"skipped"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"x": torch.zeros(0, 1, 8, 8, dtype=torch.uint8), "y": torch.zeros(0).long()}, "got none"),
        ({"y": torch.tensor([0, 9, 10])}, "labels from 0 to 9, got 0 to 10"),
        ({"y": torch.tensor([0, -1, 1])}, "got -1 to 1"),
        ({"y": torch.tensor([0, 1])}, "2 labels"),
        ({"x": torch.zeros(3, 1, 8, 8)}, "got float32"),
        ({"x": torch.zeros(3, 8, 8, dtype=torch.uint8)}, r"uint8 \(3, 8, 8\)"),
        ({"classes": 3}, "at least 4 classes, .* got 3"),
        ({"threat": Threat("Linf", 8, 2)}, "got 8; did you mean 8/255?"),
        ({"threat": Threat("L2", 128, 15)}, "between 0 and 8, .* got 128; did you mean 128/255?"),
        ({"threat": Threat("Linf", 0, 2)}, "got 0; correct it"),
        ({"threat": Threat("Linf", float("nan"), 2)}, "got nan; correct it"),
        ({"threat": Threat("L1", 0.1, 2)}, "Linf or L2, got 'L1'"),
    ],
)
def test_invalid_points_and_threats_are_errors(changed, told):
    given = {"x": torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "y": torch.tensor([0, 1, 9])}
    given |= {"threat": LINF, "classes": 10}
    trust.validate_points(Images(given["x"], given["y"]), given["threat"], given["classes"])
    given |= changed
    with pytest.raises(UserError, match=told):
        trust.validate_points(Images(given["x"], given["y"]), given["threat"], given["classes"])
