"""Loss landscapes: values against the closed form and the plain loss, stored files, summaries and plots."""

from __future__ import annotations

import copy
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_entries import add_weights, make_entry
from run_program import run_program
from torch import nn
from torch.nn.functional import cross_entropy
from worker_tasks import workers_are_gone

from rb_smooth import landscape
from rb_smooth.analysis.adversarial_loss import AdversarialLoss
from rb_smooth.analysis.landscape import compute
from rb_smooth.analysis.landscape.compute import (
    LandscapeSettings,
    Slice,
    filter_normalised,
    make_slices,
    random_direction,
)
from rb_smooth.analysis.landscape.grid import (
    QUANTITIES,
    LandscapeMeta,
    LossLandscape,
    read_landscape,
    summarise_landscapes,
)
from rb_smooth.analysis.trained_model import find_trained_model
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.core import errors
from rb_smooth.core.threat import Threat
from rb_smooth.data.datasets import digits
from rb_smooth.data.images import Images
from rb_smooth.data.splits import split
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.training import loop, validate
from rb_smooth.training.run_folder.run import Run

pytestmark = pytest.mark.usefixtures("no_curve_plots")
CPU = torch.device("cpu")
TINY = ["data.train_examples=128", "objective.steps=2", "train.epochs=2", "schedule.drops=[1]", "model.width=4"]


def make_meta(**changed):
    model = dict(run="at-s0", method="at", dataset="digits", seed=0, weights="best", weights_sha256="a" * 64)
    attack = dict(norm="Linf", eps=0.1, step_size=0.05, steps=5, random_seed=0)
    images = dict(train_points=8, test_points=4, images="b" * 64)
    return LandscapeMeta(**model | attack | images | dict(directions=(0,), radius=1.0, points=5) | changed)


def make_evaluator(model, images, **changed):
    """A PointEvaluator for one slice through `model`'s weights; the first four images are the test images."""
    trained_model = SimpleNamespace(load=lambda which: copy.deepcopy(model).eval())
    return compute.PointEvaluator([Slice(make_meta(**changed), Path("unused"), trained_model, images, images[:4])], CPU)


def loss_along_line(model, images, **changed):
    """The training loss at each point of a line."""
    evaluate = make_evaluator(model, images, **changed)
    return [evaluate((0, (i,)))[0] for i in range(changed.get("points", 5))]


@pytest.fixture
def images():
    return Images(torch.randint(256, (8, 2, 6, 6), dtype=torch.uint8), torch.arange(8) % 5)


def printed_normalisation(d, w):
    """Li et al.: d_ij <- d_ij / ||d_ij|| ||w_ij|| for filter j of layer i; 0 for biases and BatchNorm."""
    result = []
    for d_i, w_i in zip(d, w):
        if w_i.ndim == 1:
            result.append(0 * w_i)
        else:
            result.append(torch.stack([d_ij / d_ij.norm() * w_ij.norm() for d_ij, w_ij in zip(d_i, w_i)]))
    return result


def test_each_filter_of_a_direction_has_the_norm_of_the_models_filter(net):
    w = [parameter.detach() for parameter in net.parameters()]
    d = random_direction(w, seed=3, number=1)
    for mine, printed, weight in zip(filter_normalised(d, w), printed_normalisation(d, w), w):
        torch.testing.assert_close(mine, printed)
        assert mine.shape == weight.shape


