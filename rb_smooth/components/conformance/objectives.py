"""Contract checks of an objective."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.components.conformance.fixtures import equal_snapshots, require, small_batch, small_net, snapshot
from rb_smooth.components.interfaces import Objective, Outcome

Make = Callable[[], Objective]


def crafting_does_not_change_the_model(make: Make) -> None:
    """Modes, gradients, requires_grad, weights and BatchNorm's statistics stay equal, in either mode."""
    for training in (True, False):
        net = small_net().train(training)
        layers = list(net.net.children())
        layers[1].eval()  # a frozen layer must stay in eval mode
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        layers[4].bias.requires_grad_(False)
        before = snapshot(net)
        x_adv = make().craft(net, *small_batch())
        mode = "train" if training else "eval"
        require(
            equal_snapshots(before, snapshot(net)),
            f"after crafting, a model in {mode} mode differs; use input_gradient_mode",
        )
        require(not x_adv.requires_grad, "x_adv requires a gradient; detach it")


def crafting_restores_the_model_after_an_exception(make: Make) -> None:
    """Raised by the model in the middle of the attack."""
    net, objective, calls = small_net(), make(), 0

    def counted(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise ZeroDivisionError

    list(net.net.children())[4].register_forward_hook(counted)
    fatal = 0
    objective.craft(net, *small_batch())
    calls, fatal, raised = 0, (calls + 1) // 2, False
    before = snapshot(net)
    try:
        objective.craft(net, *small_batch())
    except ZeroDivisionError:
        raised = True
    require(raised == (fatal > 0), "crafting swallows an exception of the model")
    require(equal_snapshots(before, snapshot(net)), "after an exception, the model differs; use input_gradient_mode")


def crafting_works_under_no_grad_and_computes_no_weight_gradients(make: Make) -> None:
    """Unused weight gradients would cost a third of the attack."""
    net, seen = small_net(), []
    hook = net.register_forward_hook(lambda *_: seen.append(any(p.requires_grad for p in net.parameters())))
    with torch.no_grad():
        make().craft(net, *small_batch())
    hook.remove()
    require(not any(seen), "while crafting, parameters require gradients; use input_gradient_mode")


def crafting_does_not_change_global_flags(make: Make) -> None:
    """Of torch: gradient mode, autocast, precision, determinism, threads."""

    def flags() -> list[Any]:
        return [
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_num_threads(),
            torch.is_anomaly_enabled(),
        ]

    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            before = flags()
            make().craft(small_net(), *small_batch())
            require(flags() == before, f"expected torch's global flags {before} after crafting, got {flags()}")


def adversarial_examples_are_in_the_ball_and_in_the_unit_box(make: Make) -> None:
    """Within eps of x in the threat's norm, in [0, 1], and at least eps / 2 from x for some image."""
    objective, (x, y) = make(), small_batch()
    x_adv = objective.craft(small_net(), x, y)
    require(x_adv.shape == x.shape, f"expected x_adv of shape {tuple(x.shape)}, got {tuple(x_adv.shape)}")
    require(bool(((x_adv >= 0) & (x_adv <= 1)).all()), "x_adv leaves [0, 1]")
    if (threat := objective.threat) is not None:
        order = float("inf") if threat.norm == "Linf" else 2
        distance = float((x_adv - x).flatten(1).norm(p=order, dim=1).max())
        require(
            distance <= threat.eps + 1e-6, f"expected x_adv within {threat.eps:.4g} of x, got distance {distance:.4g}"
        )
        require(distance > threat.eps / 2, f"expected a distance of x_adv near {threat.eps:.4g}, got {distance:.4g}")


def the_loss_is_a_scalar_with_logits_and_finite_gradients(make: Make) -> None:
    """Logits are (B, classes) at x_adv."""
    net, objective, (x, y) = small_net(), make(), small_batch()
    outcome = objective.loss(net, x, objective.craft(net, x, y), y)
    got = type(outcome).__name__
    require(isinstance(outcome, Outcome), f"expected loss to return Outcome(loss, logits at x_adv), got a {got}")
    require(outcome.loss.shape == (), f"expected a scalar loss, got shape {tuple(outcome.loss.shape)}")
    require(outcome.logits.shape == (12, 5), f"expected logits of shape (12, 5), got {tuple(outcome.logits.shape)}")
    outcome.loss.backward()
    grads = [p.grad for p in net.parameters()]
    finite = all(g is not None and bool(g.isfinite().all()) for g in grads)
    require(finite, "a weight has no gradient, or an infinite or NaN one")


def the_gradient_of_the_loss_matches_finite_differences(make: Make) -> None:
    """With respect to the weights, in float64: no term of the loss is detached."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.rand(5, 2, 2, 2, dtype=torch.float64, generator=generator)
    y = torch.arange(5) % 3
    x_adv = (x + 0.1 * torch.randn(x.shape, dtype=torch.float64, generator=generator)).clamp(0, 1)
    keys, weights = zip(*net.named_parameters(), strict=True)
    objective = make()

    def loss(*values: Tensor) -> Tensor:
        model = partial(torch.func.functional_call, net, dict(zip(keys, values, strict=True)))
        return objective.loss(lambda images: model((images,)), x, x_adv, y).loss  # type: ignore[arg-type]

    agrees = torch.autograd.gradcheck(loss, weights, raise_exception=False)
    require(agrees, "the gradient of the loss differs from finite differences; is a term detached?")
