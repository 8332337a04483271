"""The cost of a board grows in proportion to its entries: counted, not timed."""

from __future__ import annotations

import pytest
from fake_entries import make_entry

from rb_smooth.config import yaml
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.entries import list_entries
from rb_smooth.leaderboard.reports.paper_tables import as_csv, build_tables
from rb_smooth.training.sweep import comparison


def count_calls(monkeypatch, module, name):
    """The list to which each later call of the module's function adds its arguments."""
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given, **named: (calls.append(given), real(*given, **named))[1])
    return calls


def methods_of(folder, methods, seeds=3):
    for number in range(methods):
        for seed in range(seeds):
            make_entry(
                folder,
                f"at_net_s{seed}_{number:06x}",
                autoattack=0.4 + number / 10**3 + seed * (number % 7) / 10**5,
                recipe={"train": {"epochs": 200, "seed": seed}},
            )
    return list_entries(folder)[0]


@pytest.mark.parametrize("methods", [51, 102])
def test_a_table_of_many_methods_tests_only_the_best_two(tmp_path, monkeypatch, methods):
    tested = count_calls(monkeypatch, comparison, "paired_t_test")
    entries = methods_of(tmp_path, methods)
    (table,) = build_tables(entries)
    assert len(tested) == 1
    assert [row["best"] for row in table["rows"]].count(True) <= 1
    assert len(as_csv(entries).splitlines()) == methods + 1


def test_the_best_of_many_methods_is_marked_only_where_every_correction_would(tmp_path):
    results = [
        comparison.RunResult(f"m{number}", seed, score(0.4 + number / 10**4 + (seed - 1) * spread))
        for number, spread in [*((number, 0.001 + number / 10**5) for number in range(51)), (2000, 0.00101)]
        for seed in range(3)
    ]
    (every,) = comparison.compare_methods(results)
    (few,) = comparison.compare_methods(results, all_pairs=False)
    (test,) = few["differences"]
    same = next(each for each in every["differences"] if (each["method"], each["minus"]) == ("m2000", test["minus"]))
    assert test["p"] == same["p"]
    assert same["p"] < same["p_holm"] <= test["p_holm"] == pytest.approx(51 * 52 / 2 * test["p"])
    assert few["methods"] == every["methods"]


def score(autoattack):
    return {
        "clean": 0.8,
        "pgd20": 0.5,
        "autoattack": autoattack,
        "last": {"pgd20": 0.5},
        "threat": {"norm": "Linf", "eps": 8 / 255, "step_size": 2 / 255},
        "n": 100,
        "version": "standard",
        "fingerprint": "f",
        "selected_on": "validation",
        "title": "at",
    }


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 1000, "- " * 5000, f"[&a 1{', *a' * 21}]"])
def test_nested_and_repeated_yaml_is_refused_before_it_is_composed(text):
    with pytest.raises(UserError, match="more than 20 aliases or 50 levels"):
        yaml.parse_yaml(text, "here")
