"""Trust checks of the forward pass: deterministic, stateless, independent of the batch, and a single pass.

RobustBench's rules for a model: a deterministic forward pass, no optimisation loop in it, non-zero gradients
(gradients.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rb_smooth.components.flops import count_flops
from rb_smooth.evaluation.checks.verdicts import CheckContext, CheckOutcome, logit_differences

_REPEATS = 4
"""Repetitions with the same images; random generators are not reset between them."""

_SAME = 1e-5
"""Largest relative difference of logits of two passes over one batch: a GPU may sum in another order."""

_SAME_ALONE = 1e-4
"""The same for batches of different sizes, for which convolution algorithms differ."""

_SINGLE_IMAGES = 8
"""Images that are also classified one by one."""

_SUM_TO_ONE = 1e-3
"""Tolerance for rows of probabilities to sum to 1."""

_PASSES = 2.5
"""Largest cost of a forward pass, in passes through the layers; averaging with the mirror image is fine."""

_PIXEL_NUDGE = 2.0**-16
"""Perturbation of pixels, 1/257 of a grey level, for the test of continuity."""

_JUMP = 0.01
"""Relative difference of logits that counts as a jump: extrapolated to a grey level, over twice their spread."""

_NOTABLE = 0.05
"""Smallest fraction of points with a jump for a failure."""


def check_logits_shape(context: CheckContext) -> CheckOutcome:
    """Check that n images give floating-point logits of shape (n, classes)."""
    logits = context.logits(context.x)
    if not isinstance(logits, Tensor):
        return "failed", f"expected a tensor of logits, got {type(logits).__name__}"
    expected = (len(context.x), context.classes)
    if tuple(logits.shape) != expected or not logits.is_floating_point():
        return "failed", f"expected logits of shape {expected}, got {logits.dtype} of shape {tuple(logits.shape)}"
    return "passed", f"{len(context.x)} images have {context.classes} logits each"


def check_finite_logits(context: CheckContext) -> CheckOutcome:
    """Check that all logits are finite: attacks misread NaN, and argmax treats it as the largest value."""
    nonfinite = int((~context.logits(context.x).isfinite()).any(1).sum())
    if nonfinite:
        return "failed", f"{nonfinite} of {len(context.x)} points have logits that are NaN or infinite"
    return "passed", "every logit is finite"


def check_eval_mode(context: CheckContext) -> CheckOutcome:
    """Check that `model.eval()`, which `pre_attack_checks` has called, reaches every module."""
    training = [name or "the model" for name, module in context.model.named_modules() if module.training]
    if training:
        return "failed", f"still in train mode after eval(): {_format_names(training)}"
    return "passed", "eval() reaches every module"


def check_no_side_effects(context: CheckContext) -> CheckOutcome:
    """Check that a forward pass changes no parameter, buffer or input: all attacks must see the same model."""
    before = {name: value.clone() for name, value in _state_tensors(context.model).items()}
    images = context.x.clone()
    with torch.no_grad():
        context.model(images)
    after = _state_tensors(context.model)
    changed = [
        name for name in before if name not in after or not torch.equal(before[name], after[name].to(before[name]))
    ] + [name for name in after if name not in before]
    if changed:
        return "failed", f"a forward pass changes the model's own tensors: {_format_names(changed)}"
    if not torch.equal(images, context.x):
        return "failed", "a forward pass modifies its input"
    return "passed", "a forward pass changes neither weights, buffers nor images"


def check_deterministic(context: CheckContext) -> CheckOutcome:
    """Check that logits are equal when repeated, after another image, and with gradients enabled."""
    first, worst = context.logits(context.x), 0.0
    for _ in range(_REPEATS):
        context.logits(1 - context.x[:1])
        worst = max(worst, float(logit_differences(first, context.logits(context.x)).max()))
    if worst > _SAME:
        return "failed", f"logits of the same images differ between passes by up to {worst:.2%}"
    with torch.enable_grad():
        with_gradients = context.model(context.x.clone().requires_grad_()).detach()
    if (worst := float(logit_differences(first, with_gradients).max())) > _SAME:
        return "failed", f"logits of the same images differ with gradients enabled by up to {worst:.2%}"
    return "passed", f"logits of the same images are equal in {_REPEATS} passes, and with gradients enabled"


def check_batch_independence(context: CheckContext) -> CheckOutcome:
    """Check that the logits of an image do not depend on the other images of its batch."""
    together = context.logits(context.x)
    others = context.logits(torch.cat([context.x, 1 - context.x]))[: len(together)]
    single = torch.cat([context.logits(image[None]) for image in context.x[:_SINGLE_IMAGES]])
    differences = logit_differences(together, others), logit_differences(together[:_SINGLE_IMAGES], single)
    worst = float(torch.cat(differences).max())
    if worst > _SAME_ALONE:
        return "failed", f"logits depend on the other images of the batch: by up to {worst:.2%}"
    return "passed", f"logits are the same in batches of 1, {len(together)} and {2 * len(together)}"


def check_not_probabilities(context: CheckContext) -> CheckOutcome:
    """Check that the model returns logits, not probabilities.

    Cross-entropy applies softmax to its input; for probabilities, its gradients are flat. Log-probabilities are fine:
    they are logits minus a constant per row, which changes neither cross-entropy nor differences of logits.
    """
    logits = context.logits(context.x)
    if bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < _SUM_TO_ONE).all()):
        return "failed", "expected logits, got probabilities, which sum to 1; remove the softmax"
    if bool((logits.logsumexp(1).abs() < _SUM_TO_ONE).all()):
        return "passed", "rows are log-probabilities, which give every attack's loss the same value as logits"
    return "passed", f"rows are logits, from {float(logits.min()):.3g} to {float(logits.max()):.3g}"


def check_single_pass(context: CheckContext) -> CheckOutcome:
    """Check that a forward pass computes no gradient and runs through the layers only once."""
    image = context.x[:1]
    with _GradientDetector() as seen:
        context.logits(image)
    if seen.any:
        return "failed", "the forward pass computes gradients: optimisation at inference"
    once = _single_pass_flops(context.model, lambda: context.logits(image))
    if not once:
        return "skipped", "the model has no convolution or linear layer whose cost could be counted"
    passes = count_flops(lambda: context.logits(image)) / once
    if passes > _PASSES:
        return "unreliable", f"a forward pass costs {passes:.1f} passes through the model's layers: a loop at inference"
    return "passed", f"a forward pass costs {passes:.1f} passes through the model's layers, and no gradient"


def check_continuity(context: CheckContext) -> CheckOutcome:
    """Check that logits are continuous at the test points.

    They are not if the model recognises the points, or draws noise from a hash of the image. Networks are: see _JUMP.
    """
    generator = torch.Generator().manual_seed(context.seed)
    signs = torch.randint(0, 2, context.x.shape, generator=generator).to(context.x) * 2 - 1
    nearby = (context.x + _PIXEL_NUDGE * signs).clamp(0, 1)
    jumps = logit_differences(context.logits(context.x), context.logits(nearby)) > _JUMP
    fraction = float(jumps.double().mean())
    if fraction >= _NOTABLE:
        return "failed", f"at {fraction:.0%} of the points the logits jump when pixels move by 1/257 of a grey level"
    return "passed", "logits do not jump when pixels move by 1/257 of a grey level"


def _format_names(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, non-persistent ones included."""
    return {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]}


class _GradientDetector(TorchDispatchMode):
    """Detects operations that run with gradients enabled or belong to a backward pass.

    Under `torch.no_grad()` there are none, unless the model enables gradients itself.
    """

    any = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.any |= torch.is_grad_enabled() or "backward" in str(operation)
        return operation(*args, **(kwargs or {}))


def _single_pass_flops(model: nn.Module, forward: Callable[[], object]) -> int:
    """Return the FLOPs of each convolution and linear layer at its first call in `forward`."""
    flop: dict[nn.Module, int] = {}

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        flop.setdefault(layer, 2 * output.numel() * weight[0].numel())

    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(flop.values())
