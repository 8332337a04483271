"""Any torch optimizer trains here: chosen by its name in a recipe, or wrapped in Python, with torch's options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from interruptions import stop_after

from rb_smooth import plugin
from rb_smooth.components import conformance
from rb_smooth.components.optimizers.sgd import SGD
from rb_smooth.components.torch_optimizers import torch_optimizer, torch_optimizer_names
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_component, check_options, component_names, find_component, packages_of
from rb_smooth.core.errors import Interrupted, UserError
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import loop, validate
from rb_smooth.training.run_folder.log import read_log
from rb_smooth.training.run_folder.run import Run

NAMES = torch_optimizer_names()
QUICK = ["data.validation=60", "objective.steps=1", "train.epochs=3", "schedule.drops=[2]", "model.width=2"]


@plugin.torch_optimizer
class SignSGD(torch.optim.Optimizer):
    """w <- w - lr * sign(g), as another package would write it."""

    def __init__(self, params, lr: float = 0.01, maximize: bool = False):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=group["lr"])


@pytest.mark.parametrize("check", conformance.contract_checks("optimizer"))
@pytest.mark.parametrize("name", [*NAMES, "SignSGD"])
def test_it_passes_the_checks_of_an_optimizer(name, check):
    check(SignSGD if name == "SignSGD" else find_component("optimizer", name))


def test_torchs_classes_have_names_of_their_own_and_no_package():
    assert {"torch.AdamW", "torch.RMSprop", "torch.SGD"} < set(NAMES)
    assert set(NAMES).isdisjoint(component_names("optimizer"))
    assert packages_of([("optimizer", "torch.AdamW")]) == {}
    assert find_component("optimizer", "sgd") is SGD


@pytest.mark.parametrize(
    ("name", "options"),
    [("AdamW", {"betas": [0.8, 0.9], "weight_decay": 0.1}), ("SGD", {"momentum": 0.9, "nesterov": True})],
)
def test_its_steps_are_torchs(name, options):
    ours, theirs = (torch.linspace(-1, 1, 6, dtype=torch.float64).requires_grad_() for _ in range(2))
    wrapped = build_component("optimizer", f"torch.{name}", {"lr": 0.05, **options}, [ours])
    plain = getattr(torch.optim, name)([theirs], lr=0.05, **options)
    for _ in range(10):
        for p, optimizer in ((ours, wrapped), (theirs, plain)):
            optimizer.zero_grad()
            (p**4).sum().backward()
            optimizer.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_at_learning_rate_zero_does_not_move(name):
    """So a schedule, which sets the group's lr before each step, has its effect."""
    p = torch.ones(3, requires_grad=True)
    optimizer = build_component("optimizer", name, {}, [p])
    for lr in (0.1, 0.0, 0.0):
        before = p.detach().clone()
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.tensor([1.0, -2.0, 0.5])
        optimizer.step()
    assert torch.equal(p, before)
    assert not torch.equal(p, torch.ones(3))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torch.adamw", "did you mean 'torch.AdamW'"),
        ("torch.RMSProb", "did you mean 'torch.RMSprop'"),
        ("adamw", "did you mean 'torch.AdamW'"),
        ("torch.LBFGS", "which computes the loss several times in a step; valid: torch.ASGD"),
        ("torch.SparseAdam", "which takes sparse gradients only"),
        ("torch.Optimizer", "expected a torch optimizer, got 'torch.Optimizer'"),
        ("torch.nn.Linear", "expected a torch optimizer, got 'torch.nn.Linear'"),
        ("torch.optim.AdamW", "did you mean 'torch.AdamW'"),
        ("torch.lr_scheduler", "expected a torch optimizer"),
        ("torch.__builtins__", "expected a torch optimizer"),
    ],
)
def test_any_other_name_is_refused_with_the_nearest_or_the_reason(name, said):
    with pytest.raises(UserError) as refused:
        find_component("optimizer", name)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("AdamW", {"lr": -1}, "lr to be greater than or equal to 0, got -1"),
        ("AdamW", {"lr": "fast"}, "lr to be a valid number, got 'fast'"),
        ("AdamW", {"betas": [0.9, 1.0]}, "betas.1 to be less than 1, got 1.0"),
        ("AdamW", {"momentum": 0.9}, "expected an option of optimizer torch.AdamW, got 'momentum'"),
        ("AdamW", {"maximize": True}, "expected an option of optimizer torch.AdamW, got 'maximize'"),
        ("AdamW", {"fused": True, "foreach": True}, "cannot be `True` together"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires"),
        ("Adafactor", {"d": 0.5}, "d to be greater than or equal to 1"),
    ],
)
def test_an_option_that_torch_does_not_take_is_refused(name, options, said):
    with pytest.raises(UserError) as refused:
        build_component("optimizer", f"torch.{name}", options, [torch.zeros(1, requires_grad=True)])
    assert said in str(refused.value)


def test_options_have_the_types_of_torchs_constructor_without_tensors():
    options = {"lr": 1, "betas": [0.8, 0.9], "amsgrad": True, "fused": None}
    assert check_options("optimizer", "torch.AdamW", options) == options | {"betas": (0.8, 0.9)}


def test_in_python_options_are_keyword_only_and_those_left_out_are_refused():
    p = torch.zeros(1, requires_grad=True)
    AdamW = plugin.torch_optimizer(torch.optim.AdamW)
    assert AdamW is torch_optimizer(torch.optim.AdamW)
    assert isinstance(AdamW([p], lr=0.1), torch.optim.AdamW)
    for wrong in (lambda: AdamW([p], 0.1), lambda: AdamW([p], maximize=True), lambda: SignSGD([p], maximize=True)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="got LBFGS, which computes the loss several times in a step"):
        plugin.torch_optimizer(torch.optim.LBFGS)


def test_a_stopped_run_ends_bit_for_bit_as_one_that_was_not(tmp_path, monkeypatch, no_curve_plots):
    """The optimizer's state, and the lr that the schedule drives, are resumed within an epoch after the drop."""
    settings = [*QUICK, "optimizer.name=torch.AdamW", "optimizer.lr=0.003"]
    recipe = validate.check_recipe(*resolve_config("digits", "at", settings))
    data = split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)
    whole, stopped = Run(tmp_path / "whole"), Run(tmp_path / "stopped")
    loop.train(recipe, whole, data, torch.device("cpu"))
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, 7)
        loop.train(recipe, stopped, data, torch.device("cpu"))
    loop.train(recipe, stopped, data, torch.device("cpu"))
    for name in ("best", "last"):
        one, other = whole.load(name), stopped.load(name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    rates = [row["lr"] for row in read_log(whole.path / "log.csv")]
    assert rates == pytest.approx([0.003, 0.003, 0.0003])
