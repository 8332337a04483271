"""The planted bugs still are bugs in this code, and (slowly) each is found by a test."""

from __future__ import annotations

import pytest
from mutants import MUTANTS, ROOT, killer


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_planted_bug_has_one_place_to_go(mutant):
    assert (ROOT / "rb_smooth" / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_planted_bug_makes_a_test_fail(mutant):
    assert killer(mutant) is not None
