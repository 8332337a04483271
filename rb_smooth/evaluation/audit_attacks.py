"""The attacks of an audit on a growing sample: which attack breaks which point, and the adversarial examples."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from rb_smooth.components.attacks import input_gradient_mode, pgd
from rb_smooth.core.console import progress_bars
from rb_smooth.core.determinism import preserve_rng
from rb_smooth.core.robustbench import ATTACKS
from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation.accuracy import PGD_STEPS
from rb_smooth.evaluation.attack_cache import AttackBatch, AttackCache, BatchResult
from rb_smooth.evaluation.attack_workers import AttackRunner
from rb_smooth.evaluation.autoattack import AttackResult, AutoAttackResult
from rb_smooth.evaluation.checks import Check, post_attack_checks
from rb_smooth.evaluation.per_example import CLEAN, PGD, Examples, is_outside_ball

LADDER = (CLEAN, PGD, *ATTACKS)
"""Attacks of an audit, cheapest first."""

MAX_EXAMPLES = 100
"""Adversarial examples that are kept."""


class AuditAttacks:
    """Attacks and outcomes so far: `broken_by` of each sampled point, "" while it stands."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        batch_size: int,
        runner: AttackRunner,
        cache: AttackCache | None,
    ) -> None:
        self.model, self.x, self.y, self.threat, self.seed = model, x, y, threat, seed
        self.batch_size, self.runner, self.cache = batch_size, runner, cache
        self.broken_by = [""] * len(y)
        self.predictions = torch.zeros(len(y), dtype=torch.int64)
        self.x_adv: dict[int, tuple[Tensor, int]] = {}
        self.warnings: dict[str, None] = {}
        self.seconds = dict.fromkeys(LADDER, 0.0)

    def attack(self, name: str, points: range) -> None:
        """Attack those of `points` that stand, and record the outcome."""
        start = time.monotonic()
        standing = torch.tensor([point for point in points if not self.broken_by[point]], dtype=torch.int64)
        parts = standing.split(self.batch_size) if len(standing) else ()
        batches = [AttackBatch(f"{name}-{points.start}", number, part) for number, part in enumerate(parts)]
        for batch, x_adv in self._adversarial(name, batches):
            self._record(name, batch.points, x_adv)
        self.seconds[name] += time.monotonic() - start

    def _adversarial(self, name: str, batches: list[AttackBatch]) -> Iterator[tuple[AttackBatch, Tensor]]:
        """Yield candidates for each batch: x_adv (B, C, H, W), equal to x where the attack found none."""
        if name in (CLEAN, PGD):
            craft = self._unchanged if name == CLEAN else self._pgd
            yield from ((batch, craft(self.x[batch.points], self.y[batch.points])) for batch in batches)
            return
        cached = {batch.batch_index: self.cache.load(batch) for batch in batches} if self.cache else {}
        asked = [batch._replace(attack=name) for batch in batches if cached.get(batch.batch_index) is None]
        results: dict[int, BatchResult] = {index: result for index, result in cached.items() if result is not None}
        with progress_bars() as bars:
            task = bars.add_task(name, total=None)
            for done, result in self.runner.results(asked, lambda passes: bars.advance(task, passes)):
                results[done.batch_index] = result
                if self.cache:
                    self.cache.save(batches[done.batch_index], result)
        for batch in batches:
            result = results[batch.batch_index]
            x_adv = self.x[batch.points].clone()
            x_adv[~result.robust.to(x_adv.device)] = result.x_adv.to(x_adv)
            self.warnings |= dict.fromkeys(result.warnings)
            yield batch, x_adv

    def _record(self, name: str, points: Tensor, x_adv: Tensor) -> None:
        with torch.no_grad():
            predictions = self.model(x_adv).argmax(1)
        outside = is_outside_ball(x_adv.cpu().numpy(), self.x[points].cpu().numpy(), self.threat)
        broken = (predictions != self.y[points]).cpu() & torch.from_numpy(~outside)
        if name == CLEAN:
            self.predictions[points] = predictions.cpu()
        for place in broken.nonzero().flatten().tolist():
            point = int(points[place])
            self.broken_by[point] = name
            if name != CLEAN and len(self.x_adv) < MAX_EXAMPLES:
                self.x_adv[point] = x_adv[place].cpu(), int(predictions[place])

    @staticmethod
    def _unchanged(x: Tensor, y: Tensor) -> Tensor:
        return x

    def _pgd(self, x: Tensor, y: Tensor) -> Tensor:
        with preserve_rng(), input_gradient_mode(self.model, "eval"):
            torch.manual_seed(self.seed)
            return pgd(self.model, x, y, self.threat, PGD_STEPS)

    def kept_examples(self, sample: Tensor) -> Examples:
        """Return the kept adversarial examples; their index is that of the test set."""
        points = sorted(self.x_adv)
        chosen = torch.tensor(points, dtype=torch.int64)
        x_adv = [self.x_adv[point][0].numpy() for point in points] or [np.zeros(self.x.shape[1:], np.float32)]
        return Examples(
            sample[chosen].numpy(),
            self.y.cpu()[chosen].numpy(),
            self.predictions[chosen].numpy(),
            np.array([self.x_adv[point][1] for point in points], np.int64),
            (self.x.cpu()[chosen] * 255).round().byte().numpy(),
            np.stack(x_adv)[: len(points)],
        )

    def post_attack_checks(self, images: Images) -> list[Check]:
        """Check the outcome of all attacks on the first points, `images`, as an evaluation does."""
        broken_by, points = self.broken_by[: len(images)], len(images)

        def left_after(name: str) -> float:
            return sum(each in ("", *LADDER[LADDER.index(name) + 1 :]) for each in broken_by) / points

        result = AutoAttackResult(
            robust=torch.tensor([not each for each in broken_by]),
            clean=left_after(CLEAN),
            attacks={name: AttackResult(left_after(name), self.seconds[name]) for name in ATTACKS},
            broken_by=torch.tensor([ATTACKS.index(each) if each in ATTACKS else -1 for each in broken_by]),
            margin=torch.full((points,), torch.nan),
            seconds=sum(self.seconds.values()),
            warnings=list(self.warnings),
            x_adv={},
        )
        return post_attack_checks(
            self.model, images, self.threat, result, clean=result.clean, pgd20=left_after(PGD), seed=self.seed
        )
