"""The comparison of precisions: paired by seed, and a run in each form."""

from __future__ import annotations

import precision
import pytest
from scipy.stats import ttest_rel


def test_the_interval_is_students_of_the_paired_differences():
    one, other = [0.91, 0.84, 0.75, 0.8], [0.85, 0.84, 0.78, 0.73]
    found = precision.paired_interval(one, other)
    low, high = ttest_rel(one, other).confidence_interval(0.95)
    assert found == {"mean": pytest.approx(0.025), "low": pytest.approx(low), "high": pytest.approx(high)}


@pytest.mark.slow
def test_a_run_computes_in_the_form_that_it_is_to_show(monkeypatch):
    trainers = []
    real = precision.Trainer
    monkeypatch.setattr(precision, "Trainer", lambda *given: trainers.append(real(*given)) or trainers[-1])
    for form in (precision.PLAIN, precision.NARROW):
        found = precision.train_run(precision._digits(), "at", 0, form, 1)
        assert 0 <= found["pgd20"] <= found["clean"] <= 1
    assert [trainer.precision for trainer in trainers] == ["fp32", "bf16"]
    kernels = [trainer.model.net[1].conv2.weight for trainer in trainers]
    assert [kernel.is_contiguous() for kernel in kernels] == [True, False]
