"""AutoAttack equals pyautoattack bit for bit, for any number of workers and interruptions."""

from __future__ import annotations

import json

import pytest
import torch
from model_snapshots import ExitingModule, ThreadCountingModule, equal_snapshots, snapshot
from pyautoattack import AutoAttack
from rich.progress import Progress
from tiers import mark_slow_except
from torch import nn
from worker_tasks import workers_are_gone

from rb_smooth.core import environment, robustbench
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation import attack_workers
from rb_smooth.evaluation.attack_cache import AttackBatch, AttackCache, BatchResult
from rb_smooth.evaluation.autoattack import run_autoattack

LINF, L2 = Threat("Linf", 0.02, 0.005), Threat("L2", 0.15, 0.04)
OPTIONS = {"classes": 5, "batch_size": 10, "seed": 3, "keep_examples": 9}


@pytest.fixture
def points(net):
    """Points that the net gets mostly right, so that attacks have something to break."""
    x = torch.randint(0, 256, (24, 2, 6, 6), dtype=torch.uint8)
    y = net.eval()(x.float() / 255).argmax(1)
    y[0] = (y[0] + 1) % 5
    return Images(x, y)


def equal(one, other):
    """Whether two results are equal at every point."""
    flags = torch.equal(one.robust, other.robust) and torch.equal(one.broken_by, other.broken_by)
    shares = [[attack.robust for attack in result.attacks.values()] for result in (one, other)]
    kept = one.x_adv.keys() == other.x_adv.keys() and all(torch.equal(one.x_adv[i], other.x_adv[i]) for i in one.x_adv)
    return (
        flags and shares[0] == shares[1] and kept and torch.equal(one.margin.nan_to_num(9), other.margin.nan_to_num(9))
    )


@pytest.mark.slow
@pytest.mark.parametrize("threat", [LINF, L2], ids=["Linf", "L2"])
def test_flags_are_those_of_pyautoattack_at_equal_batch_size_and_seed(net, points, threat):
    x, y = points.x.float() / 255, points.y
    theirs = AutoAttack(net.eval(), norm=threat.norm, eps=threat.eps, seed=3, version="standard")
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 4  # five classes
    _, y_adv = theirs.run_standard_evaluation(x, y, batch_size=10)
    ours = run_autoattack(net, points, threat, classes=5, batch_size=10, seed=3)
    assert torch.equal(ours.robust, y_adv == y)
    assert 0 < ours.robust.float().mean() < ours.clean == 23 / 24
    shares = [ours.clean, *(result.robust for result in ours.attacks.values())]
    assert shares == sorted(shares, reverse=True)
    assert list(ours.attacks) == ["apgd-ce", "apgd-t", "fab-t", "square"]


def test_a_model_without_robust_points_is_scored_zero(net, points):
    wrong = Images(points.x, (points.y + 1) % 5)
    result = run_autoattack(net, wrong[1:], LINF, classes=5, batch_size=10, seed=0)
    assert result.clean == 0
    assert not result.robust.any()


def test_autoattack_restores_model_and_random_state(net, points, short_attacks):
    net.train()
    before, random = snapshot(net), torch.random.get_rng_state()
    run_autoattack(net, points[:4], LINF, classes=5, batch_size=10, seed=0)
    assert equal_snapshots(before, snapshot(net))
    assert torch.equal(random, torch.random.get_rng_state())


def test_the_seed_reaches_every_attack(net, points, monkeypatch):
    attacks = robustbench.standard_attacks(net, LINF, 5, 3, torch.device("cpu"))
    assert [attack.__self__.seed for attack in attacks.values()] == [3] * 4
    given = []
    monkeypatch.setattr(robustbench, "standard_attacks", lambda *arguments: given.append(arguments) or attacks)
    run_autoattack(net, points[:2], LINF, classes=5, batch_size=10, seed=7)
    assert given[0][1:4] == (LINF, 5, 7)


@pytest.mark.slow
def test_no_attack_makes_more_passes_than_its_progress_bar(net, points):
    """The bars' totals are upper bounds, and not far off."""
    bars, steps = Progress(disable=True), {}
    bars.add_task = lambda name, total: steps.setdefault(name, [0, total]) and name
    bars.advance = lambda name, passes: steps[name].__setitem__(0, steps[name][0] + passes)
    bars.remove_task = lambda name: None
    easy = Threat("Linf", 1e-6, 1e-6)  # every point survives every attack
    result = run_autoattack(net, points[1:], easy, classes=5, batch_size=32, seed=0, bars=bars)
    assert result.robust.all()
    for name, (made, foreseen) in steps.items():
        assert 0.4 * foreseen <= made <= foreseen, name  # five classes: four of nine targets


