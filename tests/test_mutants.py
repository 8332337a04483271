"""Each mutant's text occurs once in the package, and (by hand, for hours) a test fails on each mutant."""

from __future__ import annotations

from functools import cache

import pytest
from mutants import MUTANTS, ROOT, first_failure


def test_the_text_of_every_mutant_occurs_once():
    text_of = cache(lambda file: (ROOT / "rb_smooth" / file).read_text())
    found = {mutant.bug: text_of(mutant.file).count(mutant.old) for mutant in MUTANTS}
    assert not {bug: count for bug, count in found.items() if count != 1}


def test_every_mutant_changes_the_text():
    assert not [mutant.bug for mutant in MUTANTS if mutant.new == mutant.old]


def test_the_tests_of_every_mutant_exist():
    assert not {name for mutant in MUTANTS for name in mutant.tests if not (ROOT / "tests" / name).exists()}


@pytest.mark.manual
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_test_fails_on_the_mutant(mutant):
    assert first_failure(mutant) is not None
