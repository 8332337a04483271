"""Trust checks after AutoAttack: do its own results, or attacks in larger balls, show that it failed?

Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705, section 4: black-box attacks must not beat
gradient-based ones, and an attack with an unbounded radius must succeed.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from rb_smooth.components.attacks import pgd
from rb_smooth.evaluation.checks.verdicts import CheckContext, CheckOutcome

if TYPE_CHECKING:
    from rb_smooth.evaluation.autoattack import AutoAttackResult


BY_RADIUS = ("unchanged by the attack", "falls as eps grows", "loss above chance")
"""Names of the checks of `check_larger_radii`."""

_FEW = 2
"""Number of points that is never evidence, however small the sample."""

_FIRST_BROKEN = {"square": 0.002, "fab-t": 0.01}
"""Fraction of all points that an attack may be the first to break. Square uses no gradients: 0.2 % is AutoAttack's own
limit. FAB-T uses gradients, but neither APGD's losses nor its step sizes, and breaks a few more on sound models."""

_TOLERANCE = 0.005
"""Fraction of all points by which two measurements of an accuracy may differ, as random starts differ."""

_STEPS = 20
"""PGD steps, each an eighth of the radius."""


def check_attack_result(result: AutoAttackResult, clean: float, pgd20: float) -> dict[str, CheckOutcome]:
    """Check AutoAttack's accuracies and warnings, by name. clean, pgd20: accuracies measured separately."""
    robust = float(result.robust.double().mean())
    outcomes = {"one clean accuracy": _check_clean(result, clean)}
    if not result.robust.any():
        skipped: CheckOutcome = ("skipped", "no point is robust, so robust accuracy cannot be too high")
        return outcomes | dict.fromkeys(("AutoAttack's warnings", "no black box ahead", "as strong as PGD-20"), skipped)
    return outcomes | {
        "AutoAttack's warnings": _check_warnings(result),
        "no black box ahead": _check_late_attacks(result),
        "as strong as PGD-20": _check_pgd(robust, pgd20, len(result.robust)),
    }


def check_larger_radii(context: CheckContext) -> dict[str, CheckOutcome]:
    """Attack the robust points of `context` with PGD in growing balls, and check the results, by name.

    The largest ball contains the grey image for every point. It has one prediction, so at most as many points are
    robust there as the most frequent label has; and their cross-entropy, averaged over the k labels that occur, can
    reach at least log k (Jensen's inequality, as the k probabilities of the grey image sum to at most 1). An attack
    that achieves less has failed, whatever the model.
    """
    eps, largest = context.threat.eps, _grey_radius(context)
    robust, losses = {}, torch.zeros(0)
    for radius in [*(r for r in (eps, 2 * eps, 4 * eps) if r < largest), largest]:
        logits = _pgd_result(context, radius)
        robust[radius] = int((context.margins(logits) > 0).sum())
        losses = F.cross_entropy(logits, context.y, reduction="none")
    falls, rises = _check_accuracy_falls(context, robust), _check_loss_rises(context, losses)
    return dict(zip(BY_RADIUS, (_check_unchanged_model(context), falls, rises), strict=True))


def _check_clean(result: AutoAttackResult, clean: float) -> CheckOutcome:
    found = f"clean accuracy is {clean:.2%} measured separately, {result.clean:.2%} within AutoAttack"
    if _exceeds(abs(result.clean - clean), len(result.robust), _TOLERANCE):
        return "unreliable", f"{found}: the model changed"
    return "passed", found


def _check_unchanged_model(context: CheckContext) -> CheckOutcome:
    """Check that robust points are still classified correctly without attack; they may not be if the model changed."""
    wrong, points = int((~context.is_correct(context.x)).sum()), len(context.y)
    if _exceeds(wrong / points, points, _TOLERANCE):
        return "unreliable", f"{wrong} of {points} robust points are now misclassified without attack"
    return "passed", f"{points - wrong} of {points} robust points are still classified correctly without attack"


def _check_warnings(result: AutoAttackResult) -> CheckOutcome:
    if result.warnings:
        return "unreliable", f"AutoAttack warns: {' '.join(result.warnings[0].split())}"
    return "passed", "AutoAttack has no warnings"


def _check_late_attacks(result: AutoAttackResult) -> CheckOutcome:
    """Check how many points Square or FAB-T broke that APGD, stronger where gradients are sound, did not."""
    accuracies, first_broken = [attack.robust for attack in result.attacks.values()], {}
    for name, before, after in zip([*result.attacks][1:], accuracies, accuracies[1:], strict=False):
        if name in _FIRST_BROKEN:
            first_broken[name] = before - after
    if not first_broken:
        return "skipped", "neither FAB-T nor Square was run"
    found = f"of all points first broken by {', '.join(f'{name} {x:.2%}' for name, x in first_broken.items())}"
    if any(_exceeds(x, len(result.robust), _FIRST_BROKEN[name]) for name, x in first_broken.items()):
        return "unreliable", f"{found}: APGD's gradients are misleading"
    return "passed", found


def _check_pgd(robust: float, pgd20: float, points: int) -> CheckOutcome:
    found = f"accuracy is {robust:.2%} under AutoAttack, {pgd20:.2%} under PGD-20"
    if _exceeds(robust - pgd20, points, _TOLERANCE):
        return "unreliable", f"{found}, a far weaker attack on sound models"
    return "passed", found


def _check_accuracy_falls(context: CheckContext, robust: dict[float, int]) -> CheckOutcome:
    points, radii = len(context.y), list(robust)
    by_radius = ", ".join(f"{robust[radius] / points:.0%} at {radius:.3g}" for radius in radii)
    found = f"accuracy on {points} robust points under PGD-{_STEPS} is {by_radius}"
    if robust[radii[-1]] > int(context.y.bincount().max()):
        return "unreliable", f"{found}: too high for a ball that contains the grey image"
    for smaller, larger in pairwise(radii):
        if _exceeds((robust[larger] - robust[smaller]) / points, points, 0.1):
            return "unreliable", f"{found}: it cannot rise with the radius"
    return "passed", found


def _check_loss_rises(context: CheckContext, losses: Tensor) -> CheckOutcome:
    labels = context.y.unique()
    mean = float(torch.stack([losses[context.y == label].mean() for label in labels]).mean())
    chance = math.log(len(labels))
    found = f"PGD-{_STEPS} in the largest ball raises cross-entropy to {mean:.3g}"
    if not mean >= chance:
        return "unreliable", f"{found}, below {chance:.3g}, which is chance for {len(labels)} labels"
    return "passed", f"{found}; chance for {len(labels)} labels is {chance:.3g}"


def _pgd_result(context: CheckContext, radius: float) -> Tensor:
    torch.manual_seed(context.seed)
    threat = context.threat._replace(eps=radius, step_size=radius / 8)
    return context.logits(pgd(context.model, context.x, context.y, threat, _STEPS))


def _grey_radius(context: CheckContext) -> float:
    """Return the radius within which every point has the image of pixels 0.5."""
    offset = (context.x - 0.5).flatten(1)
    return 0.5 if context.threat.norm == "Linf" else float(offset.norm(dim=1).max())


def _exceeds(fraction: float, points: int, limit: float) -> bool:
    """Return whether a fraction of the points exceeds the limit and is more than a few points."""
    return round(fraction * points) > max(_FEW, limit * points)
