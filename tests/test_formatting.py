"""Numbers and errors as text."""

import pytest

from rb_smooth.core.errors import first_line
from rb_smooth.core.formatting import counted, duration, percent, percent_with_std, percentage_points


def test_a_noun_is_in_the_plural_but_for_one():
    assert [counted(number, "epoch") for number in (0, 1, 40)] == ["0 epochs", "1 epoch", "40 epochs"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(-3, "0 ms"), (0.0004, "0 ms"), (0.0843, "84 ms"), (1, "1.0 s"), (9.96, "10 s"), (59, "59 s")],
        *[(60, "1.0 min"), (725, "12 min"), (3600, "1.0 h"), (5.44 * 3600, "5.4 h"), (86400 * 40, "40 d")],
    ],
)
def test_a_duration_is_given_in_the_largest_unit_that_fits_once(seconds, text):
    assert duration(seconds) == text


def test_shares_are_given_in_percent_and_a_missing_one_is_empty():
    assert (percent(0.521), percent(0.521, 1), percent(None)) == ("52.10", "52.1", "")
    assert (percentage_points(0.012), percentage_points(-0.0123, 1), percentage_points(None)) == ("+1.20", "-1.2", "")
    assert (percent_with_std(0.521, 0.0031), percent_with_std(0.521, None)) == ("52.10 ± 0.31", "52.10")


def test_an_error_is_told_by_its_first_line_or_by_its_type():
    assert [first_line(error) for error in (ValueError("one\ntwo"), ValueError("\n one"), ValueError())] == [
        "one",
        "one",
        "ValueError",
    ]
