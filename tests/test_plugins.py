"""Other packages' methods and recipes: found by name, never in the place of ours, and told wherever they are used."""

from __future__ import annotations

import copy
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fake_entries import make_entry
from run_program import run_program

import rb_smooth
from rb_smooth import doctor, recipe
from rb_smooth.components import models, schedules
from rb_smooth.config import registry, resolver
from rb_smooth.config.listing import print_recipes
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.schema import load_raw_dataset
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError
from rb_smooth.data import augmentations, datasets
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.leaderboard import __main__ as leaderboard
from rb_smooth.leaderboard import zoo
from rb_smooth.leaderboard.entries import list_entries, read_entry
from rb_smooth.training import validate
from rb_smooth.training.run_folder.run import run_path
from rb_smooth.training.trainer import Trainer

SAM = "rb-smooth-sam 0.1"
QUICK = ["data.train_examples=256", "objective.steps=2", "model.width=4"]
BROKEN = "raise RuntimeError('no such\\nlibrary')\n"


def listed_recipes(dataset="digits"):
    """What `list` prints."""
    with console.capture() as capture:
        print_recipes([dataset])
    return " ".join(capture.get().split())


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """A folder without ./recipes, in which something may be left."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_names_of_ours_are_the_public_functions_of_their_file():
    for kind, module in {
        "model": models,
        "schedule": schedules,
        "data": datasets,
        "augmentation": augmentations,
    }.items():
        functions = [each for each in vars(module).values() if inspect.isfunction(each)]
        own = {each.__name__ for each in functions if each.__module__ == module.__name__}
        assert set(registry.component_names(kind)) == {name for name in own if not name.startswith("_")}


def test_a_packages_names_are_known_with_whose_they_are(package_site, empty_folder):
    assert "sam" not in registry.component_names("perturbation")
    assert "+sam" not in listed_recipes()
    package_site.add_sample()
    assert "sam" in registry.component_names("perturbation")
    assert registry.find_component("perturbation", "sam").__name__ == "SAM"
    assert registry.package_of("perturbation", "sam") == SAM
    assert registry.package_of("perturbation", "awp") is None
    assert "at+sam" in resolver.list_methods("digits")
    assert (
        f"+sam Sharpness-Aware Minimization (Foret et al., arXiv 2010.01412) on top. (from {SAM})" in listed_recipes()
    )
    assert f"perturbation sam {SAM}" in listed_recipes()


def test_a_run_of_its_unchanged_recipe_is_named_by_it_alone(package_site, empty_folder):
    package_site.add_sample()
    assert run_path(Path("runs"), resolve_config("digits", "at+sam")).path.name == "at+sam-s0"
    assert re.fullmatch(
        "at[+]sam-s0-[0-9a-f]{6}", run_path(Path("runs"), resolve_config("digits", "at+sam", QUICK)).path.name
    )
    Path("recipes/digits").mkdir(parents=True)
    Path("recipes/digits/+sam.yaml").write_text("perturbation: {name: sam, rho: 0.1}\n")
    yours = resolve_config("digits", "at+sam")
    assert yours[2]["perturbation"]["rho"] == 0.1
    assert re.fullmatch("at[+]sam-s0-[0-9a-f]{6}", run_path(Path("runs"), yours).path.name)


def test_sam_in_a_recipe_moves_the_weights_as_its_paper_prints(package_site, empty_folder):
    """Foret et al.: w <- w - lr * gradient at w + rho g / ||g||, here with SGD's momentum and weight decay at w."""
    package_site.add_sample()
    checked = validate.check_recipe(*resolve_config("digits", "at+sam", [*QUICK, "perturbation.rho=0.2"]))
    images = split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=256)
    trainer = Trainer(checked, images, torch.device("cpu"))
    net, order = copy.deepcopy(trainer.model), trainer.batch_order()
    w = {name: p.detach().clone() for name, p in net.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in w.items()}

    def gradient(at, x, y):
        at = {name: value.clone().requires_grad_() for name, value in at.items()}
        loss = F.cross_entropy(torch.func.functional_call(net.train(), at, x), y)
        return dict(zip(at, torch.autograd.grad(loss, list(at.values()))))

    for _ in range(4):
        trainer.run_batch(order)
        _, x_adv, y = trainer.calibration_batches[-1]
        g = gradient(w, x_adv, y)
        length = sum((each**2).sum() for each in g.values()).sqrt()
        at_worst = gradient({name: w[name] + 0.2 * g[name] / length for name in w}, x_adv, y)
        for name in w:
            velocity[name] = 0.9 * velocity[name] + at_worst[name] + 5e-4 * w[name]
            w[name] = w[name] - 0.1 * velocity[name]
        for name, p in trainer.model.named_parameters():
            torch.testing.assert_close(p.detach(), w[name], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("short_attacks", "no_curve_plots")
def test_a_run_and_its_entry_say_whose_methods_made_them_and_miss_them_by_name(package_site, empty_folder, capsys):
    package_site.add_sample()
    quick = ["--epochs=1", "--n-examples=24", *(f"--set={each}" for each in (*QUICK, "evaluate.batch_size=12"))]
    assert run_program(recipe.main, "digits", "at+sam", *quick) == 0
    (entry,), _ = list_entries(Path("leaderboard"))
    assert re.fullmatch(r"at\+sam_small_preactresnet_s0_[0-9a-f]{6}", entry.name)
    assert entry.packages == {"perturbation.sam": SAM}
    assert run_program(leaderboard.main, "show", entry.name) == 0
    assert f"perturbation sam from {SAM}" in capsys.readouterr().out
    (run,) = Path("runs/digits").iterdir()

    package_site.remove_all()
    assert rb_smooth.load_model(entry.name, "digits")(torch.rand(2, 1, 8, 8)).shape == (2, 10)  # the network is ours
    for arguments, said in [
        ((leaderboard.main, "reproduce", entry.name), f"perturbation sam of {SAM}, got 'sam'"),
        ((recipe.main, "digits", "at+sam", *quick), "expected a part of digits's methods, got '+sam'"),
        ((recipe.main, "show", run / "recipe.yaml"), "expected a known perturbation, got 'sam'"),
    ]:
        assert run_program(*arguments) == 2
        assert said in capsys.readouterr().err
    (run / "score.json").unlink()  # trained, and not yet evaluated
    assert run_program(leaderboard.main, "submit", run) == 2
    assert f"expected perturbation sam of {SAM}, got 'sam'; " in capsys.readouterr().err


def test_an_entry_whose_network_is_another_packages_is_built_only_with_it(tmp_path):
    model = {"name": "tiny", "options": {}, "shape": [3, 32, 32], "classes": 10}
    entry = make_entry(tmp_path, "theirs", model=model, packages={"model.tiny": "rb-smooth-tiny 2"})
    with pytest.raises(UserError, match=r"expected model tiny of rb-smooth-tiny 2, got 'tiny'; .*valid: .*resnet18"):
        zoo.build_entry_network(read_entry(entry.path))
    for odd in ([], {"model.tiny": 3}, "x"):
        with pytest.raises(UserError, match="expected an entry"):
            read_entry(make_entry(tmp_path, "odd", packages=odd).path)


def test_no_package_changes_what_a_name_of_ours_means(package_site, empty_folder):
    ours = {method: resolver.resolve_method("digits", method) for method in resolver.list_methods("digits")}
    base = (Path(__file__).parents[1] / "recipes" / "digits" / "at.yaml").read_text()
    grabbing = {
        "at.yaml": base.replace("lr: 0.1", "lr: 7"),
        "+awp.yaml": "perturbation: {name: awp, gamma: 7}\n",
        "at+awp+ensgd.yaml": "optimizer: {lr: 7}\n",  # a cell that we do not have, of parts that we have
        "+grab.yaml": "# theirs\naveraging: {name: ema}\n",
    }
    at = {"objective.at": "grabbing:AT", "model.resnet18": "grabbing:AT"}
    files = {f"grabbing/recipes/digits/{name}": text for name, text in grabbing.items()}
    package_site.add(
        "grabbing", methods=at, recipes="grabbing.recipes", files={"grabbing/__init__.py": BROKEN, **files}
    )
    assert {method: resolver.resolve_method("digits", method) for method in ours} == ours
    assert {method for method in resolver.list_methods("digits") if "+grab" not in method} == ours.keys()
    assert registry.find_component("objective", "at").__module__ == "rb_smooth.components.objectives.at"
    assert registry.package_of("objective", "at") is None
    said = listed_recipes()
    for name in ("objective at", "model resnet18"):
        assert f"skipped: {name} of grabbing 1.0: the name is built in" in said
    for name in ("at", "+awp", "at+awp+ensgd"):
        assert f"skipped: recipe digits/{name} of grabbing 1.0: the name is built in" in said
    assert "theirs (from grabbing 1.0)" in said


def test_what_two_packages_call_by_one_name_is_refused_naming_both(package_site, empty_folder):
    for name in ("one", "two"):
        methods = {"averaging.mean": f"{name}:Mean"}
        parts = {"+mean.yaml": "averaging: {name: mean}\n", "at+mean.yaml": "train: {seed: 1}\n"}
        package_site.add(name, methods=methods, recipes=name, files={f"{name}/digits/{k}": v for k, v in parts.items()})
    both = "expected one package to provide {}, got one 1.0 and two 1.0; uninstall one of them"
    with pytest.raises(UserError, match=both.format("averaging mean")):
        registry.find_component("averaging", "mean")
    with pytest.raises(UserError, match=both.format(r"\+mean")):
        resolver.resolve_method("digits", "mart+mean")
    assert not any("+mean" in method for method in resolver.list_methods("digits"))
    assert resolver.resolve_method("digits", "at+wa")[0] == "at+wa"
    assert "averaging mean one 1.0 and two 1.0" in listed_recipes()
    Path("recipes/digits").mkdir(parents=True)
    Path("recipes/digits/+mean.yaml").write_text("averaging: {name: ema}\n")  # yours settles it
    assert resolver.resolve_method("digits", "mart+mean")[1]["averaging"] == {"name": "ema"}
    with pytest.raises(UserError, match=both.format(r"at\+mean")):
        resolver.resolve_method("digits", "at+mean")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BROKEN, r"expected averaging mean from fragile 1.0, got RuntimeError \(no such library\); fix or uninstall"),
        ("raise SystemExit", r"from fragile 1.0, got SystemExit \(no message\); fix"),
        ("", r"from fragile 1.0, got AttributeError \(.*'Mean'\)"),
        ("Mean = 3", "expected a class or a function for averaging mean of fragile 1.0, got 3; correct fragile:Mean"),
    ],
)
def test_a_package_that_fails_is_told_where_it_is_needed_and_breaks_nothing_else(
    package_site, empty_folder, text, said
):
    parts = {"+worse.yaml": "hello", "+mean.yaml": "averaging: {name: mean}"}
    files = {"fragile.py": text, **{f"fragile_recipes/digits/{name}": part for name, part in parts.items()}}
    package_site.add("fragile", methods={"averaging.mean": "fragile:Mean"}, recipes="fragile_recipes", files=files)
    assert resolver.resolve_method("digits", "at+mean")[1]["averaging"] == {"name": "mean"}
    with pytest.raises(UserError, match=said) as refused:
        validate.check_recipe(*resolve_config("digits", "at+mean"))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"\+worse\.yaml"):
        resolver.resolve_method("digits", "at+worse")
    assert "at+mean" in resolver.list_methods("digits")
    assert "at+worse" not in resolver.list_methods("digits")
    validate.check_recipe(*resolve_config("digits", "at+wa"))
    assert "averaging mean fragile 1.0" in listed_recipes()
    assert re.search(said, doctor._plugins().fix)
    assert not doctor._plugins().fatal


