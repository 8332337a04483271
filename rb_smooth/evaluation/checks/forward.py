"""Trust checks of the forward pass: one answer for one image, whoever asks, however often, and at the cost of one pass.

Each takes a Subject and answers with a verdict and what it found. RobustBench's rules for a model: a deterministic
forward pass, no optimisation loop in it, non-zero gradients (gradients.py).
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
"""Times that the same images are shown again; random generators go on between them."""

_SAME = 1e-5
"""Relative difference of logits up to which two passes over one batch agree: a GPU may add in another order."""

_SAME_ALONE = 1e-4
"""That of passes over batches of other sizes, for which convolutions are computed by other algorithms."""

_ALONE = 8
"""Images that are also shown one by one."""

_SUM_TO_ONE = 1e-3
"""By how much the sum of a row of probabilities may miss 1."""

_PASSES = 2.5
"""Passes through its layers that one answer may cost: an average over an image and its mirror image is no loop."""

_PIXEL_NUDGE = 2.0**-16
"""A 1/257 of a grey level: by so little images are moved to see whether the logits jump."""

_JUMP = 0.01
"""Share of their spread by which they jump: per grey level, that would be more than twice the spread itself."""

_NOTABLE = 0.05
"""Share of the points at which a jump is more than chance."""


def check_logits_shape(context: CheckContext) -> CheckOutcome:
    """Whether the model answers n images with n rows of one float for each class."""
    logits = context.logits(context.x)
    if not isinstance(logits, Tensor):
        return "refused", f"the model answers with a {type(logits).__name__}, not with a tensor of logits"
    wanted = (len(context.x), context.classes)
    if tuple(logits.shape) != wanted or not logits.is_floating_point():
        return "refused", f"expected logits of shape {wanted}, got {logits.dtype} of shape {tuple(logits.shape)}"
    return "passed", f"{len(context.x)} images have {context.classes} logits each"


def check_finite_logits(context: CheckContext) -> CheckOutcome:
    """Whether all logits are finite: an attack takes NaN for anything, and argmax takes it for the largest."""
    bad = int((~context.logits(context.x).isfinite()).any(1).sum())
    if bad:
        return "refused", f"{bad} of {len(context.x)} points have logits that are NaN or infinite"
    return "passed", "every logit is finite"


def check_eval_mode(context: CheckContext) -> CheckOutcome:
    """Whether eval() reaches every part. `before_attack` has called it; evaluation has no other way to ask for it."""
    training = [name or "the model" for name, module in context.model.named_modules() if module.training]
    if training:
        return "refused", f"still in train mode after eval(): {_format_names(training)}"
    return "passed", "eval() reaches every part"


def check_no_side_effects(context: CheckContext) -> CheckOutcome:
    """Whether a pass leaves weights, buffers and images as they were: attack and evaluation must meet one model."""
    before = {name: value.clone() for name, value in _state_tensors(context.model).items()}
    images = context.x.clone()
    with torch.no_grad():
        context.model(images)
    after = _state_tensors(context.model)
    changed = [
        name for name in before if name not in after or not torch.equal(before[name], after[name].to(before[name]))
    ] + [name for name in after if name not in before]
    if changed:
        return "refused", f"a forward pass changes the model's own tensors: {_format_names(changed)}"
    if not torch.equal(images, context.x):
        return "refused", "a forward pass writes into the images that it is given"
    return "passed", "a forward pass changes neither weights, buffers nor images"


def check_deterministic(context: CheckContext) -> CheckOutcome:
    """Whether one image has one answer: again, after another image, and with gradients."""
    first, worst = context.logits(context.x), 0.0
    for _ in range(_REPEATS):
        context.logits(1 - context.x[:1])
        worst = max(worst, float(logit_differences(first, context.logits(context.x)).max()))
    if worst > _SAME:
        return "refused", f"the same images get other logits when they are shown again: by up to {worst:.2%}"
    with torch.enable_grad():
        watched = context.model(context.x.clone().requires_grad_()).detach()
    if (worst := float(logit_differences(first, watched).max())) > _SAME:
        return "refused", f"the same images get other logits when gradients are wanted: by up to {worst:.2%}"
    return "passed", f"the same images get the same logits {_REPEATS} times, and when gradients are wanted"


def check_batch_independence(context: CheckContext) -> CheckOutcome:
    """Whether an image's answer depends on the other images of its batch."""
    together = context.logits(context.x)
    others = context.logits(torch.cat([context.x, 1 - context.x]))[: len(together)]
    alone = torch.cat([context.logits(image[None]) for image in context.x[:_ALONE]])
    worst = float(torch.cat([logit_differences(together, others), logit_differences(together[:_ALONE], alone)]).max())
    if worst > _SAME_ALONE:
        return "refused", f"logits depend on the other images of the batch: by up to {worst:.2%}"
    return "passed", f"logits are the same in batches of 1, {len(together)} and {2 * len(together)}"