def test_networks_of_one_architecture_share_the_random_draw(net):
    state = torch.get_rng_state()
    w = list(net.parameters())
    first = random_direction(w, 0, 1)
    assert all(map(torch.equal, first, random_direction([2 * weight for weight in w], 0, 1)))
    assert not torch.equal(first[0], random_direction(w, 0, 2)[0])
    assert not torch.equal(first[0], random_direction(w, 1, 1)[0])
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture
def linear():
    """A linear model of two classes, and images whose ball lies within [0, 1]."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images = Images(torch.randint(100, 150, (8, 1, 2, 2), dtype=torch.uint8), torch.arange(8) % 2)
    return model, images


@pytest.mark.parametrize(("norm", "dual"), [("Linf", 1), ("L2", 2)])
def test_landscape_of_a_linear_model_equals_the_closed_form(linear, norm, dual):
    """max over the ball of log(1 + exp(-y(theta x + b))) is log(1 + exp(-y(theta x + b) + eps ||theta||_dual))."""
    model, images = linear
    weight, bias = (parameter.detach() for parameter in model[1].parameters())
    (d, _) = printed_normalisation(random_direction([weight, bias], 0, 0), [weight, bias])
    x, y = images.x.flatten(1) / 255, 2 * images.y - 1
    ball = dict(norm=norm, eps=0.2, step_size=0.2, steps=20)
    for alpha, found in zip((-2, -1, 0, 1, 2), loss_along_line(model, images, radius=2.0, **ball)):
        moved = weight + alpha * d
        theta, b = moved[1] - moved[0], bias[1] - bias[0]
        worst = -y * (x @ theta + b) + 0.2 * theta.norm(dual)
        assert found == pytest.approx(torch.log1p(worst.exp()).mean().item(), abs=1e-5)


def test_the_centre_has_the_checkpoints_loss_and_robust_accuracy(net, images):
    values, threat = make_evaluator(net, images)((0, (2,))), Threat("Linf", 0.1, 0.05)
    for loss, robust, part in ((*values[:2], images), (*values[2:], images[:4])):
        assert loss == pytest.approx(AdversarialLoss(net, part, threat, steps=5).value(), rel=1e-5)
        assert robust == measure_accuracy(net, part, threat, steps=5)


def test_other_points_have_the_loss_of_the_moved_weights_with_fixed_batchnorm_statistics(net, images):
    found = make_evaluator(net, images, radius=0.8)((0, (3,)))[0]
    moved = copy.deepcopy(net).eval()
    parameters = list(moved.parameters())
    with torch.no_grad():
        for parameter, d in zip(parameters, printed_normalisation(random_direction(parameters, 0, 0), parameters)):
            parameter += 0.4 * d
    loss = AdversarialLoss(moved, images, Threat("Linf", 0.1, 0.05), steps=5)
    assert found == pytest.approx(cross_entropy(moved(loss.adversarial_examples()), images.y).item(), rel=1e-4)


def test_one_evaluator_serves_several_networks_in_any_order(net, images):
    first, second = (make_evaluator(model, images) for model in (net, nn.Sequential(nn.Flatten(), nn.Linear(72, 5))))
    both = compute.PointEvaluator([*first.slices, *second.slices], CPU)
    centre = ((2,),)
    values = [first((0, *centre)), second((0, *centre))]
    assert [both((number, *centre)) for number in (1, 0, 1)] == [values[1], values[0], values[1]]
    assert values[0] != values[1]


def test_the_file_name_depends_on_every_setting_but_not_on_the_runs_name():
    attack = dict(weights_sha256="c" * 64, norm="L2", eps=0.2, step_size=0.1, steps=6, fixed_attacks=True, images="d")
    grid = dict(train_points=9, test_points=5, random_seed=1, directions=(1,), radius=2.0, points=7)
    names = {make_meta(**{key: value}).file_name for key, value in (attack | grid).items()} | {make_meta().file_name}
    assert len(names) == 14
    assert make_meta(run="renamed-s0", method="mine", seed=3).file_name == make_meta().file_name


def test_a_map_contains_the_lines_along_both_directions(net, images):
    over_both = make_evaluator(net, images, directions=(0, 1))
    first, second = (loss_along_line(net, images, directions=(number,)) for number in (0, 1))
    assert [over_both((0, (i, 2)))[0] for i in range(5)] == first
    assert [over_both((0, (2, i)))[0] for i in range(5)] == second
    assert first[1] != pytest.approx(second[1], rel=1e-3)


# ---- the program ----


def program(*arguments):
    """Run the program in this process; returns its exit code."""
    return run_program(landscape.main, *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of a tiny net, with checkpoints of its first and second epoch."""
    source, runs = digits(Path("unused")), tmp_path_factory.mktemp("home") / "runs"
    config = resolve_config("digits", "at", [*TINY, "train.keep=[1]"])
    recipe = validate.check_recipe(*config)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rb_smooth.training.run_folder.reporting.draw_curves", lambda logs, path: None)
        run = Run(runs / "digits/at-s0")
        run.begin(config)
        loop.train(
            recipe, run, split(source, validation=200, split_seed=0, select="validation", train_examples=128), CPU
        )
    return run.path


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A working directory with a copy of that run."""
    shutil.copytree(trained, tmp_path / "runs/digits/at-s0")
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ("--n=12", "--steps=2", "--points=5")


def stored_files():
    return sorted(Path("runs/digits/at-s0/landscapes").iterdir())


@pytest.fixture
def computed_points(monkeypatch):
    """The tasks computed in this process, in order."""
    tasks, real = [], compute.PointEvaluator.__call__

    def recording(self, task):
        tasks.append(task)
        return real(self, task)

    monkeypatch.setattr(compute.PointEvaluator, "__call__", recording)
    return tasks


def test_the_program_computes_stores_and_draws_all_checkpoints(home, capsys, computed_points):
    assert program("at-s0", *QUICK, "--workers=1") == 0
    out = capsys.readouterr().out
    assert [line.split()[3] for line in out.splitlines() if line.startswith("at, seed 0")] == [
        "first",
        "best",
        "last",
    ]
    assert "picture: runs/landscape.png" in out
    assert [path.name.partition("-1d-")[0] for path in stored_files()] == ["best", "first", "last"]
    assert len(computed_points) == 15
    landscape = read_landscape(stored_files()[0])
    assert landscape.meta.axis.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert landscape.meta.fixed_attacks is False
    assert all(np.isfinite(values).all() for values in landscape.values.values())
    before = Path("runs/landscape.png").read_bytes()
    assert program("runs/digits/at-s0", "at-s0", *QUICK, "--workers=1") == 0
    assert len(computed_points) == 15  # stored landscapes are not recomputed
    assert program("at-s0", *QUICK, "--workers=1", "--directions=2", "--weights=best") == 0
    assert len(computed_points) == 20  # only the second direction
    code = "import sys; from rb_smooth import landscape; landscape.main(); assert 'torch' not in sys.modules"
    files = [str(path) for path in stored_files() if "direction0" in path.name]
    subprocess.run([sys.executable, "-c", code, "plot", *files, "--out", "again.png"], check=True, capture_output=True)
    assert Path("again.png").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_command_resumes_to_the_same_values_for_any_number_of_workers(
    home, monkeypatch, computed_points
):
    command = ("at-s0", *QUICK, "--weights=last")
    assert program(*command, "--workers=1") == 0
    (path,) = stored_files()
    uninterrupted = read_landscape(path)
    path.unlink()
    computed_points.clear()
    real = LossLandscape.set_point

    def set_and_interrupt(self, index, values):
        real(self, index, values)
        if self.done.sum() == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(LossLandscape, "set_point", set_and_interrupt)
        assert program(*command, "--workers=2") == errors.INTERRUPTED
    assert workers_are_gone()
    assert read_landscape(path).done.sum() == 3
    with pytest.raises(errors.UserError, match="got 3 of 5 points; repeat"):
        sys.argv = ["landscape", "plot", str(path)]
        landscape.main()
    assert program(*command, "--workers=1") == 0
    assert len(computed_points) == 2
    resumed = read_landscape(path)
    assert all(np.array_equal(resumed.values[name], uninterrupted.values[name]) for name in QUANTITIES)


def test_partial_results_are_saved_during_the_computation(home, monkeypatch):
    monkeypatch.setattr(compute, "_SAVE_S", 0.0)
    real, saved = compute.PointEvaluator.__call__, []

    def counting(self, task):
        saved.append(sum(read_landscape(path).done.sum() for path in Path().rglob("*.npz")))
        return real(self, task)

    monkeypatch.setattr(compute.PointEvaluator, "__call__", counting)
    assert program("at-s0", *QUICK, "--weights=best", "--workers=1") == 0
    assert saved == [0, 1, 2, 3, 4]


def test_a_damaged_file_is_computed_again(home, computed_points):
    command = ("at-s0", *QUICK, "--weights=best", "--workers=1")
    assert program(*command) == 0
    stored_files()[0].write_bytes(b"PK\3\4 no more")
    assert program(*command) == 0
    assert len(computed_points) == 10


@pytest.mark.slow
def test_a_map_is_computed_and_drawn(home, capsys, drawn_figures):
    assert program("at-s0", *QUICK, "--2d", "--points=3", "--workers=1") == 0
    assert "picture: runs/landscape.png" in capsys.readouterr().out
    (path,) = stored_files()
    assert path.name.startswith("best-2d-direction0-direction1-")
    assert "recomputed at every point" in drawn_figures[0].get_suptitle()


def test_stored_landscapes_with_fixed_attacks_are_still_drawn(tmp_path, monkeypatch, capsys, drawn_figures):
    monkeypatch.chdir(tmp_path)
    filled_landscape("at-s0", 1.0, fixed_attacks=True).save(Path("old.npz"))
    assert program("plot", "old.npz") == 0
    assert "fixed at the centre" in drawn_figures[0].get_suptitle()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["at-s0", "--points=1"], "--points: expected a whole number of at least 3"),
        (["at-s0", "--points=9999"], "--points: expected a whole number of at most 1001"),
        (["at-s0", "--points=8"], "(the middle one is the checkpoint), got 8"),
        (["at-s0", "--range=0"], "--range: expected a number of at least 1e-09"),
        (["at-s0", "--n=0"], "--n: expected a whole number of at least 1"),
        (["at-s0", "--seed=-1"], "--seed: expected a whole number of at least 0, got '-1'"),
        (["at-s0", "--workers=0"], "--workers: expected a whole number of at least 1"),
        (["at-s0", "--2d", "--directions=2"], "use --seed for another pair"),
        (["at-s0", "--weights=wurst"], "did you mean"),
        (["at-s0", "--out=x.jpg"], "expected --out to end in .png or .svg, got x.jpg"),
        (["at-s9"], "did you mean 'digits/at-s0'"),
        (["begun"], "expected a trained run in"),
        (["lost"], "expected this run's weights in"),
        (["plot"], "expected files to draw, got none"),
        (["plot", "runs/digits/at-s0/log.csv"], "expected arrays in"),
        (["plot", "foreign.npz"], "expected a loss landscape in foreign.npz"),
    ],
)
def test_invalid_input_is_reported_in_one_line(home, capsys, computed_points, arguments, line):
    for name, missing in (("begun", "last.pt"), ("lost", "best.pt")):
        shutil.copytree("runs/digits/at-s0", f"runs/digits/{name}")
        Path(f"runs/digits/{name}/{missing}").unlink()
    np.savez("foreign.npz", x=np.zeros(3))
    assert program(*arguments) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert not computed_points


def test_the_message_for_a_missing_first_checkpoint_names_train_keep(home, capsys):
    Path("runs/digits/at-s0/epoch-1.pt").unlink()
    assert program("at-s0", *QUICK, "--weights=first,best") == 2
    assert "train with --set train.keep=[1]" in capsys.readouterr().err


def test_landscapes_of_an_entry_are_stored_below_its_leaderboard(tmp_path):
    tiny = {"name": "small_preactresnet", "options": {"width": 4}, "shape": [1, 8, 8], "classes": 10}
    recipe = {"data": {"name": "digits"}, "train": {"seed": 3}}
    entry = make_entry(tmp_path / "board", "at_tiny_s3", dataset="digits", model=tiny, recipe=recipe)
    add_weights(entry, build_model("small_preactresnet", {"width": 4}, (1, 8, 8), 10).state_dict())
    trained_model = find_trained_model(
        entry.name, runs=tmp_path / "runs", leaderboard=entry.leaderboard, data_dir=tmp_path
    )
    by_class = replace(trained_model, train=trained_model.train[trained_model.train.y.argsort()])
    (found,) = make_slices(by_class, LandscapeSettings(n=12), entry.leaderboard)
    assert found.path.parent.parent.parent == entry.leaderboard / ".evaluations"
    assert (found.meta.weights, found.meta.seed, found.meta.train_points) == ("best", 3, 12)
    assert len(set(found.train.y.tolist())) > 1


# ---- summaries and plots ----


def filled_landscape(run, level, direction=0, points=5, **changed):
    filled = LossLandscape(make_meta(run=run, weights_sha256=run, directions=(direction,), points=points, **changed))
    for name in QUANTITIES:
        filled.values[name][:] = level
    filled.done[:] = True
    return filled


def test_runs_that_differ_only_in_their_seed_are_one_summary(drawn_figures, tmp_path):
    runs = [filled_landscape(f"at-s{seed}-beef", level, seed=seed) for seed, level in ((0, 1.0), (1, 2.0), (2, 6.0))]
    other = filled_landscape("at-s0-cafe", 4.0)
    summary, alone = summarise_landscapes([*runs, other])
    assert (summary.label, summary.over, alone.label, alone.over) == ("at-beef", "3 runs", "at-s0-cafe", "")
    assert summary.mean["test_loss"].tolist() == [3.0] * 5
    assert summary.std["test_loss"].tolist() == pytest.approx([7**0.5] * 5)  # the sample standard deviation
    landscape.draw_landscapes([*runs, other], tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_bytes().startswith(b"<?xml")
    (legend,) = drawn_figures[0].legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["at-beef (3 runs)", "at-s0-cafe"]


def test_directions_are_averaged_within_each_run_first():
    runs = [filled_landscape(f"at-s{seed}", level, direction, seed=seed) for seed, level, direction in LEVELS]
    (summary,) = summarise_landscapes(runs)
    assert (summary.label, summary.over, summary.mean["train_loss"][0]) == ("at", "2 runs", 4.0)
    assert summary.std["train_loss"][0] == pytest.approx(2 * 2**0.5)
    (alone,) = summarise_landscapes(runs[:2])
    assert (alone.label, alone.over, alone.std["train_loss"][0]) == (
        "at, seed 0",
        "2 directions",
        pytest.approx(2**0.5),
    )


def test_a_methods_label_is_the_same_for_checkpoints_of_fewer_runs():
    both = [filled_landscape(f"at-s{seed}", 1.0, seed=seed) for seed in (0, 1)]
    first = filled_landscape("at-s0", 2.0, weights="first")
    assert [(summary.label, summary.weights, summary.over) for summary in summarise_landscapes([*both, first])] == [
        ("at", "first", ""),
        ("at", "best", "2 runs"),
    ]


LEVELS = ((0, 1.0, 0), (0, 3.0, 1), (1, 5.0, 0), (1, 7.0, 1))


def test_the_robust_gap_is_training_minus_test_accuracy():
    one = filled_landscape("at-s0", 0.5)
    one.values["train_robust"][2], one.values["test_robust"][2] = 0.75, 0.5
    one.values["train_loss"][2], one.values["test_loss"][2] = 0.25, 1.0
    (summary,) = summarise_landscapes([one])
    assert (summary.at_centre("robust_gap"), summary.at_centre("loss_gap")) == ([0.25], [0.75])


@pytest.mark.parametrize(
    "other",
    [
        dict(eps=0.2),
        dict(steps=7),
        dict(fixed_attacks=True),
        dict(points=7),
        dict(radius=2.0),
        dict(dataset="cifar10"),
        dict(random_seed=1),
    ],
)
def test_landscapes_of_different_losses_or_grids_are_rejected(other):
    with pytest.raises(errors.UserError, match="draw them separately"):
        summarise_landscapes([filled_landscape("at-s0", 1.0), filled_landscape("at-s1", 1.0, seed=1, **other)])


def test_runs_with_different_directions_are_rejected():
    with pytest.raises(errors.UserError, match="same directions"):
        summarise_landscapes([filled_landscape("at-s0", 1.0, 0), filled_landscape("at-s1", 1.0, 1, seed=1)])


def test_more_methods_than_colours_are_rejected():
    many = [filled_landscape(f"m{i}-s0", 1.0, method=f"m{i}").meta for i in range(8)]
    landscape.check_drawable(many[:7], Path("x.png"))
    with pytest.raises(errors.UserError, match="at most 7 methods"):
        landscape.check_drawable(many, Path("x.png"))


def test_panels_of_one_picture_share_their_scale(drawn_figures, tmp_path):
    lines = [filled_landscape("at-s0", level, weights=weights) for level, weights in ((1.0, "best"), (9.0, "last"))]
    landscape.draw_landscapes(lines, tmp_path / "lines.png")
    best, last, gap = drawn_figures[0].axes
    assert best.get_ylim() == last.get_ylim()
    assert [line.get_linestyle() for line in best.lines] == ["-", "--"]
    assert gap.get_title() == "robust generalisation gap"
    maps = []
    for run, level in (("at-s0", 0.2), ("at+awp-s0", 4.0)):
        maps.append(LossLandscape(make_meta(run=run, weights_sha256=run, directions=(0, 1))))
        for name in QUANTITIES:
            maps[-1].values[name][:] = level + np.arange(25).reshape(5, 5)
    landscape.draw_landscapes(maps, tmp_path / "maps.png")
    filled = [next(c for c in panel.collections if c.get_array() is not None) for panel in drawn_figures[1].axes[:4]]
    assert len({tuple(each.levels) for each in filled}) == 1
    assert filled[0].levels[0] <= 0.2
    assert filled[0].levels[-1] >= 28
