"""Test a claimed robust accuracy: attacks of growing cost on a growing random sample, until the claim is refuted.

Every attack gives an upper bound of robust accuracy, so an audit can refute a claim but never prove it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from rb_smooth.core.console import log_info
from rb_smooth.core.determinism import full_float32
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import counted, duration, percent
from rb_smooth.core.statistics import clopper_pearson_upper
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import AnyImages
from rb_smooth.evaluation.attack_cache import AttackCache
from rb_smooth.evaluation.attack_workers import attack_runner
from rb_smooth.evaluation.audit_attacks import LADDER, AuditAttacks
from rb_smooth.evaluation.checks import Check
from rb_smooth.evaluation.evaluator import passed_pre_attack_checks
from rb_smooth.evaluation.per_example import CLEAN, Examples

LOOKS = (50, 100, 200, 500, 1000, 2000, 5000, 10000)
"""Numbers of points after which the claim is tested; the largest look is the limit itself."""

ERROR = 0.05
"""Largest probability of refuting a true claim, over all looks together."""


class Step(NamedTuple):
    """The state after one attack on the first `points` sampled points.

    standing: points that are classified correctly under every attack so far. bound: upper bound of the robust accuracy
    on the whole test set, in [0, 1]; the bounds of all steps hold together with probability 1 - ERROR. seconds: since
    the start.
    """

    attack: str
    points: int
    standing: int
    bound: float
    seconds: float

    def refutes(self, claimed: float) -> bool:
        """Whether the bound is below the claim."""
        return self.bound < claimed - _ROUNDING


@dataclass(frozen=True)
class Audit:
    """The result of an audit; str() is one sentence.

    claimed: the claimed robust accuracy, in [0, 1]. n_test: points of the whole test set. looks: planned sample sizes.
    sample: indices of the sampled points, in order. broken_by: for each attacked point the first attack that broke it,
    "" if it stands. examples: verified adversarial examples, at most MAX_EXAMPLES. checks: trust checks.
    """

    claimed: float
    threat: Threat
    n_test: int
    looks: tuple[int, ...]
    seed: int
    steps: tuple[Step, ...]
    sample: tuple[int, ...]
    broken_by: tuple[str, ...]
    examples: Examples
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]

    @property
    def refuted(self) -> bool:
        """Whether the last step refutes the claim."""
        return self.steps[-1].refutes(self.claimed)

    @property
    def doubts(self) -> tuple[Check, ...]:
        """The checks with the verdict "unreliable": attacks may have failed on this model."""
        return tuple(check for check in self.checks if check.verdict == "unreliable")

    @property
    def clean(self) -> float:
        """Accuracy without attack on the attacked points."""
        return 1 - self.broken_by.count(CLEAN) / len(self.broken_by)

    def __str__(self) -> str:
        last, claim = self.steps[-1], f"{percent(self.claimed, 1)} %"
        points = f"all {last.points:,}" if last.points == self.n_test else f"{last.points:,} of {self.n_test:,}"
        stand = f"{last.standing:,} of {last.points:,} points stand"
        took = duration(last.seconds)
        if not self.refuted:
            doubts = f"; unreliable: {', '.join(check.name for check in self.doubts)}" if self.doubts else ""
            return (
                f"consistent with the claim of {claim}: {stand} {self._attacks}; at most {percent(last.bound, 1)} % "
                f"({self._certainty}) on {points} points, {took}{doubts}"
            )
        hint = "; this is without attack: check architecture, normalisation and order of classes first"
        return (
            f"claim of {claim} refuted: at most {percent(last.bound, 1)} % ({self._certainty}) after {last.attack} on "
            f"{points} points, {took}{hint if last.attack == CLEAN else ''}"
        )

    @property
    def _attacks(self) -> str:
        return "all attacks" if self.steps[-1].attack == LADDER[-1] else f"the attacks up to {self.steps[-1].attack}"

    @property
    def _certainty(self) -> str:
        last = self.steps[-1]
        is_certain = last.bound >= certain_bound(last.standing, last.points, self.n_test) - _ROUNDING
        return "counted on the test set" if is_certain else f"simultaneous {1 - ERROR:.0%} bound".replace("%", " %")


_ROUNDING = 1e-9


def planned_looks(limit: int) -> tuple[int, ...]:
    """Return the sample sizes of an audit of at most `limit` points."""
    return (*(size for size in LOOKS if size < limit), limit)


def certain_bound(standing: int, points: int, n_test: int) -> float:
    """Return the share of all `n_test` points that stand if every point outside the sample does."""
    return 1 - (points - standing) / n_test


def upper_bound(standing: int, points: int, n_test: int, looks: int) -> float:
    """Return an upper bound of the share of all `n_test` points that stand, from a random sample of `points`.

    The smaller of two: Clopper and Pearson's one-sided bound at error ERROR / `looks` (conservative, as the sample is
    drawn without replacement), and `certain_bound`.
    """
    certain = certain_bound(standing, points, n_test)
    return min(certain, clopper_pearson_upper(standing, points, ERROR / looks)) if points < n_test else certain


def audit_model(
    model: nn.Module,
    points: AnyImages,
    threat: Threat,
    claimed: float,
    *,
    classes: int,
    limit: int | None = 1000,
    seed: int = 0,
    batch_size: int = 250,
    workers: int = 1,
    cache: AttackCache | None = None,
) -> Audit:
    """Attack a random sample of `points` until the claim is refuted or `limit` points are attacked.

    At each look, the new points that still stand are attacked by each attack of LADDER in turn, and the claim is tested
    after each. A point counts as broken only if its adversarial example lies in the ball and in [0, 1], in float64, and
    is misclassified in a pass of its own.

    model: on its device, images (B, C, H, W) in [0, 1] -> logits (B, classes). points: the whole test set. claimed: in
    (0, 1]. limit: largest sample; None: the whole test set. cache: results of AutoAttack's batches, for resuming.

    Raises UserError for invalid arguments, and for a model that fails a trust check, on which accuracies mean nothing.
    """
    if not 0 < claimed <= 1:
        raise UserError(f"expected a claimed accuracy in (0, 1], got {claimed}; say 0.60 for 60 %")
    if limit is not None and limit < 1:
        raise UserError(f"expected at least 1 point, got {limit}; correct --n-examples")
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    sample = order[: len(points) if limit is None else limit]
    images = points[sample].load()
    checks = passed_pre_attack_checks(model, images, threat, classes, seed)
    looks = planned_looks(len(images))
    device = next(model.parameters()).device
    x, y = images.x.to(device).float() / 255, images.y.to(device)
    with (
        attack_runner(model, x, y, threat, classes=classes, seed=seed, keep_examples=len(y), workers=workers) as runner,
        full_float32(),
    ):
        state = AuditAttacks(model, x, y, threat, seed, batch_size, runner, cache)
        steps: list[Step] = []
        for step in _steps(state, looks, len(points)):
            steps.append(step)
            log_info(
                f"{counted(step.points, 'point')}, {step.attack}: {step.standing} stand, at most "
                f"{percent(step.bound, 1)} %"
            )
            if step.refutes(claimed):
                break
    last = steps[-1]
    if last.attack == LADDER[-1]:
        checks += state.post_attack_checks(images[: last.points])
    return Audit(
        claimed,
        threat,
        len(points),
        looks,
        seed,
        tuple(steps),
        tuple(sample[: last.points].tolist()),
        tuple(state.broken_by[: last.points]),
        state.kept_examples(sample),
        tuple(checks),
        tuple(state.warnings),
    )


def _steps(state: AuditAttacks, looks: tuple[int, ...], n_test: int) -> Iterator[Step]:
    start, before = time.monotonic(), 0
    for look in looks:
        for name in LADDER:
            state.attack(name, range(before, look))
            standing = state.broken_by[:look].count("")
            yield Step(name, look, standing, upper_bound(standing, look, n_test, len(looks)), time.monotonic() - start)
        before = look