def check_not_probabilities(context: CheckContext) -> CheckOutcome:
    """Whether the answers are logits, not probabilities.

    Cross-entropy would take a softmax of probabilities, whose gradients are flat. Log-probabilities do no harm: they
    are logits minus one number for each row, which neither cross-entropy nor a difference of logits can see.
    """
    logits = context.logits(context.x)
    if bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < _SUM_TO_ONE).all()):
        return "refused", "every row is of probabilities, which sum to 1; return the logits, without a softmax"
    if bool((logits.logsumexp(1).abs() < _SUM_TO_ONE).all()):
        return "passed", "rows are log-probabilities, which differ from logits by what no attack's loss sees"
    return "passed", f"rows are logits, from {float(logits.min()):.3g} to {float(logits.max()):.3g}"


def check_single_pass(context: CheckContext) -> CheckOutcome:
    """Whether one answer costs one pass: no gradient is taken inside, and no loop goes through the layers again."""
    image = context.x[:1]
    with _GradientDetector() as seen:
        context.logits(image)
    if seen.any:
        return "refused", "the forward pass computes gradients: it optimises at inference"
    once = _single_pass_flops(context.model, lambda: context.logits(image))
    if not once:
        return "skipped", "the model has no convolution or linear layer to measure its cost by"
    passes = count_flops(lambda: context.logits(image)) / once
    if passes > _PASSES:
        return "unreliable", f"one answer costs {passes:.1f} passes through the model's layers: a loop at inference"
    return "passed", f"one answer costs {passes:.1f} passes through the model's layers, and no gradient"


def check_continuity(context: CheckContext) -> CheckOutcome:
    """Whether the logits at the very test points are those of their neighbourhood.

    A model that recognises the points, or draws noise from a hash of the image, answers otherwise a hair's breadth
    beside them. No network does: see _JUMP.
    """
    generator = torch.Generator().manual_seed(context.seed)
    signs = torch.randint(0, 2, context.x.shape, generator=generator).to(context.x) * 2 - 1
    beside = (context.x + _PIXEL_NUDGE * signs).clamp(0, 1)
    jumps = logit_differences(context.logits(context.x), context.logits(beside)) > _JUMP
    share = float(jumps.double().mean())
    if share >= _NOTABLE:
        return "refused", f"at {share:.0%} of the points the logits jump when pixels move by 1/257 of a grey level"
    return "passed", "logits do not jump when pixels move by 1/257 of a grey level"


def _format_names(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those too that no checkpoint carries."""
    return {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]}


class _GradientDetector(TorchDispatchMode):
    """Sees every operation, however it was imported: whether it is part of a backward pass, or recorded for one.

    A pass made without gradients has neither, unless the model switches them on for itself.
    """

    any = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.any |= torch.is_grad_enabled() or "backward" in str(operation)
        return operation(*args, **(kwargs or {}))


def _single_pass_flops(model: nn.Module, forward: Callable[[], object]) -> int:
    """FLOPs of every convolution and linear layer at its first call in `forward`."""
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
