"""What training relies on in an objective."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rb_smooth.components.conformance.fixtures import equal_snapshots, require, small_batch, small_net, snapshot
from rb_smooth.components.interfaces import Objective

Make = Callable[[], Objective]


def crafting_leaves_no_trace_in_the_model(make: Make) -> None:
    """Not in modes, gradients, requires_grad, weights or BatchNorm's statistics, in either mode."""
    for training in (True, False):
        net = small_net().train(training)
        layers = list(net.net.children())
        layers[1].eval()  # a layer frozen by hand must not come back in train mode
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        layers[4].bias.requires_grad_(False)
        before = snapshot(net)
        x_adv = make().craft(net, *small_batch())
        mode = "train" if training else "eval"
        require(
            equal_snapshots(before, snapshot(net)),
            f"after crafting, a model in {mode} mode is not as it was: see attacks.pgd",
        )
        require(not x_adv.requires_grad, "x_adv wants a gradient: detach it")


def crafting_leaves_no_trace_when_the_model_raises(make: Make) -> None:
    """In the middle of the attack."""
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
    require(raised == (fatal > 0), "an exception in the model does not come out of crafting")
    require(equal_snapshots(before, snapshot(net)), "after an exception in the model, it is not as it was")


def crafting_works_under_no_grad_and_wants_no_gradient_of_the_weights(make: Make) -> None:
    """Gradients of weights that nobody reads would cost a third of the attack."""
    net, seen = small_net(), []
    hook = net.register_forward_hook(lambda *_: seen.append(any(p.requires_grad for p in net.parameters())))
    with torch.no_grad():
        make().craft(net, *small_batch())
    hook.remove()
    require(not any(seen), "while crafting, parameters want gradients: use weights.frozen")


def crafting_leaves_the_global_flags_as_found(make: Make) -> None:
    """Gradient mode, autocast, precision, determinism, threads."""

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
            require(flags() == before, f"a global flag of torch has changed: {before} before, {flags()} after")


def adversarial_examples_stay_in_the_ball_and_in_the_box(make: Make) -> None:
    """Within eps of x in the threat's norm, in [0, 1], and not next to x either."""
    objective, (x, y) = make(), small_batch()
    x_adv = objective.craft(small_net(), x, y)
    require(x_adv.shape == x.shape, f"x_adv has shape {tuple(x_adv.shape)}, x has {tuple(x.shape)}")
    require(bool(((x_adv >= 0) & (x_adv <= 1)).all()), "x_adv leaves [0, 1]")
    if (threat := objective.threat) is not None:
        order = float("inf") if threat.norm == "Linf" else 2
        distance = float((x_adv - x).flatten(1).norm(p=order, dim=1).max())
        require(distance <= threat.eps + 1e-6, f"x_adv is {distance:.4g} from x, in a ball of {threat.eps:.4g}")
        require(distance > threat.eps / 2, f"x_adv is only {distance:.4g} from x, in a ball of {threat.eps:.4g}")


def the_loss_is_one_number_with_logits_and_a_gradient(make: Make) -> None:
    """Logits at x_adv, (B, classes), so that logging needs no second pass."""
    net, objective, (x, y) = small_net(), make(), small_batch()
    outcome = objective.loss(net, x, objective.craft(net, x, y), y)
    require(outcome.loss.shape == (), f"the loss has shape {tuple(outcome.loss.shape)}")
    require(
        outcome.logits.shape == (12, 5), f"logits have shape {tuple(outcome.logits.shape)} for 12 images, 5 classes"
    )
    outcome.loss.backward()
    grads = [p.grad for p in net.parameters()]
    require(
        all(g is not None and bool(g.isfinite().all()) for g in grads), "a weight has no gradient, or no finite one"
    )


def the_gradient_of_the_loss_is_that_of_finite_differences(make: Make) -> None:
    """By the weights, in float64: nothing in it is detached that should not be."""
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
    require(agrees, "the loss's gradient is not that of finite differences")