def test_an_entry_point_of_no_kind_is_passed_over_with_the_nearest(package_site, empty_folder):
    package_site.add("hasty", methods={"peturbation.sam": "hasty:SAM"})
    assert (
        "peturbation.sam of hasty 1.0: expected a kind of method, got 'peturbation'; did you mean 'pert"
        in listed_recipes()
    )
    assert registry.component_names("perturbation") == ["awp", "none"]


def test_listing_and_importing_touch_neither_torch_nor_the_package(package_site, tmp_path):
    lazy = {"lazy/__init__.py": BROKEN, "lazy/recipes/digits/+mean.yaml": "averaging: {name: mean}"}
    package_site.add("lazy", methods={"averaging.mean": "lazy:Mean"}, recipes="lazy.recipes", files=lazy)
    code = (
        "import sys; sys.argv = ['recipe', 'list', 'digits']\n"
        "import rb_smooth.recipe; rb_smooth.recipe.main()\n"
        "assert not {'torch', 'pydantic', 'lazy'} & sys.modules.keys()\n"
    )
    paths = os.pathsep.join([str(Path(rb_smooth.__file__).parents[1]), str(package_site.place)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("lazy 1.0") == 2  # the recipe, and the method


EVERYTHING = """
from dataclasses import replace
from rb_smooth.data import augmentations, datasets
from rb_smooth.components import models, schedules
from rb_smooth.components.averaging.ema import EMA
from rb_smooth.components.objectives.at import AT
from rb_smooth.components.optimizers.sgd import SGD
from rb_smooth.components.perturbations.awp import AWP

def toys(data_dir, *, count: int):
    found = datasets.digits(data_dir)
    return replace(found, board="toys", train=found.train[:count], test=found.test[:40], official=True)

def net(channels, classes, *, width: int = 2):
    return models.small_preactresnet(channels, classes, width=width)

def half():
    return lambda epoch, epochs: 0.5

def upside_down():
    return lambda x, generator: x.flip(-2)
"""


def test_everything_that_a_recipe_names_may_be_another_packages(package_site, empty_folder):
    methods = {"objective": "AT", "perturbation": "AWP", "optimizer": "SGD", "averaging": "EMA"}
    functions = {"data": "toys", "model": "net", "schedule": "half", "augmentation": "upside_down"}
    named = {f"{kind}.their_{kind}": f"everything:{name}" for kind, name in {**methods, **functions}.items()}
    sections = (
        "data: {name: their_data, count: 90, batch_size: 8, augment: [their_augmentation], validation: 20}\n"
        "train: {epochs: 2}\nevaluate: {n_examples: 24}\n"
    ) + "".join(f"{kind}: {{name: their_{kind}}}\n" for kind in (*methods, "model", "schedule"))
    files = {"everything.py": EVERYTHING, "served/toys/base.yaml": sections}
    package_site.add("everything", "3", methods=named, recipes="served", files=files)
    assert resolver.list_methods("toys") == ["base"]
    checked = validate.check_recipe(*resolve_config("toys", "base"))
    assert checked.packages == dict.fromkeys(named, "everything 3")
    source = load_raw_dataset(checked.sections["data"], Path("unused"))
    assert source.board == "toys"
    assert not source.official  # whatever it says of itself
    images = split(source, validation=20, split_seed=0, select="validation")
    trainer = Trainer(checked, images, torch.device("cpu"))
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.run_batch(trainer.batch_order())
    assert all(not torch.equal(p, q) for p, q in zip(trainer.model.parameters(), before))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.05
    with pytest.raises(UserError, match="expected an option of data their_data, got 'cout'; did you mean 'count'"):
        validate.check_recipe(*resolve_config("toys", "base", ["data.cout=3"]))


@pytest.mark.parametrize(("signature", "options"), [("rho=0.1", {"rho": 0.2}), ("rho", {})])
def test_an_option_that_is_not_keyword_only_is_named(package_site, signature, options):
    text = f"class RWP:\n    def __init__(self, {signature}): ...\n"
    package_site.add("rwp", methods={"perturbation.rwp": "rwp_one:RWP"}, files={"rwp_one.py": text})
    with pytest.raises(UserError, match=r"perturbation rwp: 'rho' must be keyword-only: put `\*` before it in RWP"):
        registry.build_component("perturbation", "rwp", options)
