"""Rules that choose the best epoch: the study's, and the table written from it."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import selection_rules
from epoch_rules import PLAIN, RULES
from learning_curves import STORED_CURVES
from selection_rules import IMAGES, Curve, curve_table, digits_curves, measured, rule_table, verdicts

from rb_smooth.core import files

STARTS, EPOCHS, N = (0, 5, 9, 10), 12, 50


def as_printed(rule: str, counts: list[int], starts: tuple[int, ...] = STARTS, n: int = N) -> int:
    """The rule by loops over the epochs of one draw."""
    stage = [max(k for k, start in enumerate(starts) if start <= t) for t in range(len(counts))]

    def mean(t: int, weights: dict[int, int]) -> float:
        inside = {d: w for d, w in weights.items() if 0 <= t + d < len(counts) and stage[t + d] == stage[t]}
        return sum(w * counts[t + d] for d, w in inside.items()) / sum(inside.values())

    def within(t: int, errors: float) -> bool:
        p = max(counts) / n
        return counts[t] / n >= p - errors * sqrt(p * (1 - p) / n) - 1e-12

    epochs = range(len(counts))
    whole = [t for t in epochs if {t - 1, t + 1} <= set(epochs) and stage[t - 1] == stage[t] == stage[t + 1]]
    three, first = {-1: 1, 0: 1, 1: 1}, counts.index(max(counts))
    return {
        "maximum": lambda: first,
        "maximum-later": lambda: max(epochs, key=lambda t: (counts[t], t)),
        "mean3": lambda: max(epochs, key=lambda t: mean(t, three)),
        "mean3-whole": lambda: max(whole, key=lambda t: mean(t, three)),
        "mean121": lambda: max(epochs, key=lambda t: mean(t, {**three, 0: 2})),
        "mean5": lambda: max(epochs, key=lambda t: mean(t, dict.fromkeys(range(-2, 3), 1))),
        "trailing3": lambda: max(epochs, key=lambda t: mean(t, {-2: 1, -1: 1, 0: 1})),
        "latest": lambda: max(t for t in epochs if within(t, 1)),
        "latest-half": lambda: max(t for t in epochs if within(t, 0.5)),
        "latest-stage": lambda: max(t for t in epochs if within(t, 1) and stage[t] == stage[first]),
        "last": lambda: len(counts) - 1,
    }[rule]()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_the_study_is_what_its_title_says(rule):
    counts = np.random.default_rng(0).binomial(N, 0.8, (300, EPOCHS))
    chosen = RULES[rule].choose(counts, STARTS, N)
    assert chosen.tolist() == [as_printed(rule, row) for row in counts.tolist()]


def test_without_noise_the_maximum_loses_nothing_and_rules_are_compared_in_the_same_draws():
    curve = Curve("a", "authors", "AT", np.array([0.0, 1.0, 0.0, 1.0]), (0,))
    (row, _) = measured([curve], draws=10, seed=0)["rows"]
    assert row["to_best"][PLAIN] == row["to_best"]["last"] == [0, 0]
    level = Curve("b", "authors", "AT", np.full(6, 0.5), (0,))
    assert all(each == [0, 0] for each in measured([level], draws=10, seed=0)["rows"][0]["to_maximum"].values())


def test_the_default_stays_since_no_rule_passes_on_every_curve_with_both_numbers_of_images():
    record = files.read_json(selection_rules.STORED)
    cases = [(images, family) for images in IMAGES for family in ("authors", "digits")]
    assert not [rule for rule in RULES if all(verdicts(record, rule, *case)["passes"] for case in cases)]


def test_the_tables_of_the_document_are_those_of_the_stored_figures():
    record = files.read_json(selection_rules.STORED)
    text = Path(selection_rules.DOCUMENT).read_text(encoding="utf-8")
    scatter = selection_rules.scatter_sentence(list(digits_curves(STORED_CURVES / "digits.csv")))
    for name, lines in (("rules", rule_table(record)), ("curves", curve_table(record)), ("scatter", [scatter])):
        assert files.replace_between(text, name, list(lines), "the document") == text
