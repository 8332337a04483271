"""The result of an evaluation as an object: the values of `score.json` by name, and as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rb_smooth.core.formatting import eps_text
from rb_smooth.core.threat import Threat

if TYPE_CHECKING:
    from rb_smooth.evaluation.checks.verdicts import Check


@dataclass(frozen=True)
class Score:
    """Accuracies of a model on `n` test points, each in [0, 1]; str() gives one sentence.

    clean:      without attack.
    pgd20:      after PGD with 20 steps from a random start, in `threat`.
    autoattack: after the attacks of `version`: "standard" is AutoAttack, "quick" gives an upper bound of it.
    interval:   Wilson's 95 % interval of `autoattack` over the choice of test points.
    attacks:    by name, in order: accuracy after this attack and those before it.
    threat:     norm, eps and PGD's step_size; pixels are in [0, 1].
    checks:     trust checks (name, verdict, found); see docs/trust.md.
    warnings:   AutoAttack's own warnings.
    seconds:    attack time, summed over processes.
    values:     everything that is stored, as JSON values: seed, package versions, SHA-256 of the points, …
    """

    clean: float
    pgd20: float
    autoattack: float
    interval: tuple[float, float]
    n: int
    version: str
    threat: Threat
    attacks: Mapping[str, float]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    seconds: float
    values: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Score:
        """Build a score from the values of `evaluate_model`, score.json or a leaderboard entry."""
        from rb_smooth.evaluation.checks.verdicts import Check

        low, high = values["interval"]
        return cls(
            clean=values["clean"],
            pgd20=values["pgd20"],
            autoattack=values["autoattack"],
            interval=(low, high),
            n=values["n"],
            version=values["version"],
            threat=Threat(*(values["threat"][key] for key in Threat._fields)),
            attacks={name: attack["robust"] for name, attack in values["attacks"].items()},
            checks=tuple(Check(*(check[key] for key in Check._fields)) for check in values.get("checks", ())),
            warnings=tuple(values["warnings"]),
            seconds=values["seconds"],
            values=values,
        )

    @property
    def doubts(self) -> tuple[Check, ...]:
        """The checks with the verdict "unreliable": `autoattack` may be too high."""
        return tuple(check for check in self.checks if check.verdict == "unreliable")

    def __str__(self) -> str:
        low, high = self.interval
        doubts = f"; unreliable: {', '.join(check.name for check in self.doubts)}" if self.doubts else ""
        return (
            f"clean {self.clean:.1%}, PGD-20 {self.pgd20:.1%}, {attack_title(self.values)} {self.autoattack:.1%} "
            f"(95 % interval {low:.1%} to {high:.1%}) on {self.n} points, {self.threat.norm} eps "
            f"{eps_text(self.threat.eps)}{doubts}"
        )


def protocol_of(score: dict[str, Any]) -> tuple[Any, ...]:
    """Return threat, attack and test points; scores are comparable if and only if these are equal."""
    threat = score["threat"]
    return threat["norm"], round(threat["eps"], 9), score["version"], score["n"], score["fingerprint"]


def selection_title(score: dict[str, Any]) -> str:
    """Return on which images the best epoch was chosen: `validation`, or `validation (mean3)` for another rule."""
    return score["selected_on"] + (f" ({rule})" if (rule := score.get("select_rule")) else "")


def attack_title(score: dict[str, Any]) -> str:
    """Return the name of the accuracy `autoattack`: only version `standard` is called AutoAttack."""
    version = score["version"]
    return "AutoAttack" if version == "standard" else f"upper bound ({version}, not AutoAttack)"
