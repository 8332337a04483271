"""Stored adversarial examples are verified; points.csv has the outcome of each point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rb_smooth.core.threat import Threat
from rb_smooth.data.images import Images
from rb_smooth.evaluation.autoattack import AutoAttackResult
from rb_smooth.evaluation.per_example import Examples, points_csv, verify_examples


def kept_examples(threat):
    """Three images, each moved to the edge of the ball."""
    x = np.full((3, 1, 2, 2), 51, np.uint8)  # 0.2
    step = threat.eps if threat.norm == "Linf" else threat.eps / 2  # of four pixels
    label = np.array([0, 1, 2])
    return Examples(np.arange(3), label, label, label + 1, x, (x / 255 + step).astype(np.float32))


@pytest.mark.parametrize("threat", [Threat("Linf", 0.1, 0.02), Threat("L2", 0.1, 0.02)], ids=["Linf", "L2"])
def test_examples_are_in_the_ball_in_range_and_misclassified(threat):
    sound = kept_examples(threat)
    assert verify_examples(sound, threat)[1:] == ("passed", "3 of 3 kept are in the ball, in [0, 1] and misclassified")
    far, right = sound.x_adv.copy(), sound.adversarial_prediction.copy()
    far[1] += 0.01
    right[2] = 2
    negative = replace(sound, x=np.zeros_like(sound.x), x_adv=np.zeros_like(sound.x_adv) - 0.01)
    assert verify_examples(replace(sound, x_adv=far), threat)[1:2] == ("unreliable",)
    assert verify_examples(replace(sound, adversarial_prediction=right), threat).found.startswith("2 of 3")
    assert verify_examples(negative, threat).found.startswith("0 of 3")
    none = Examples(*(array[:0] for array in vars(sound).values()))
    assert verify_examples(none, threat).verdict == "skipped"


def result(robust, broken_by, margin):
    values = torch.tensor(robust), torch.tensor(broken_by), torch.tensor(margin)
    return AutoAttackResult(values[0], 0.5, {}, values[1], values[2], 1.0, [], {})


def test_every_point_has_a_row_with_the_attack_that_broke_it():
    points = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 3]))
    found = result([True, False, False, False], [-1, 1, -1, -1], [0.5, -0.25, float("nan"), float("nan")])
    given = torch.tensor([0, 1, 0, 3])  # the third is wrong unattacked; the fourth fell to PGD-20 before `quick`
    header, *rows = points_csv(points, given, found, "quick").splitlines()
    assert header == "index,label,clean_prediction,broken_by,margin"
    assert rows == ["0,0,0,,0.5", "1,1,1,apgd-t,-0.25", "2,2,0,clean,", "3,3,3,pgd-20,"]
    *_, last = points_csv(points, given, found, "standard").splitlines()
    assert last == "3,3,3,clean,"  # whose protocol knows of no PGD-20
