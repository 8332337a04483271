"""The laws can be broken: for each there is a method that breaks it, and the law says how."""

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


class BreakablePerturbation:
    """A perturbation that gives back what it moved, but for what `spoilt` says."""

    def __init__(self, *, spoilt: str = "") -> None:
        self.spoilt = spoilt

    @contextmanager
    def __call__(self, model, loss):
        weights = [p for p in model.parameters() if p.requires_grad or self.spoilt == "frozen"]
        saved = [p.detach().clone() for p in weights]
        buffers = [b.clone() for b in model.buffers()]
        g = torch.autograd.grad(loss(), [p for p in weights if p.requires_grad], allow_unused=True)
        if self.spoilt != "statistics":
            for b, was in zip(model.buffers(), buffers):
                b.copy_(was)
        length = torch.stack([each.norm() for each in g]).norm()
        for p in weights:
            moved = p.detach() + 0.1 * (1 / length if self.spoilt == "flat" else 1)
            if self.spoilt == "storage":
                p.data = moved
            else:
                p.data.copy_(moved)
        try:
            yield
        except ZeroDivisionError:
            if self.spoilt == "exception":
                raise
            self._back(model, weights, saved, buffers)
            raise
        if self.spoilt != "weights":
            self._back(model, weights, saved, buffers)

    def _back(self, model, weights, saved, buffers):
        for p, was in zip(weights, saved):
            p.data.copy_(was)
        for b, was in zip(model.buffers(), buffers):
            b.copy_(was)


class BreakableFGSM:
    """One step of FGSM, a lawful objective, but for what `spoilt` says."""

    def __init__(self, *, spoilt: str = "") -> None:
        self.spoilt, self.threat = spoilt, Threat("Linf", 0.1, 0.1)

    def craft(self, model, x, y):
        wanting, modes = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
        model.eval()
        if self.spoilt == "flags":
            torch.set_grad_enabled(True)
        try:
            for p in model.parameters():
                p.requires_grad_(self.spoilt == "gradients")
            with torch.enable_grad():
                x_adv = x.clone().requires_grad_()
                g = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)[0]
        except ZeroDivisionError:
            if self.spoilt == "exception":
                raise
            self._back(model, wanting, modes)
            raise
        self._back(model, wanting, [True for _ in modes] if self.spoilt == "modes" else modes)
        return (x + (0.2 if self.spoilt == "ball" else 0.1) * g.sign()).clamp(0, 1)

    def _back(self, model, wanting, modes):
        for p, wants in zip(model.parameters(), wanting):
            p.requires_grad_(wants)
        for m, training in zip(model.modules(), modes):
            m.training = training

    def loss(self, model, x, x_adv, y):
        logits = model(x_adv)
        loss = F.cross_entropy(logits, y, reduction="none" if self.spoilt == "number" else "mean")
        return Outcome(loss * loss.detach() if self.spoilt == "derivative" else loss, logits)


class BreakableSGD(SGD):
    """SGD that deploys something else than it shows, steps whenever it is asked, or forgets, as `spoilt` says."""

    def __init__(self, params, *, lr: float = 0.1, spoilt: str = "") -> None:
        super().__init__(params, lr=lr)
        self.spoilt = spoilt

    def deployed(self):
        return [w + 1 for w in super().deployed()] if self.spoilt == "deployed" else super().deployed()

    def eval(self):
        if self.spoilt != "eval":
            super().eval()

    def state_dict(self):
        state = super().state_dict()
        return state | {"state": {}} if self.spoilt == "state" else state


class BreakableEMA(EMA):
    """An average of weights that do not add up, or that a loaded one shares, as `spoilt` says."""

    def __init__(self, *, spoilt: str = "") -> None:
        super().__init__()
        self.spoilt = spoilt

    def weights(self, deployed):
        found = super().weights(deployed)
        return [w + 1 for w in found] if self.spoilt == "sum" else found

    def load_state_dict(self, state_dict):
        if self.spoilt != "state":
            super().load_state_dict(state_dict)


def positional(rho=0.1):
    """Its option has neither a * before it nor an annotation."""


def undocumented(*, rho: float = 0.1):
    pass


