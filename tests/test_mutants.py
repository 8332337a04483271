"""The planted bugs still are bugs in this code, and (by hand: it takes hours) each is found by a test."""

from __future__ import annotations

from functools import cache

import pytest
from mutants import MUTANTS, ROOT, killer


def test_every_planted_bug_has_one_place_to_go():
    text_of = cache(lambda file: (ROOT / "rb_smooth" / file).read_text())
    found = {mutant.bug: text_of(mutant.file).count(mutant.old) for mutant in MUTANTS}
    assert not {bug: count for bug, count in found.items() if count != 1}


def test_every_planted_bug_changes_something():
    assert not [mutant.bug for mutant in MUTANTS if mutant.new == mutant.old]


@pytest.mark.manual
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_planted_bug_makes_a_test_fail(mutant):
    assert killer(mutant) is not None