@pytest.mark.slow
def test_workers_give_the_results_of_one_process(net, points):
    alone = run_autoattack(net, points, LINF, **OPTIONS)
    on_progress = []
    bars = Progress(disable=True)
    bars.add_task, bars.remove_task = lambda name, total: name, lambda name: None
    bars.advance = lambda name, passes: on_progress.append(passes)
    before = snapshot(net)
    crew = run_autoattack(net, points, LINF, **OPTIONS, workers=2, bars=bars)
    assert equal(alone, crew)
    assert 0 < alone.robust.float().mean() < 1
    assert sum(on_progress) > 1000  # forward passes made elsewhere
    assert equal_snapshots(before, snapshot(net))
    assert workers_are_gone()


@pytest.mark.slow
def test_workers_end_after_an_error(net, points):
    x, y = points.x.float() / 255, points.y
    with (
        pytest.raises(RuntimeError, match="stop here"),
        attack_workers.attack_runner(net, x, y, LINF, classes=5, seed=0, workers=2) as crew,
    ):
        next(crew.results([AttackBatch("apgd-ce", number, torch.arange(24)) for number in range(4)], lambda _: None))
        raise RuntimeError("stop here")
    assert workers_are_gone()


@pytest.mark.slow
def test_a_worker_that_dies_is_a_one_line_error(points):
    x, y = points.x.float() / 255, points.y
    with (
        pytest.raises(UserError, match="expected 2 processes to attack in, got one that ended"),
        attack_workers.attack_runner(ExitingModule(), x, y, LINF, classes=5, seed=0, workers=2) as crew,
    ):
        list(crew.results([AttackBatch("apgd-ce", 0, torch.arange(24))], lambda _: None))


def test_workers_take_no_more_threads_than_the_environment_allows(points, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(environment, "usable_cores", lambda: 64)
    x, y = points.x.float() / 255, points.y
    with (
        pytest.raises(RuntimeError, match=r"^1 threads"),
        attack_workers.attack_runner(ThreadCountingModule(), x, y, LINF, classes=5, seed=0, workers=2) as crew,
    ):
        list(crew.results([AttackBatch("apgd-ce", 0, torch.arange(24))], lambda _: None))


@pytest.mark.slow
def test_one_process_and_a_worker_compute_in_float32_in_eval_mode_without_gradients_of_weights(net, points):
    seen = {}

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            seen["training"], seen["wanting"] = self.training, any(p.requires_grad for p in self.parameters())
            seen["tf32"] = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
            return self.net(x)

    before = torch.backends.cudnn.allow_tf32
    run_autoattack(Spy().train(), points[:2], LINF, **OPTIONS)
    assert seen == {"training": False, "wanting": False, "tf32": False}
    assert torch.backends.cudnn.allow_tf32 == before


def test_tf32_comes_back_after_an_error():
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with pytest.raises(RuntimeError), full_float32():
            assert not torch.backends.cuda.matmul.allow_tf32
            raise RuntimeError
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


class Stop(Exception):
    pass


@pytest.fixture
def attacked(monkeypatch):
    """The batches that were attacked. `attacked.until`: number of batches after which the process stops."""

    class Attacked(list):
        until = None

    seen, attack = Attacked(), attack_workers._LocalRunner.attack

    def counted(self, batch):
        if len(seen) == seen.until:
            raise Stop
        seen.append((batch.attack, batch.batch_index))
        return attack(self, batch)

    monkeypatch.setattr(attack_workers._LocalRunner, "attack", counted)
    return seen


@pytest.mark.parametrize("until", mark_slow_except([4], [1, 4, 5]))
def test_an_interrupted_evaluation_continues_with_the_first_unfinished_batch(
    net, points, tmp_path, attacked, short_attacks, until
):
    whole = run_autoattack(net, points, LINF, **OPTIONS)
    every = list(attacked)
    cache = AttackCache(tmp_path, {"weights": "a"})
    cache.open()
    attacked.clear()
    attacked.until = until
    with pytest.raises(Stop):
        run_autoattack(net, points, LINF, **OPTIONS, cache=cache)
    attacked.until = None
    assert equal(whole, run_autoattack(net, points, LINF, **OPTIONS, cache=cache))
    assert attacked == every  # each once
    attacked.clear()
    assert equal(whole, run_autoattack(net, points, LINF, **OPTIONS, cache=AttackCache(tmp_path, {"weights": "a"})))
    assert not attacked
    run_autoattack(net, points, LINF, **OPTIONS, cache=AttackCache(tmp_path, {"weights": "b"}))
    assert attacked == every


EXAMPLES = torch.rand(1, 2, 3, 3)
RESULT = BatchResult(torch.tensor([True, False]), torch.tensor([0.5, -2.25]), 1.5, ["zero gradient"], EXAMPLES)
BATCH = AttackBatch("apgd-t", 3, torch.tensor([5, 8]))


def test_a_cached_result_is_read_as_written(tmp_path):
    cache = AttackCache(tmp_path, {"eps": 0.1})
    assert cache.load(BATCH) is None
    cache.open()
    cache.save(BATCH, RESULT)
    found = cache.load(BATCH)
    assert torch.equal(found.robust, RESULT.robust)
    assert torch.equal(found.margin, RESULT.margin)
    assert found[2:4] == RESULT[2:4]
    assert torch.equal(found.x_adv, EXAMPLES)
    assert json.loads((cache.path / "binding.json").read_text()) == {"eps": 0.1}
    assert not {each.name for each in cache.path.iterdir()} - {"binding.json", "apgd-t-3.json"}


@pytest.mark.parametrize(
    "other",
    [BATCH._replace(points=torch.tensor([5, 9])), BATCH._replace(attack="fab-t"), BATCH._replace(batch_index=2)],
)
def test_a_cached_result_is_not_used_for_another_batch(tmp_path, other):
    cache = AttackCache(tmp_path, {})
    cache.open()
    cache.save(BATCH, RESULT)
    assert cache.load(other) is None


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"points": [5, 8]}', '{"points": [5, 8], "robust": [true], "margin": [1]}']
)
def test_a_damaged_cached_result_is_none(tmp_path, damage):
    cache = AttackCache(tmp_path, {})
    cache.open()
    cache.save(BATCH, RESULT)
    (cache.path / "apgd-t-3.json").write_text(damage)
    assert cache.load(BATCH) is None