BREAKERS = {
    "weights_come_back_bit_for_bit": partial(BreakablePerturbation, spoilt="weights"),
    "weights_come_back_when_the_step_fails": partial(BreakablePerturbation, spoilt="exception"),
    "a_shift_moves_no_statistics_and_no_storage": partial(BreakablePerturbation, spoilt="statistics"),
    "a_frozen_weight_stays": partial(BreakablePerturbation, spoilt="frozen"),
    "a_flat_loss_leaves_finite_weights": partial(BreakablePerturbation, spoilt="flat"),
    "crafting_leaves_no_trace_in_the_model": partial(BreakableFGSM, spoilt="modes"),
    "crafting_leaves_no_trace_when_the_model_raises": partial(BreakableFGSM, spoilt="exception"),
    "crafting_works_under_no_grad_and_wants_no_gradient_of_the_weights": partial(BreakableFGSM, spoilt="gradients"),
    "crafting_leaves_the_global_flags_as_found": partial(BreakableFGSM, spoilt="flags"),
    "adversarial_examples_stay_in_the_ball_and_in_the_box": partial(BreakableFGSM, spoilt="ball"),
    "the_loss_is_one_number_with_logits_and_a_gradient": partial(BreakableFGSM, spoilt="number"),
    "the_gradient_of_the_loss_is_that_of_finite_differences": partial(BreakableFGSM, spoilt="derivative"),
    "eval_shows_what_is_deployed_and_train_undoes_it": partial(BreakableSGD, spoilt="deployed"),
    "a_step_in_eval_mode_is_refused_naming_the_cure": partial(BreakableSGD, spoilt="eval"),
    "a_saved_optimizer_goes_on_as_if_it_had_not_been_saved": partial(BreakableSGD, spoilt="state"),
    "an_average_of_constant_weights_is_those_weights": partial(BreakableEMA, spoilt="sum"),
    "a_saved_average_goes_on_as_if_it_had_not_been_saved": partial(BreakableEMA, spoilt="state"),
    "options_are_keyword_only_and_fit_their_annotations": positional,
    "it_says_what_it_is": undocumented,
}
CHECKS = {law.__name__: law for box in conformance.METHOD_KINDS for law in conformance.contract_checks(box)}


def test_every_law_has_its_breaker():
    assert CHECKS.keys() == BREAKERS.keys()


@pytest.mark.parametrize("name", BREAKERS)
def test_a_method_that_breaks_a_law_is_told_so(name):
    with pytest.raises(ContractError):
        CHECKS[name](BREAKERS[name])


def test_a_shift_that_moves_storage_is_found_too():
    with pytest.raises(ContractError, match="lie elsewhere"):
        CHECKS["a_shift_moves_no_statistics_and_no_storage"](partial(BreakablePerturbation, spoilt="storage"))


@pytest.mark.parametrize(
    ("box", "lawful"),
    [
        ("perturbation", BreakablePerturbation),
        ("objective", BreakableFGSM),
        ("optimizer", BreakableSGD),
        ("averaging", BreakableEMA),
    ],
)
def test_the_same_method_unspoilt_breaks_none(box, lawful):
    for law in conformance.contract_checks(box):
        law(lawful)


def laws_output(*arguments):
    return run_program(program.main, *arguments)


def test_the_program_tells_each_law_and_fails_if_one_is_broken(package_site, capsys):
    assert laws_output("perturbation", "awp") == 0
    told = capsys.readouterr().out
    assert told.count("holds") == len(conformance.contract_checks("perturbation"))
    text = "class Loose:\n    def __call__(self, model, loss):\n        raise KeyError('w')\n"
    package_site.add("loose", methods={"perturbation.loose": "loose:Loose"}, files={"loose.py": text})
    assert laws_output("perturbation", "loose") == 1
    told = capsys.readouterr()
    assert "BROKEN weights come back bit for bit: KeyError: 'w'" in told.out
    assert "BROKEN it says what it is: there is no docstring" in told.out
    assert "expected perturbation loose to obey every law, got 6 broken" in told.err
    assert laws_output("perturbation", "lose") == 2
    assert "did you mean 'loose'?" in capsys.readouterr().err
