"""The precision benchmark: differences are paired by seed, and each run has its precision and layout."""

from __future__ import annotations

import precision
import pytest
from scipy.stats import ttest_rel


def test_the_interval_is_that_of_a_paired_t_test():
    one, other = [0.91, 0.84, 0.75, 0.8], [0.85, 0.84, 0.78, 0.73]
    found = precision.paired_interval(one, other)
    low, high = ttest_rel(one, other).confidence_interval(0.95)
    assert found == {"mean": pytest.approx(0.025), "low": pytest.approx(low), "high": pytest.approx(high)}


@pytest.mark.slow
def test_a_run_has_its_precision_and_layout(monkeypatch):
    trainers = []
    real = precision.on_digits
    monkeypatch.setattr(precision, "on_digits", lambda *a, **k: trainers.append(real(*a, **k)) or trainers[-1])
    for form in (precision.PLAIN, precision.NARROW):
        found = precision.train_run("at", 0, form, 1)
        assert 0 <= found["pgd20"] <= found["clean"] <= 1
    assert [trainer.precision for trainer in trainers] == ["fp32", "bf16"]
    kernels = [trainer.model.net[1].conv2.weight for trainer in trainers]
    assert [kernel.is_contiguous() for kernel in kernels] == [True, False]
