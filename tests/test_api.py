"""The programs as functions: they do what the command line does, return plain things, and refuse in one line."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from fake_entries import add_points, make_entry
from few_iterations import with_few_iterations
from torch import nn

import rb_smooth
from rb_smooth.config import yaml
from rb_smooth.config.overrides import resolve_config, to_set_args
from rb_smooth.core import crashes, robustbench
from rb_smooth.data.datasets import digits
from rb_smooth.data.images import as_images
from rb_smooth.data.splits import fingerprint
from rb_smooth.evaluation import evaluator
from rb_smooth.leaderboard.submission import submit as enter
from rb_smooth.training import loop
from rb_smooth.training.run_folder.run import run_path

pytestmark = pytest.mark.usefixtures("no_curve_plots", "short_attacks")
POINTS = 12
TINY = {
    **{"model.width": 4, "data.train_examples": 256, "objective.steps": 2},
    **{"evaluate.n_examples": POINTS, "evaluate.batch_size": POINTS},
}
RECIPE = {"recipe": "digits/at", "epochs": 1, "set": TINY, "verbose": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with one run, measured and entered."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        patched.setattr(robustbench, "standard_attacks", with_few_iterations(robustbench.standard_attacks))
        patched.setattr("rb_smooth.training.run_folder.reporting.draw_curves", lambda logs, path: None)
        rb_smooth.submit(rb_smooth.train(**RECIPE), verbose=False)
    return place


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.chdir(home)
    return rb_smooth.train(**RECIPE)


@pytest.fixture
def entry(run):
    return rb_smooth.submit(run, verbose=False)


@pytest.fixture
def no_work(monkeypatch):
    """Nothing may be trained or measured."""

    def busy(*_, **__):
        raise AssertionError("was trained or measured again")

    monkeypatch.setattr(loop, "train", busy)
    for module in ("evaluation.custom_model", "leaderboard.verification", "leaderboard.external"):
        monkeypatch.setattr(f"rb_smooth.{module}.evaluate_model", busy)  # first: importing them copies evaluator's
    monkeypatch.setattr(evaluator, "evaluate_model", busy)


def test_a_run_lies_where_the_command_line_would_put_it_and_is_not_trained_again(run, no_work):
    command = [f"{key}={value}" for key, value in TINY.items()]
    assert run == run_path(Path("runs"), resolve_config("digits", "at", command, epochs=1))
    assert run.is_trained
    assert rb_smooth.train(**RECIPE) == run
    assert rb_smooth.train(**RECIPE | {"recipe": "digits/at", "seed": 0}) == run


def test_seed_and_epochs_are_the_recipes(monkeypatch):
    seen = []
    monkeypatch.setattr("rb_smooth.api.run_recipe", lambda resolved, options: seen.append((resolved, options)))
    rb_smooth.train("cifar10/at", seed=3, epochs=20, set={"train.seed": 5, "optimizer.lr": 0.05}, fresh=True)
    ((dataset, method, sections), options) = seen[0]
    assert (dataset, method, sections["optimizer"]["lr"]) == ("cifar10", "at", 0.05)
    assert (sections["train"]["seed"], sections["train"]["epochs"], sections["schedule"]["drops"]) == (3, 20, [10, 15])
    assert (options.fresh, options.until) == (True, "training")


@pytest.mark.parametrize(
    "value", [1e-7, 1 / 3, 8 / 255, 5, True, None, "flip", [1, 2], ["crop", "flip"], {"file": "e.npz", "share": 0.5}]
)
def test_a_value_of_python_is_the_same_value_in_a_recipe(value):
    (setting,) = to_set_args({"section.key": value})
    read = yaml.parse_yaml(setting.partition("=")[2], "")
    assert read == value
    assert type(read) is type(value)


def test_a_text_is_read_as_in_a_recipe_and_what_no_recipe_holds_is_refused():
    assert to_set_args({"objective.eps": "8/255", "data.root": Path("photos")}) == [
        "objective.eps=8/255",
        "data.root=photos",
    ]
    with pytest.raises(rb_smooth.Refused, match=r"for optimizer\.lr, got tensor"):
        rb_smooth.train("digits/at", set={"optimizer.lr": torch.tensor(0.1)})


def test_a_file_is_a_recipe_too(run, tmp_path, no_work):
    path = tmp_path / "mine.yaml"
    sections = {key: run.header[key] for key in ("data", "model", "objective", "train", "evaluate")}
    path.write_text(
        yaml.dump_sections({"base": "digits/at", "name": "digits/at", **sections, "schedule": run.header["schedule"]})
    )
    assert rb_smooth.train(path, verbose=False) == run


def test_a_score_says_what_the_runs_file_says_and_costs_nothing_twice(run, no_work):
    score, told = rb_smooth.evaluate(run), run.score
    assert score.values == told
    for name in ("clean", "pgd20", "autoattack", "n", "version"):
        assert getattr(score, name) == told[name], name
    assert list(score.interval) == told["interval"]
    assert score.threat == rb_smooth.Threat("Linf", 0.15, 0.03)
    assert list(score.attacks) == list(robustbench.ATTACKS)
    assert score.attacks["square"] == score.autoattack <= score.pgd20 <= score.clean
    assert score.checks[0].verdict == "passed"
    assert f"AutoAttack {score.autoattack:.1%}" in str(score)
    assert rb_smooth.evaluate(run.path) == score


@pytest.mark.slow
def test_another_protocol_is_measured_and_the_recipe_stays_what_it_was(run, request):
    first, declared = rb_smooth.evaluate(run), run.header
    other = rb_smooth.evaluate(run, version="quick", n_examples=6, eps=0.3, verbose=False)
    assert (other.n, other.version, other.threat.eps) == (6, "quick", 0.3)
    assert other.threat.step_size == first.threat.step_size  # its recipe's
    assert "upper bound (quick, not AutoAttack)" in str(other)
    assert run.header == declared
    request.getfixturevalue("no_work")
    assert rb_smooth.submit(run).own["score"]["n"] == POINTS
    assert rb_smooth.evaluate(run, version="quick", n_examples=6, eps=0.3) == other
    assert rb_smooth.evaluate(run) == first


def test_training_declares_how_the_run_is_to_be_evaluated(run, no_work):
    fewer = RECIPE | {"set": TINY | {"evaluate.n_examples": 5}}
    for recipe, n in ((fewer, 5), (RECIPE, POINTS)):
        assert rb_smooth.train(**recipe) == run
        assert run.header["evaluate"]["n_examples"] == n


@pytest.mark.slow
def test_a_module_is_measured_as_its_run_was_on_the_same_points_however_they_come(run, monkeypatch):
    expected, model = rb_smooth.evaluate(run), rb_smooth.load_model(run).train()
    model.net[1].eval()
    ball = {"eps": 0.15, "step_size": 0.03, "batch_size": POINTS, "verbose": False}
    test, state = digits(Path()).test[:POINTS], torch.get_rng_state()
    for points in ({"name": "digits"}, ((test.x.float() / 255).numpy(), test.y.int())):
        score = rb_smooth.evaluate(model, points, n_examples=POINTS, **ball)
        for name in ("clean", "pgd20", "attacks", "interval", "n"):
            assert getattr(score, name) == getattr(expected, name), name
        assert score.values["fingerprint"] == expected.values["fingerprint"]
    assert model.training
    assert not model.net[1].training
    assert torch.equal(state, torch.get_rng_state())
    monkeypatch.setattr("rb_smooth.evaluation.custom_model.choose_threads", lambda *_: torch.set_num_threads(2))
    rb_smooth.evaluate(model, (test.x, test.y), n_examples=1, **ball)
    assert torch.get_num_threads() == 1


def test_points_are_grey_levels_known_again_by_their_bytes():
    x = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    y = torch.arange(5)
    assert fingerprint(as_images(x, y)) == fingerprint(as_images(x.float() / 255, y.int()))
    assert as_images(x.double() / 255, y).x.equal(x)
    for wrong in (
        (torch.rand(5, 1, 4, 4), y),
        (x / 16, y),
        (x[:, 0], y),
        (x, y[:4]),
        (x[:0], y[:0]),
        (x, y / 2),
        ("x", y),
    ):
        with pytest.raises(rb_smooth.Refused, match=r"^expected (pixels that are k/255|x \(N, C, H, W\)|points)"):
            as_images(*wrong)


class ConstantModel(nn.Module):
    """Whatever it is told to answer."""

    def __init__(self, answer):
        super().__init__()
        self.weight, self.answer = nn.Parameter(torch.ones(1)), answer

    def forward(self, x):
        return self.answer(x)


def failing(x):
    raise ZeroDivisionError("no answer")


LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: rb_smooth.train("digits/att"), "did you mean 'at'"),
        (lambda: rb_smooth.train("digits"), "expected DATASET/METHOD"),
        (lambda: rb_smooth.train("digit/at"), "did you mean 'digits'"),
        (lambda: rb_smooth.train("digits/at", set={"optimizer.lrr": 1}), "did you mean 'lr'"),
        (lambda: rb_smooth.train("digits/at", set={"lr": 1}), r"section\.key"),
        (lambda: rb_smooth.train("digits/at", epochs=0), "--epochs"),
        (lambda: rb_smooth.train("digits/at", device="tpu"), "expected a device"),
        (lambda: rb_smooth.train("absent.yaml"), r"nothing at absent\.yaml"),
        (lambda: rb_smooth.evaluate("nobody"), "expected an entry of leaderboard, got 'nobody'"),
        (lambda: rb_smooth.evaluate(rb_smooth.Run(Path("absent"))), "the run's recipe"),
        (lambda: rb_smooth.evaluate(LINEAR, eps=0.1), "expected points"),
        (lambda: rb_smooth.evaluate(LINEAR, "digits"), "expected eps"),
        (lambda: rb_smooth.evaluate(LINEAR, "digits", eps=8), "did you mean 8/255"),
        (lambda: rb_smooth.evaluate(LINEAR, "digits", eps=0.1, version="fast"), "evaluate.version"),
        (lambda: rb_smooth.evaluate(LINEAR, "digit", eps=0.1), "did you mean 'digits'"),
        (lambda: rb_smooth.evaluate(nn.Flatten(), "digits", eps=0.1), "shape of logits"),
        (lambda: rb_smooth.evaluate(ConstantModel(failing), "digits", eps=0.1), r"got ZeroDivisionError \(no answer\)"),
        (
            lambda: rb_smooth.evaluate(ConstantModel(lambda x: x), "digits", eps=0.1),
            r"got Tensor of shape \(1, 1, 8, 8\)",
        ),
        (lambda: rb_smooth.submit("nowhere"), "the run's recipe"),
        (lambda: rb_smooth.compare(), "expected names"),
        (lambda: rb_smooth.compare("nobody"), "expected an entry"),
        (lambda: rb_smooth.load_model(rb_smooth.Run(Path("absent"))), "the run's recipe"),
    ],
)
def test_what_a_user_can_mend_is_refused_in_one_line_by_an_exception(tmp_path, monkeypatch, wrong, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rb_smooth.Refused, match=message) as refused:
        wrong()
    assert "\n" not in str(refused.value)


def test_a_run_has_its_own_points_and_must_be_trained(run, tmp_path):
    with pytest.raises(rb_smooth.Refused, match="no points with a run"):
        rb_smooth.evaluate(run, "digits")
    begun = run_path(tmp_path, resolved := resolve_config("digits", "at"))
    begun.begin(resolved)
    for wanting in (rb_smooth.evaluate, rb_smooth.submit, rb_smooth.load_model):
        with pytest.raises(rb_smooth.Refused, match=r"expected a (trained|finished) run"):
            wanting(begun)


def test_lines_are_shown_unless_they_are_not_wanted(run, entry, tmp_path, capsys):
    rb_smooth.train(**RECIPE | {"runs": tmp_path})
    rb_smooth.evaluate(run.path, n_examples=5, verbose=False)
    rb_smooth.submit(run, leaderboard=tmp_path / "board", verbose=False)
    rb_smooth.compare(entry.name)
    rb_smooth.load_model(run)
    assert capsys.readouterr().out == ""
    rb_smooth.train(**RECIPE | {"runs": tmp_path, "fresh": True, "verbose": True})
    assert "epoch   1/1" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path, monkeypatch):
    real, wanted = loop.end_epoch, RECIPE | {"runs": tmp_path, "epochs": 2}

    def stopped(trainer, run):
        signal.raise_signal(signal.SIGINT)
        return real(trainer, run)

    with monkeypatch.context() as patched, pytest.raises(rb_smooth.Interrupted, match="the same command goes on"):
        patched.setattr(loop, "end_epoch", stopped)
        rb_smooth.train(**wanted)
    assert rb_smooth.train(**wanted).is_trained


def test_an_entry_is_the_run_and_loads_back(run, entry, no_work):
    x = torch.rand(3, 1, 8, 8)
    ours = rb_smooth.load_model(run)
    assert not ours.training
    assert torch.equal(ours(x), rb_smooth.load_model(entry.name, dataset="digits")(x))
    assert rb_smooth.submit(run) == entry
    assert rb_smooth.evaluate(entry.name) == rb_smooth.evaluate(entry)
    assert rb_smooth.evaluate(entry.name, eps=0.15, n_examples=POINTS).autoattack == entry.own["score"]["autoattack"]


@pytest.mark.slow
def test_an_entry_is_measured_by_another_protocol_from_its_weights(entry, monkeypatch):
    stored = rb_smooth.evaluate(entry)
    smaller = rb_smooth.evaluate(entry.name, eps=0.01, version="quick", verbose=False)
    assert smaller.threat == rb_smooth.Threat("Linf", 0.01, 0.0025)
    assert (smaller.clean, smaller.n) == (stored.clean, stored.n)
    assert smaller.autoattack >= stored.autoattack
    with pytest.raises(rb_smooth.Refused, match="expected eps with norm L2"):
        rb_smooth.evaluate(entry.name, norm="L2")
    assert rb_smooth.evaluate(entry.name) == stored


def test_an_entry_tells_the_protocol_of_its_score(run, tmp_path):
    rb_smooth.evaluate(run, version="quick", n_examples=6, verbose=False)
    own = enter(run, tmp_path).own
    assert own["recipe"]["evaluate"]["n_examples"] == own["score"]["n"] == 6
    assert own["recipe"]["evaluate"]["version"] == own["score"]["version"] == "quick"


@pytest.mark.slow
def test_submitting_measures_what_is_not_measured_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = rb_smooth.train(**RECIPE)
    assert run.score is None
    assert rb_smooth.load_model(run)(torch.rand(1, 1, 8, 8)).shape == (1, 10)
    assert rb_smooth.submit(run, verbose=False).own["score"]["n"] == POINTS
    assert run.score is not None


@pytest.mark.parametrize("stage", ["rb_smooth.training.cost.estimate_cost", "rb_smooth.training.loop.train"])
def test_a_crash_before_or_while_training_is_traced_in_the_runs_folder(tmp_path, monkeypatch, stage):
    monkeypatch.chdir(tmp_path)
    traced = []
    monkeypatch.setattr(crashes.faulthandler, "enable", traced.append)

    def look(*_, **__):
        assert not traced[0].closed
        raise rb_smooth.Refused("looked")

    monkeypatch.setattr(stage, look)
    with pytest.raises(rb_smooth.Refused, match="looked"):
        rb_smooth.train(**RECIPE | {"verbose": True})
    (run,) = Path("runs/digits").iterdir()
    assert Path(traced[0].name) == run / "crash.txt"
    assert not (run / "crash.txt").exists()


def test_a_comparison_is_plain_values_and_reads_as_the_table(tmp_path):
    for name, stood in ROBUST.items():
        add_points(make_entry(tmp_path, name, n=4, whole=False, clean=1.0, autoattack=sum(stood) / 4), stood)
    found = rb_smooth.compare(*ROBUST, "Wong2020Fast", leaderboard=tmp_path)
    assert json.loads(json.dumps(found.positions)).keys() == {*ROBUST, "Wong2020Fast"}
    assert [(pair["one"], pair["other"]) for pair in found.differences] == [
        *(("one", "other"), ("one", "Wong2020Fast"), ("other", "Wong2020Fast")),
    ]
    paired = found.differences[0]["figures"]["autoattack"]
    assert paired["kind"] == "paired"
    assert paired["difference"] == pytest.approx(0.25)
    assert "Wong2020Fast (published)" in str(found)
    assert "+25.00" in str(found)


ROBUST = {"one": [True, True, False, True], "other": [True, False, False, True]}


def test_comparing_costs_no_torch(tmp_path):
    make_entry(tmp_path, "one")
    compared = f"rb_smooth.compare('one', leaderboard={str(tmp_path)!r})"
    code = f"import sys, rb_smooth; {compared}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_documented_and_stays_itself_whatever_else_is_imported():
    before = {name: getattr(rb_smooth, name) for name in rb_smooth.__all__}
    for name, value in before.items():
        assert value.__doc__, name
        assert value.__module__.startswith("rb_smooth.")
    for module in pkgutil.iter_modules(rb_smooth.__path__):
        if not module.name.startswith("_"):
            import_module(f"rb_smooth.{module.name}")
    assert {name: getattr(rb_smooth, name) for name in rb_smooth.__all__} == before
    assert set(rb_smooth.__all__) <= set(dir(rb_smooth))
    with pytest.raises(AttributeError):
        _ = rb_smooth.trian


def test_every_public_method_is_documented():
    classes = [value for name in rb_smooth.__all__ if inspect.isclass(value := getattr(rb_smooth, name))]
    for cls in classes:
        for name, member in vars(cls).items():
            documented = inspect.isfunction(member) or isinstance(member, property)
            if documented and (not name.startswith("_") or name == "__call__"):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"
    assert len(classes) > 10


def test_type_checkers_see_the_names_that_there_are():
    tree = ast.parse(Path(rb_smooth.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(alias.name, line.module) for line in guarded.body for alias in line.names}
    assert seen == {(name, f"rb_smooth.{home}") for name, home in rb_smooth._MODULE_OF_NAME.items()}
