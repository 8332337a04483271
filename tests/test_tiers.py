"""What `make test` tries of many values: those that are chosen, or so many that every two of them meet."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from tiers import mark_slow_except, pairwise


def test_every_two_values_of_a_product_meet_in_fewer_of_it():
    whole = list(product("abcd", "ef", "ghi", "jk"))
    some = pairwise(whole)
    for one, other in combinations(range(4), 2):
        assert {(each[one], each[other]) for each in some} == {(each[one], each[other]) for each in whole}
    assert set(some) <= set(whole)
    assert len(some) < len(whole) / 3


def test_what_is_not_chosen_is_slow():
    first, second, third = mark_slow_except(["b"], "abc")
    assert second == "b"
    for each, value in ((first, "a"), (third, "c")):
        assert each.values == (value,)
        assert [mark.name for mark in each.marks] == ["slow"]
    chosen, other = mark_slow_except([("a", 1)], [("a", 1), ("b", 2)], parameters=2)
    assert (chosen, other.values) == (("a", 1), ("b", 2))


def test_a_choice_that_is_no_value_is_a_fault():
    with pytest.raises(AssertionError, match="expected some of"):
        mark_slow_except(["d"], "abc")
