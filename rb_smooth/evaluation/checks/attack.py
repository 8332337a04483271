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
from rb_smooth.evaluation.checks.verdicts import Answer, Subject

if TYPE_CHECKING:
    from rb_smooth.evaluation.autoattack import AutoAttackResult


BY_RADIUS = ("unchanged by the attack", "falls as eps grows", "loss above chance")
"""The checks of `judge_radii`."""

_FEW = 2
"""Points that never count as a sign, in however small a sample."""

_ALONE = {"square": 0.002, "fab-t": 0.01}
"""Shares of all points that an attack may be the first to break. Square goes by no gradient: 0.2 % is AutoAttack's own
limit. FAB-T goes by gradients, but not by APGD's losses or step sizes, and finds a little more on honest models."""

_MISSED = 0.005
"""Share of all points by which AutoAttack may stay behind PGD-20, whose random starts are other ones."""

_STEPS = 20
"""Of PGD, each an eighth of the radius."""


def judge_figures(result: AutoAttackResult, clean: float, pgd20: float) -> dict[str, Answer]:
    """By name, what AutoAttack's figures and warnings say; clean and pgd20 are shares measured apart from it."""
    robust = float(result.robust.double().mean())
    figures = {"one clean accuracy": _judge_clean(result, clean)}
    if not result.robust.any():
        skipped: Answer = ("skipped", "no point stands: there is nothing that could be too high")
        return figures | dict.fromkeys(("AutoAttack's warnings", "no black box ahead", "as strong as PGD-20"), skipped)
    return figures | {
        "AutoAttack's warnings": _judge_warnings(result),
        "no black box ahead": _judge_latecomers(result),
        "as strong as PGD-20": _judge_pgd(robust, pgd20, len(result.robust)),
    }


def judge_radii(subject: Subject) -> dict[str, Answer]:
    """By name, what PGD finds in growing balls around points that AutoAttack left standing (the subject's).

    In the largest ball lies the grey image, for every point. It has one prediction: so at most as many points can
    really stand there as the commonest label has, and their cross-entropy, averaged over the k labels that occur, can
    be raised to log k at least (by Jensen's inequality, since the k probabilities of the grey image sum to 1 at most).
    An attack that does less has failed, whatever the model.
    """
    eps, everything = subject.threat.eps, _radius_of_grey(subject)
    stand, losses = {}, torch.zeros(0)
    for radius in [*(r for r in (eps, 2 * eps, 4 * eps) if r < everything), everything]:
        logits = _attacked(subject, radius)
        stand[radius] = int((subject.margins(logits) > 0).sum())
        losses = F.cross_entropy(logits, subject.y, reduction="none")
    answers = _judge_change(subject), _judge_fall(subject, stand), _judge_loss(subject, losses)
    return dict(zip(BY_RADIUS, answers, strict=True))


def _judge_clean(result: AutoAttackResult, clean: float) -> Answer:
    found = f"clean accuracy is {clean:.2%} measured apart, and {result.clean:.2%} beside the attack"
    if _many(abs(result.clean - clean), len(result.robust), _MISSED):
        return "unreliable", f"{found}: the model does not stay what it was"
    return "passed", found


def _judge_change(subject: Subject) -> Answer:
    """What stands was classified rightly before the attack; a model that has changed under it may no longer do so."""
    wrong, points = int((~subject.right(subject.x)).sum()), len(subject.y)
    if _many(wrong / points, points, _MISSED):
        return "unreliable", f"{wrong} of {points} points that stand are now misclassified unattacked"
    return "passed", f"{points - wrong} of {points} points that stand are still classified rightly unattacked"


def _judge_warnings(result: AutoAttackResult) -> Answer:
    if result.warnings:
        return "unreliable", f"AutoAttack warns: {' '.join(result.warnings[0].split())}"
    return "passed", "AutoAttack has no warnings"


def _judge_latecomers(result: AutoAttackResult) -> Answer:
    """What Square or FAB-T broke that APGD, which is stronger wherever gradients are honest, did not."""
    shares, found = [attack.robust for attack in result.attacks.values()], {}
    for name, before, after in zip([*result.attacks][1:], shares, shares[1:], strict=False):
        if name in _ALONE:
            found[name] = before - after
    if not found:
        return "skipped", "neither FAB-T nor Square was made"
    said = ", ".join(f"{name} {share:.2%}" for name, share in found.items())
    if any(_many(share, len(result.robust), _ALONE[name]) for name, share in found.items()):
        return "unreliable", f"points are first broken by {said}: gradients led APGD astray"
    return "passed", f"first broken by {said} of the points"


def _judge_pgd(robust: float, pgd20: float, points: int) -> Answer:
    found = f"{robust:.2%} stand against AutoAttack, {pgd20:.2%} against PGD-20"
    if _many(robust - pgd20, points, _MISSED):
        return "unreliable", f"{found}, which is far weaker on honest models"
    return "passed", found


def _judge_fall(subject: Subject, stand: dict[float, int]) -> Answer:
    points, radii = len(subject.y), list(stand)
    said = ", ".join(f"{stand[radius] / points:.0%} at {radius:.3g}" for radius in radii)
    found = f"of {points} points that stand, PGD-{_STEPS} leaves {said}"
    if stand[radii[-1]] > int(subject.y.bincount().max()):
        return "unreliable", f"{found}: fewer can stand in a ball that holds the grey image"
    for smaller, larger in pairwise(radii):
        if _many((stand[larger] - stand[smaller]) / points, points, 0.1):
            return "unreliable", f"{found}: a larger ball holds the smaller"
    return "passed", found


def _judge_loss(subject: Subject, losses: Tensor) -> Answer:
    labels = subject.y.unique()
    mean = float(torch.stack([losses[subject.y == label].mean() for label in labels]).mean())
    chance = math.log(len(labels))
    found = f"PGD-{_STEPS} in the largest ball raises cross-entropy to {mean:.3g}"
    if not mean >= chance:
        return "unreliable", f"{found}, less than the {chance:.3g} of guessing among {len(labels)} labels"
    return "passed", f"{found}; guessing among {len(labels)} labels has {chance:.3g}"


def _attacked(subject: Subject, radius: float) -> Tensor:
    torch.manual_seed(subject.seed)
    threat = subject.threat._replace(eps=radius, step_size=radius / 8)
    return subject.logits(pgd(subject.model, subject.x, subject.y, threat, _STEPS))


def _radius_of_grey(subject: Subject) -> float:
    """Within this radius of every point lies the image whose every pixel is 0.5."""
    away = (subject.x - 0.5).flatten(1)
    return 0.5 if subject.threat.norm == "Linf" else float(away.norm(dim=1).max())


def _many(share: float, points: int, limit: float) -> bool:
    """Whether a share of the points is above the limit, and more than a few of them."""
    return round(share * points) > max(_FEW, limit * points)