def test_nothing_is_cached_without_the_folder(tmp_path):
    cache = AttackCache(tmp_path / "elsewhere", {})
    cache.save(BATCH, RESULT)
    assert not (tmp_path / "elsewhere").exists()


def test_quick_is_an_upper_bound_by_the_first_two_attacks(net, points, short_attacks):
    standard = run_autoattack(net, points, LINF, **OPTIONS)
    quick = run_autoattack(net, points, LINF, **OPTIONS, version="quick")
    assert list(quick.attacks) == ["apgd-ce", "apgd-t"]
    assert (quick.robust | ~standard.robust).all()
    assert [each.robust for each in quick.attacks.values()] == [each.robust for each in standard.attacks.values()][:2]


def test_quick_skips_points_known_to_be_broken_and_standard_attacks_all(net, points, attacked):
    still_robust = torch.zeros(24, dtype=torch.bool)
    still_robust[3] = True
    result = run_autoattack(net, points, LINF, **OPTIONS, version="quick", initially_robust=still_robust)
    assert attacked[:1] == [("apgd-ce", 0)]
    assert not result.robust[still_robust.logical_not()].any()
    assert result.margin[still_robust.logical_not()].isnan().all()
    assert result.clean == 23 / 24
    with pytest.raises(ValueError, match="quick only"):
        run_autoattack(net, points, LINF, **OPTIONS, initially_robust=still_robust)


def test_every_broken_point_names_the_attack_that_broke_it(net, points, short_attacks):
    result = run_autoattack(net, points, LINF, **OPTIONS)
    assert (result.broken_by[result.robust] == -1).all()
    assert result.broken_by[0] == -1  # wrong without any attack
    assert result.margin[0].isnan()
    places = list(result.attacks)
    for place, name in enumerate(places):
        before = result.clean if place == 0 else result.attacks[places[place - 1]].robust
        fallen = (result.broken_by == place).sum().item() / 24
        assert fallen == pytest.approx(before - result.attacks[name].robust)
    broken = result.broken_by >= 0
    assert broken.any()
    assert (result.margin[broken] <= 0).all()
    assert (result.margin[result.robust] > 0).all()


@pytest.mark.parametrize("threat", [LINF, pytest.param(L2, marks=pytest.mark.slow)], ids=["Linf", "L2"])
def test_saved_examples_are_adversarial(net, points, threat):
    result = run_autoattack(net, points, threat, **OPTIONS)
    broken = (result.broken_by >= 0).nonzero().flatten().tolist()
    assert sorted(result.x_adv) == [place for place in broken if place < 9]
    assert 0 < len(result.x_adv) < len(broken)
    for place, x_adv in result.x_adv.items():
        moved = x_adv - points.x[place] / 255
        assert (moved.abs().max() if threat.norm == "Linf" else moved.norm()) <= threat.eps + 1e-6
        assert 0 <= x_adv.min() <= x_adv.max() <= 1
        assert net.eval()(x_adv[None]).argmax(1) != points.y[place]
