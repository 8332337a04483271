"""Each contract check fails for a method that violates it, and passes for a correct one."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from run_program import run_program

from rb_smooth import laws as program
from rb_smooth.components import conformance
from rb_smooth.components.averaging.ema import EMA
from rb_smooth.components.conformance.fixtures import ContractError
from rb_smooth.components.interfaces import Outcome
from rb_smooth.components.optimizers.sgd import SGD
from rb_smooth.core.threat import Threat


class FaultyPerturbation:
    """A correct perturbation, except for the fault that `fault` names."""

    def __init__(self, *, fault: str = "") -> None:
        self.fault = fault

    @contextmanager
    def __call__(self, model, loss):
        weights = [p for p in model.parameters() if p.requires_grad or self.fault == "frozen"]
        saved = [p.detach().clone() for p in weights]
        buffers = [b.clone() for b in model.buffers()]
        g = torch.autograd.grad(loss(), [p for p in weights if p.requires_grad], allow_unused=True)
        if self.fault != "statistics":
            for b, was in zip(model.buffers(), buffers):
                b.copy_(was)
        length = torch.stack([each.norm() for each in g]).norm()
        for p in weights:
            moved = p.detach() + 0.1 * (1 / length if self.fault == "flat" else 1)
            if self.fault == "storage":
                p.data = moved
            else:
                p.data.copy_(moved)
        try:
            yield
        except ZeroDivisionError:
            if self.fault == "exception":
                raise
            self._back(model, weights, saved, buffers)
            raise
        if self.fault != "weights":
            self._back(model, weights, saved, buffers)

    def _back(self, model, weights, saved, buffers):
        for p, was in zip(weights, saved):
            p.data.copy_(was)
        for b, was in zip(model.buffers(), buffers):
            b.copy_(was)


class FaultyFGSM:
    """One step of FGSM, a correct objective, except for the fault that `fault` names."""

    def __init__(self, *, fault: str = "") -> None:
        self.fault, self.threat = fault, Threat("Linf", 0.1, 0.1)

    def craft(self, model, x, y):
        wanting, modes = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
        model.eval()
        if self.fault == "flags":
            torch.set_grad_enabled(True)
        try:
            for p in model.parameters():
                p.requires_grad_(self.fault == "gradients")
            with torch.enable_grad():
                x_adv = x.clone().requires_grad_()
                g = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)[0]
        except ZeroDivisionError:
            if self.fault == "exception":
                raise
            self._back(model, wanting, modes)
            raise
        self._back(model, wanting, [True for _ in modes] if self.fault == "modes" else modes)
        return (x + (0.2 if self.fault == "ball" else 0.1) * g.sign()).clamp(0, 1)

    def _back(self, model, wanting, modes):
        for p, wants in zip(model.parameters(), wanting):
            p.requires_grad_(wants)
        for m, training in zip(model.modules(), modes):
            m.training = training

    def loss(self, model, x, x_adv, y):
        logits = model(x_adv)
        loss = F.cross_entropy(logits, y, reduction="none" if self.fault == "number" else "mean")
        return Outcome(loss * loss.detach() if self.fault == "derivative" else loss, logits)


class FaultySGD(SGD):
    """SGD with the fault that `fault` names: wrong deployed weights, steps in eval mode, or lost state."""

    def __init__(self, params, *, lr: float = 0.1, fault: str = "") -> None:
        super().__init__(params, lr=lr)
        self.fault = fault

    def deployed(self):
        return [w + 1 for w in super().deployed()] if self.fault == "deployed" else super().deployed()

    def eval(self):
        if self.fault != "eval":
            super().eval()

    def state_dict(self):
        state = super().state_dict()
        return state | {"state": {}} if self.fault == "state" else state


class FaultyEMA(EMA):
    """EMA with the fault that `fault` names: coefficients that do not sum to one, or state that is not loaded."""

    def __init__(self, *, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def weights(self, deployed):
        found = super().weights(deployed)
        return [w + 1 for w in found] if self.fault == "sum" else found

    def load_state_dict(self, state_dict):
        if self.fault != "state":
            super().load_state_dict(state_dict)


def positional(rho=0.1):
    """Its option is neither keyword-only nor annotated."""


def undocumented(*, rho: float = 0.1):
    pass


FAULTY = {
    "weights_are_restored_bit_for_bit": partial(FaultyPerturbation, fault="weights"),
    "weights_are_restored_after_an_exception": partial(FaultyPerturbation, fault="exception"),
    "batchnorm_statistics_and_parameter_storage_do_not_change": partial(FaultyPerturbation, fault="statistics"),
    "frozen_weights_do_not_change": partial(FaultyPerturbation, fault="frozen"),
    "weights_stay_finite_for_a_zero_gradient": partial(FaultyPerturbation, fault="flat"),
    "crafting_does_not_change_the_model": partial(FaultyFGSM, fault="modes"),
    "crafting_restores_the_model_after_an_exception": partial(FaultyFGSM, fault="exception"),
    "crafting_works_under_no_grad_and_computes_no_weight_gradients": partial(FaultyFGSM, fault="gradients"),
    "crafting_does_not_change_global_flags": partial(FaultyFGSM, fault="flags"),
    "adversarial_examples_are_in_the_ball_and_in_the_unit_box": partial(FaultyFGSM, fault="ball"),
    "the_loss_is_a_scalar_with_logits_and_finite_gradients": partial(FaultyFGSM, fault="number"),
    "the_gradient_of_the_loss_matches_finite_differences": partial(FaultyFGSM, fault="derivative"),
    "eval_sets_the_deployed_weights_and_train_undoes_it": partial(FaultySGD, fault="deployed"),
    "a_step_in_eval_mode_raises_an_error_that_names_the_fix": partial(FaultySGD, fault="eval"),
    "saving_and_loading_does_not_change_the_steps": partial(FaultySGD, fault="state"),
    "the_average_of_constant_weights_is_those_weights": partial(FaultyEMA, fault="sum"),
    "saving_and_loading_does_not_change_the_average": partial(FaultyEMA, fault="state"),
    "options_are_keyword_only_and_match_their_annotations": positional,
    "it_has_a_docstring": undocumented,
}
CHECKS = {check.__name__: check for kind in conformance.METHOD_KINDS for check in conformance.contract_checks(kind)}


def test_every_check_has_a_faulty_method():
    assert CHECKS.keys() == FAULTY.keys()


@pytest.mark.parametrize("name", FAULTY)
def test_a_check_fails_for_its_faulty_method(name):
    with pytest.raises(ContractError):
        CHECKS[name](FAULTY[name])


def test_a_loss_that_is_a_tensor_is_answered_with_what_to_return():
    class Bare(FaultyFGSM):
        def loss(self, model, x, x_adv, y):
            return super().loss(model, x, x_adv, y).loss

    with pytest.raises(ContractError, match=r"to return Outcome\(loss, logits at x_adv\), got a Tensor"):
        CHECKS["the_loss_is_a_scalar_with_logits_and_finite_gradients"](Bare)


def test_new_parameter_storage_fails_too():
    with pytest.raises(ContractError, match="new storage"):
        CHECKS["batchnorm_statistics_and_parameter_storage_do_not_change"](partial(FaultyPerturbation, fault="storage"))


@pytest.mark.parametrize(
    ("kind", "correct"),
    [
        ("perturbation", FaultyPerturbation),
        ("objective", FaultyFGSM),
        ("optimizer", FaultySGD),
        ("averaging", FaultyEMA),
    ],
)
def test_the_same_method_without_fault_passes_all(kind, correct):
    for check in conformance.contract_checks(kind):
        check(correct)


class RWP:
    def __init__(self, rho: float = 0.1):
        pass


@pytest.mark.parametrize(("make", "where"), [(RWP, "RWP.__init__"), (positional, "positional"), (partial(RWP), "RWP")])
def test_an_option_that_can_be_given_by_position_is_named_with_its_constructor(make, where):
    check = CHECKS["options_are_keyword_only_and_match_their_annotations"]
    with pytest.raises(ContractError, match=rf"'rho' must be keyword-only: put `\*` before it in {where}"):
        check(make)


def laws_output(*arguments):
    return run_program(program.main, *arguments)


def test_the_program_prints_each_check_and_fails_if_one_fails(package_site, capsys):
    assert laws_output("perturbation", "awp") == 0
    printed = capsys.readouterr().out
    assert printed.count("holds") == len(conformance.contract_checks("perturbation"))
    text = "class Loose:\n    def __call__(self, model, loss):\n        raise KeyError('w')\n"
    package_site.add("loose", methods={"perturbation.loose": "loose:Loose"}, files={"loose.py": text})
    assert laws_output("perturbation", "loose") == 1
    printed = capsys.readouterr()
    assert "BROKEN weights are restored bit for bit: KeyError: 'w'" in printed.out
    assert "BROKEN it has a docstring: the docstring is missing" in printed.out
    assert "6 of 7 checks of perturbation loose failed (marked BROKEN above)" in printed.err
    assert laws_output("perturbation", "lose") == 2
    assert "did you mean 'loose'?" in capsys.readouterr().err
