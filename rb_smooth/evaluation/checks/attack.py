"""Trust checks after AutoAttack: whether its own figures, or larger balls, show that it was led astray.

Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705, section 4: black-box attacks must not beat
gradients, and an attack in a ball that holds everything must succeed.
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
"""The checks of `check_larger_radii`."""

_FEW = 2
"""Points that never count as a sign, in however small a sample."""

_ALONE = {"square": 0.002, "fab-t": 0.01}
"""Shares of all points that an attack may be the first to break. Square goes by no gradient: 0.2 % is AutoAttack's own
limit. FAB-T goes by gradients, but not by APGD's losses or step sizes, and finds a little more on honest models."""

_MISSED = 0.005
"""Share of all points by which AutoAttack may stay behind PGD-20, whose random starts are other ones."""

_STEPS = 20
"""Of PGD, each an eighth of the radius."""


def check_attack_result(result: AutoAttackResult, clean: float, pgd20: float) -> dict[str, CheckOutcome]:
    """By name, what AutoAttack's figures and warnings say; clean and pgd20 are shares measured apart from it."""
    robust = float(result.robust.double().mean())
    figures = {"one clean accuracy": _check_clean(result, clean)}
    if not result.robust.any():
        skipped: CheckOutcome = ("skipped", "no point stands: there is nothing that could be too high")
        return figures | dict.fromkeys(("AutoAttack's warnings", "no black box ahead", "as strong as PGD-20"), skipped)
    return figures | {
        "AutoAttack's warnings": _check_warnings(result),
        "no black box ahead": _check_late_attacks(result),
        "as strong as PGD-20": _check_pgd(robust, pgd20, len(result.robust)),
    }


def check_larger_radii(context: CheckContext) -> dict[str, CheckOutcome]:
    """By name, what PGD finds in growing balls around points that AutoAttack left standing (the subject's).

    In the largest ball lies the grey image, for every point. It has one prediction: so at most as many points can
    really stand there as the commonest label has, and their cross-entropy, averaged over the k labels that occur, can
    be raised to log k at least (by Jensen's inequality, since the k probabilities of the grey image sum to 1 at most).
    An attack that does less has failed, whatever the model.
    """
    eps, everything = context.threat.eps, _grey_radius(context)
    stand, losses = {}, torch.zeros(0)
    for radius in [*(r for r in (eps, 2 * eps, 4 * eps) if r < everything), everything]:
        logits = _pgd_result(context, radius)
        stand[radius] = int((context.margins(logits) > 0).sum())
        losses = F.cross_entropy(logits, context.y, reduction="none")
    answers = _check_unchanged_model(context), _check_accuracy_falls(context, stand), _check_loss_rises(context, losses)
    return dict(zip(BY_RADIUS, answers, strict=True))


def _check_clean(result: AutoAttackResult, clean: float) -> CheckOutcome:
    found = f"clean accuracy is {clean:.2%} measured apart, and {result.clean:.2%} beside the attack"
    if _exceeds(abs(result.clean - clean), len(result.robust), _MISSED):
        return "unreliable", f"{found}: the model does not stay what it was"
    return "passed", found


def _check_unchanged_model(context: CheckContext) -> CheckOutcome:
    """What stands was classified rightly before the attack; a model that has changed under it may no longer do so."""
    wrong, points = int((~context.is_correct(context.x)).sum()), len(context.y)
    if _exceeds(wrong / points, points, _MISSED):
        return "unreliable", f"{wrong} of {points} points that stand are now misclassified unattacked"
    return "passed", f"{points - wrong} of {points} points that stand are still classified rightly unattacked"


def _check_warnings(result: AutoAttackResult) -> CheckOutcome:
    if result.warnings:
        return "unreliable", f"AutoAttack warns: {' '.join(result.warnings[0].split())}"
    return "passed", "AutoAttack has no warnings"


def _check_late_attacks(result: AutoAttackResult) -> CheckOutcome:
    """What Square or FAB-T broke that APGD, which is stronger wherever gradients are honest, did not."""
    shares, found = [attack.robust for attack in result.attacks.values()], {}
    for name, before, after in zip([*result.attacks][1:], shares, shares[1:], strict=False):
        if name in _ALONE:
            found[name] = before - after
    if not found:
        return "skipped", "neither FAB-T nor Square was made"
    said = ", ".join(f"{name} {share:.2%}" for name, share in found.items())
    if any(_exceeds(share, len(result.robust), _ALONE[name]) for name, share in found.items()):
        return "unreliable", f"points are first broken by {said}: gradients led APGD astray"
    return "passed", f"first broken by {said} of the points"


def _check_pgd(robust: float, pgd20: float, points: int) -> CheckOutcome:
    found = f"{robust:.2%} stand against AutoAttack, {pgd20:.2%} against PGD-20"
    if _exceeds(robust - pgd20, points, _MISSED):
        return "unreliable", f"{found}, which is far weaker on honest models"
    return "passed", found


def _check_accuracy_falls(context: CheckContext, robust: dict[float, int]) -> CheckOutcome:
    points, radii = len(context.y), list(robust)
    said = ", ".join(f"{robust[radius] / points:.0%} at {radius:.3g}" for radius in radii)
    found = f"of {points} points that stand, PGD-{_STEPS} leaves {said}"
    if robust[radii[-1]] > int(context.y.bincount().max()):
        return "unreliable", f"{found}: fewer can stand in a ball that holds the grey image"
    for smaller, larger in pairwise(radii):
        if _exceeds((robust[larger] - robust[smaller]) / points, points, 0.1):
            return "unreliable", f"{found}: a larger ball holds the smaller"
    return "passed", found


def _check_loss_rises(context: CheckContext, losses: Tensor) -> CheckOutcome:
    labels = context.y.unique()
    mean = float(torch.stack([losses[context.y == label].mean() for label in labels]).mean())
    chance = math.log(len(labels))
    found = f"PGD-{_STEPS} in the largest ball raises cross-entropy to {mean:.3g}"
    if not mean >= chance:
        return "unreliable", f"{found}, less than the {chance:.3g} of guessing among {len(labels)} labels"
    return "passed", f"{found}; guessing among {len(labels)} labels has {chance:.3g}"


def _pgd_result(context: CheckContext, radius: float) -> Tensor:
    torch.manual_seed(context.seed)
    threat = context.threat._replace(eps=radius, step_size=radius / 8)
    return context.logits(pgd(context.model, context.x, context.y, threat, _STEPS))


def _grey_radius(context: CheckContext) -> float:
    """Within this radius of every point lies the image whose every pixel is 0.5."""
    away = (context.x - 0.5).flatten(1)
    return 0.5 if context.threat.norm == "Linf" else float(away.norm(dim=1).max())


def _exceeds(share: float, points: int, limit: float) -> bool:
    """Whether a share of the points is above the limit, and more than a few of them."""
    return round(share * points) > max(_FEW, limit * points)
