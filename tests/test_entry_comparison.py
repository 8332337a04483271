"""Differences between models with intervals and p-values, ranks among the published, the report of one entry."""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
import sys

import pytest
from fake_entries import SCORE, add_points, make_entry, rendered
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency, multinomial

from rb_smooth.core import statistics
from rb_smooth.core.errors import UserError
from rb_smooth.core.statistics import PairedCounts, holm_correction
from rb_smooth.evaluation import per_example
from rb_smooth.leaderboard import entries, metadata
from rb_smooth.leaderboard.page import reference_models
from rb_smooth.leaderboard.reports import comparison, ranking
from rb_smooth.leaderboard.reports.entry_report import loading_code, render_entry_report, render_report
from rb_smooth.leaderboard.reports.lookup import find_models
from rb_smooth.leaderboard.reports.ranking import place_entry
from rb_smooth.leaderboard.reports.rows import own_row, published_rows

COUNTS = st.builds(PairedCounts, *[st.integers(0, 40)] * 4).filter(lambda pairs: pairs.n > 0)

# ---- intervals and tests


def test_paired_test_and_interval_match_fagerland():
    pairs = PairedCounts(59, 6, 16, 80)  # Cavo et al. 2012, in Fagerland, Lydersen and Laake's book
    assert statistics.mcnemar_test(pairs) == pytest.approx(0.052479, abs=5e-7)
    assert statistics.tango_interval(pairs) == pytest.approx((-0.1240, -0.0054), abs=5e-5)


def test_equal_models_have_no_difference_but_an_interval():
    assert statistics.mcnemar_test(PairedCounts(3, 0, 0, 7)) == 1.0
    low, high = statistics.tango_interval(PairedCounts(30, 0, 0, 20))
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.1


@pytest.mark.parametrize(
    ("counts", "printed_interval"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_unpaired_interval_matches_newcombe(counts, printed_interval):
    a, m, b, n = counts
    assert statistics.newcombe_interval(a / m, m, b / n, n) == pytest.approx(printed_interval, abs=5e-5)


@given(st.integers(1, 200), st.data())
@settings(max_examples=30)
def test_wilson_interval_matches_scipy(n, data):
    right = data.draw(st.integers(0, n))
    theirs = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert statistics.wilson_interval(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_unpaired_test_is_pearson_without_continuity_correction():
    table = [[56, 14], [48, 32]]
    assert statistics.two_proportion_test(56 / 70, 70, 48 / 80, 80) == pytest.approx(
        chi2_contingency(table, correction=False).pvalue
    )
    assert statistics.two_proportion_test(1.0, 10, 1.0, 20) == 1.0


@given(COUNTS)
@settings(max_examples=60)
def test_swapping_the_models_changes_only_the_sign(pairs):
    swapped = pairs._replace(only_one=pairs.only_other, only_other=pairs.only_one)
    low, high = statistics.tango_interval(pairs)
    assert statistics.tango_interval(swapped) == pytest.approx((-high, -low), abs=1e-9)
    assert statistics.mcnemar_test(swapped) == pytest.approx(statistics.mcnemar_test(pairs))
    found = (pairs.only_one - pairs.only_other) / pairs.n
    assert -1 <= low <= found + 1e-9
    assert found - 1e-9 <= high <= 1
    assert low < high


@given(COUNTS)
@settings(max_examples=60)
def test_tango_interval_excludes_zero_where_the_score_test_rejects(pairs):
    b, c = pairs.only_one, pairs.only_other
    z = (b - c) / math.sqrt(b + c) if b + c else 0.0  # under no difference the score test is McNemar's own
    low, high = statistics.tango_interval(pairs)
    if abs(abs(z) - statistics.Z) > 1e-6:
        assert (abs(z) > statistics.Z) == (low > 0 or high < 0)


@pytest.mark.parametrize("cells", [(0.1, 0.1), (0.2, 0.1), (0.05, 0.02), (0.3, 0.05)])
def test_paired_interval_has_95_percent_coverage(cells):
    n, (only_one, only_other) = 30, cells
    covered = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = multinomial.pmf([b, c, n - b - c], n, [only_one, only_other, 1 - only_one - only_other])
            if chance > 1e-7:
                low, high = statistics.tango_interval(PairedCounts(n - b - c, b, c, 0))
                covered += chance * (low <= only_one - only_other <= high)
    assert 0.935 <= covered <= 0.99  # conservative where two points in thirty differ


# ---- two entries


def differences(one, other):
    return comparison.differences(*map(own_row, (one, other)))


def table(*entries):
    return rendered(comparison.comparison_table([place_entry(entry) for entry in entries]))


def pair(folder, **changed):
    """Two entries of 200 points that differ on 30, of which the first is right on 24."""
    stood = [True] * 70 + [True] * 24 + [False] * 6 + [False] * 100
    other = [True] * 70 + [False] * 24 + [True] * 6 + [False] * 100
    one = add_points(make_entry(folder, "one", n=200, autoattack=0.47, official=False), stood)
    return one, add_points(
        make_entry(folder, "two", **{"n": 200, "autoattack": 0.38, "official": False} | changed), other
    )


def test_entries_with_points_are_compared_point_by_point(tmp_path):
    found = differences(*pair(tmp_path))
    figure = found["figures"]["autoattack"]
    assert found["apart"] == []
    assert figure["pairs"] == {"both": 70, "only_one": 24, "only_other": 6, "neither": 100}
    assert figure["difference"] == pytest.approx(0.09)
    assert figure["p"] == pytest.approx(binomtest(24, 30).pvalue)
    assert (figure["low"], figure["high"]) == pytest.approx(statistics.tango_interval(PairedCounts(70, 24, 6, 100)))
    assert found["figures"]["clean"]["difference"] == 0.0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_points_shares_are_compared_with_wider_intervals(tmp_path):
    one, two = pair(tmp_path)
    paired = differences(one, two)["figures"]["autoattack"]
    two.points.unlink()
    found = differences(one, two)
    figure = found["figures"]["autoattack"]
    assert (figure["kind"], figure["pairs"], found["notes"]) == ("same points", None, [])
    assert figure["difference"] == pytest.approx(paired["difference"])
    assert figure["high"] - figure["low"] > 1.5 * (paired["high"] - paired["low"])
    assert figure["p"] > paired["p"]
    assert "models tend to fail on the same ones" in table(one, two)


def test_a_damaged_points_file_is_reported_and_shares_are_compared(tmp_path):
    one, two = pair(tmp_path)
    two.points.write_text(two.points.read_text().replace("apgd-ce", "apgd-xx", 1))
    found = differences(one, two)
    assert found["figures"]["autoattack"]["kind"] == "same points"
    assert str(two.points) in found["notes"][0]
    assert found["notes"][0] in table(one, two)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"n": 100}, f"test points: 200 (SHA-256 {'f' * 12}…) and 100 (SHA-256 {'f' * 12}…)"),
        ({"fingerprint": "e" * 64}, f"test points: 200 (SHA-256 {'f' * 12}…) and 200 (SHA-256 {'e' * 12}…)"),
        ({"seed": 1}, "seed: 0 and 1"),
        ({"batch_size": 500}, "batch size: 200 and 500"),
        ({"version": "quick"}, "attack: AutoAttack and quick"),
        ({"threat": SCORE["threat"] | {"eps": 0.031}}, "eps: 8/255 and 0.031"),
        ({"threat": SCORE["threat"] | {"norm": "L2"}}, "norm: Linf and L2"),
    ],
)
def test_other_protocols_are_not_ranked_and_the_difference_is_shown(tmp_path, changed, why):
    one, two = pair(tmp_path, **changed)
    if "n" in changed:
        two.points.unlink()
    found = differences(one, two)
    assert why in found["apart"]
    text = table(one, two)
    ranked = bool(changed.keys() & {"seed", "batch_size"})  # they make no other quantity
    said = "ranked together" if ranked else "not ranked together"
    assert re.search(rf"^{said}: one and two differ in {re.escape('; '.join(found['apart']))}$", text, re.M)
    assert re.search(r"^ *1 +one " if ranked else r"^ *– +one ", text, re.M)
    of_one_thing = not {"version", "threat"} & changed.keys()
    assert (found["figures"]["autoattack"] is not None) == of_one_thing
    if of_one_thing:
        kind = "other points" if changed.keys() & {"n", "fingerprint"} else "paired"
        assert found["figures"]["autoattack"]["kind"] == kind
    assert ("difference in points" in text) == of_one_thing


def test_equal_protocols_are_ranked_and_p_is_holm_corrected(tmp_path):
    one, two = pair(tmp_path)
    third = make_entry(tmp_path, "three", n=200, autoattack=0.30, official=False)
    text = table(third, two, one)
    assert [line.split()[:2] for line in text.splitlines() if re.match(r" *\d ", line)] == [
        ["1", "one"],
        ["2", "two"],
        ["3", "three"],
    ]
    p = [differences(*models)["figures"]["autoattack"]["p"] for models in ((one, two), (one, third), (two, third))]
    for each, corrected in zip(p, holm_correction(p)):
        assert re.search(rf" {re.escape(f'{each:.2g}')} +{re.escape(f'{corrected:.2g}')} ", text)
    assert "24 : 6" in text


def test_other_data_sets_have_no_difference(tmp_path):
    found = differences(make_entry(tmp_path, "one"), make_entry(tmp_path, "two", dataset="svhn"))
    assert found["figures"] == {"clean": None, "autoattack": None}


def test_selection_on_test_and_unreliable_are_marked(tmp_path):
    chosen = make_entry(tmp_path, "one", selected_on="test")
    doubted = make_entry(tmp_path, "two", metadata={"unreliable": True})
    text = table(chosen, doubted)
    assert "one (selected on test)" in text
    assert "two (unreliable)" in text


# ---- among the published


def test_published_entries_are_compared_by_shares_and_eps_0031_is_not_ranked(tmp_path):
    rows = {row.name: row for row in published_rows("cifar10", "Linf")}
    mine = own_row(make_entry(tmp_path, "mine", autoattack=0.55))
    same = comparison.differences(mine, rows["Wu2020Adversarial"])
    assert same["apart"] == []
    figure = same["figures"]["autoattack"]
    assert figure["difference"] == pytest.approx(0.55 - rows["Wu2020Adversarial"].robust)
    assert (figure["low"], figure["high"]) == pytest.approx(statistics.newcombe_interval(0.55, 10_000, 0.5617, 10_000))
    other = comparison.differences(mine, rows["Zhang2019Theoretically"])
    assert other["apart"] == ["eps: 8/255 and 0.031"]
    assert other["figures"]["autoattack"] is None
    unofficial = own_row(make_entry(tmp_path, "unofficial", official=False))
    (why,) = comparison.differences(unofficial, rows["Wu2020Adversarial"])["apart"]
    assert why == "test points: 10000 (SHA-256 ffffffffffff…) and the official 10000"


def test_rounded_eps_equals_exact_eps(tmp_path):
    near = make_entry(tmp_path, "near", threat=SCORE["threat"] | {"eps": 0.0313725490196})
    assert differences(make_entry(tmp_path, "one"), near)["apart"] == []


def test_positions_among_all_with_equal_data_in_the_family_and_both_count_published_and_ours(tmp_path):
    other = make_entry(tmp_path, "other", autoattack=0.6)
    mine = make_entry(tmp_path, "mine", autoattack=0.53, interval=[0.52, 0.54])
    row, board = place_entry(mine)
    rows = [each for each in board.groups[0].rows if each is not row]
    assert other.name in {each.name for each in rows}
    found = ranking.position(row, board)
    assert found["unranked"] == ""
    everyone, plain, kin, plain_kin = found["places"]
    for place, members in (
        (everyone, rows),
        (plain, [each for each in rows if not each.extra_data]),
        (kin, [each for each in rows if each.architecture in ("ResNet-18", "PreActResNet-18")]),
    ):
        better = [each.best_known for each in members if each.best_known > 0.53]
        assert (place["rank"], place["of"]) == (len(better) + 1, len(members) + 1)
        assert place["above"]["best_known"] == min(better)
        assert place["below"]["best_known"] == max(each.best_known for each in members if each.best_known <= 0.53)
        assert place["ranks"] == [1 + sum(each.best_known > end for each in members) for end in (0.54, 0.52)]
    assert plain_kin["of"] < kin["of"]
    assert not plain_kin["above"]["extra_data"]
    assert json.loads(json.dumps(found)) == found
    text = rendered(ranking.position_table(row, board))
    assert everyone["above"]["name"] in text
    assert found["date"] in text


def test_page_show_compare_and_submit_say_one_rank(tmp_path):
    entries_ = [make_entry(tmp_path, name, autoattack=value) for name, value in (("a", 0.56), ("b", 0.55), ("c", 0.55))]
    row, board = place_entry(entries_[1])
    of = len(board.groups[0].rows)
    said = f"{row.rank} of {of} models"
    assert said in reference_models.rank_sentence(row, board)
    assert f"b: rank {said}" in table(*entries_)
    assert re.search(rf"^ *{row.rank} +b ", table(*entries_), re.M)
    assert re.search(rf"^ *models +{row.rank} +{of} ", rendered(render_entry_report(entries_[1])), re.M)
    assert re.search(rf"^ *{row.rank} +b ", rendered(ranking.ranking_table(entries_[1])), re.M)
    assert row.rank == place_entry(entries_[2])[0].rank
    for each in board.groups[0].rows:
        assert ranking.position(each, board)["places"][0]["rank"] == each.rank
    assert row.rank == 1 + sum(each.best_known > 0.55 for each in board.groups[0].rows)


def test_entries_without_published_ones_are_ranked_among_ours(tmp_path):
    mine, _ = (make_entry(tmp_path, name, dataset="digits", autoattack=a) for name, a in (("a", 0.5), ("b", 0.6)))
    text = rendered(ranking.position_table(*place_entry(mine)))
    assert "published entries not ranked: RobustBench has no board digits Linf" in text
    assert ranking.position(*place_entry(mine))["places"][0]["above"]["name"] == "b"


def test_published_models_are_found_shown_and_compared_without_a_folder(tmp_path):
    ((row, board),) = find_models(["Wu2020Adversarial"], tmp_path / "none")
    text = rendered(render_report(row, board))
    assert "best known robust accuracy" in text
    assert re.search(rf"^ *models +{row.rank} +{len(board.group_of(row).rows)} ", text, re.M)
    assert "load_model('Wu2020Adversarial', dataset='cifar10', threat_model='Linf')" in text
    pair = find_models(["Wu2020Adversarial", "Rebuffi2021Fixing_70_16_cutmix_extra"], tmp_path / "none", threat="Linf")
    compared = rendered(comparison.comparison_table(pair))
    assert "difference in points" in compared
    assert f"Wu2020Adversarial: rank {row.rank} of" in compared
    assert set(comparison.compare_entries(pair)["positions"]) == {each.name for each, _ in pair}
    with pytest.raises(UserError, match="Wu2020Adversarial"):
        find_models(["Wu2020Adversaria"], tmp_path)


def test_a_name_of_several_boards_is_taken_on_that_of_the_first_or_must_be_told(tmp_path):
    for threat in ("Linf", "L2"):
        make_entry(tmp_path, "both", threat=SCORE["threat"] | {"norm": threat, "eps": 0.5})
    make_entry(tmp_path, "one", threat=SCORE["threat"] | {"norm": "L2", "eps": 0.5})
    with pytest.raises(UserError, match="one in each of cifar10 L2, cifar10 Linf; say --dataset and --threat"):
        find_models(["both"], tmp_path)
    assert find_models(["one", "both"], tmp_path)[1][0].threat == "L2"
    assert find_models(["both"], tmp_path, threat="Linf")[0][0].threat == "Linf"


def test_only_what_we_trained_is_ours(tmp_path):
    mine = make_entry(tmp_path, "mine")
    theirs = make_entry(tmp_path, "theirs", autoattack=0.6, own={"origin": {"checkpoint": "net.pt", "sha256": "ab"}})
    assert [own_row(entry).whose for entry in (mine, theirs)] == ["ours", "external"]
    assert "theirs (external)" in rendered(ranking.ranking_table(mine))
    _, board = place_entry(mine)
    assert reference_models.headline(board).startswith("Our best, mine,")


def test_the_first_has_no_model_above(tmp_path):
    found = ranking.position(*place_entry(make_entry(tmp_path, "mine", autoattack=0.9, interval=[0.89, 0.91])))
    assert found["places"][0]["above"] is None
    assert found["places"][0]["ranks"] == [1, 1]
    assert "none" in rendered(
        ranking.position_table(*place_entry(make_entry(tmp_path, "mine", autoattack=0.9, interval=[0.89, 0.91])))
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"official": False}, "official"),
        ({"version": "quick"}, "attack: quick and AutoAttack"),
        ({"dataset": "digits"}, "no board"),
    ],
)
def test_unranked_entries_have_a_reason(tmp_path, changed, why):
    mine = make_entry(tmp_path, "mine", **changed)
    assert why in ranking.position(*place_entry(mine))["unranked"]
    assert ranking.position(*place_entry(mine))["places"] == []
    assert why in rendered(ranking.position_table(*place_entry(mine)))


@pytest.mark.parametrize(
    ("architecture", "kin"),
    [
        ("PreActResNet-18", "ResNet-18"),
        ("ResNet-18", "ResNet-18"),
        ("WideResNet-34-10", "WideResNet-34-10"),
        ("WideResNet-28-10-PSSiLU", None),
        ("MeanSparse WideResNet-94-16", None),
    ],
)
def test_architecture_families(architecture, kin):
    assert metadata.architecture_family(architecture) == kin


def test_two_seeds_of_a_method_come_with_a_warning(tmp_path):
    seeds = [make_entry(tmp_path, f"at_resnet18_s{seed}", autoattack=0.5 + seed / 100) for seed in range(3)]
    other = make_entry(tmp_path, "at+awp_resnet18_s0")
    warning = "warning: two seeds of a method"
    assert warning in table(*seeds[:2], other)
    assert warning not in table(*seeds)
    assert warning not in table(seeds[0], other)


def test_a_selection_rule_is_said_of_a_model_and_of_its_neighbours(tmp_path):
    by_mean = make_entry(tmp_path, "by_mean", autoattack=0.5001, select_rule="mean3")
    mine = make_entry(tmp_path, "mine")
    said = rendered(ranking.position_table(*place_entry(by_mean)))
    assert "by_mean (selected by mean3) on the board" in said
    said = " ".join(rendered(ranking.position_table(*place_entry(mine))).split())
    assert ranking.position(*place_entry(mine))["places"][0]["above"]["select_rule"] == "mean3"
    assert "mean3" in said


def test_a_single_entry_is_compared_with_its_neighbours(tmp_path):
    mine = make_entry(tmp_path, "mine")
    text = table(mine)
    above = ranking.position(*place_entry(mine))["places"][0]["above"]["name"]
    assert text.count(above) >= 2
    assert "difference in points" in text


# ---- one entry


def test_the_report_of_an_entry(tmp_path):
    flags = [True] * 50 + [False] * 50
    mine = add_points(make_entry(tmp_path, "mine", n=100, whole=False), flags, correct=[True] * 80 + [False] * 20)
    text = rendered(render_entry_report(mine))
    for expected in ("50.00 % (95 % interval 49.00 to 51.00)", "1.5 h", "2.0 h", "eps: 8/255", "deterministic", "2.0"):
        assert expected in text, expected
    assert re.search(r"misclassified +20 +80.00%", text)
    assert re.search(r"apgd-ce +30 +55.00%", text)  # counts from points.csv, not from the shares
    assert "points broken from points.csv" in text
    assert f"{mine.weights}(missing)" in "".join(text.split())  # a long path wraps


def test_the_report_without_points_uses_shares_and_a_damaged_file_is_reported(tmp_path):
    mine = make_entry(tmp_path, "mine", version="quick")
    text = rendered(render_entry_report(mine))
    assert "AutoAttack " not in text.replace("not AutoAttack)", "")
    for name, count in (("misclassified", 2000), ("PGD-20", 2000), ("apgd-ce", 500), ("apgd-t", 500)):
        assert re.search(rf"{name} +{count} ", text)
    add_points(mine, [True, False])
    said = "".join(rendered(render_entry_report(mine)).split())
    assert "".join(f"not used: expected the entry's test points in {mine.points}, got 2 points".split()) in said


def test_the_report_of_a_checkpoint_with_missing_fields(tmp_path):
    mine = make_entry(
        tmp_path,
        "mine",
        own={"origin": {"checkpoint": "net.pt", "sha256": "ab"}, "recipe": {"data": {}, "evaluate": {}}},
    )
    for absent in ("last", "training", "selected_on", "checks", "seconds"):
        del mine.own["score"][absent]
    text = rendered(render_entry_report(mine))
    assert "net.pt" in text
    assert "checks: none recorded" in text
    assert "2.0 h" in text  # the sum over its attacks


def test_loading_code_is_valid_python_for_any_folder(tmp_path):
    lines = loading_code(make_entry(tmp_path / 'it\'s "mine"', "mine"))
    strings = [node.value for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Constant)]
    assert str(tmp_path / 'it\'s "mine"') in strings


# ---- points.csv


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("margin", "gap", "header"),
        ("0,3,3,,0.25\n", "", "1 points"),
        ("0,3,3,,0.25", "0,3,3,magic,0.25", "line 2"),
        ("0,3,3,,0.25", "0,3,3,", "4 cells in line 2"),
        ("0,3,3,,0.25", "0,x,3,,0.25", "line 2"),
        ("0,3,3,,0.25", "0,3,3,,nan", "line 2"),
        ("0,3,3,,0.25", "0,3,3,square,0.25", "0 robust points"),
    ],
)
def test_damaged_points_raise_with_the_path(tmp_path, old, new, found):
    mine = add_points(make_entry(tmp_path, "mine", n=2, autoattack=0.5), [True, False])
    assert per_example.counts_by_attack(entries.read_per_example_results(mine)) == {"apgd-ce": 1}
    text = mine.points.read_text()
    assert old in text
    mine.points.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=found) as refused:
        entries.read_per_example_results(mine)
    assert str(mine.points) in str(refused.value)


def test_binary_points_raise_and_missing_points_are_none(tmp_path):
    mine = make_entry(tmp_path, "mine")
    assert entries.read_per_example_results(mine) is None
    mine.points.parent.mkdir(parents=True)
    mine.points.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"mine\.csv"):
        entries.read_per_example_results(mine)


def test_reports_do_not_import_torch():
    reports = ("comparison", "ranking", "entry_report", "latex", "bundle")
    modules = ", ".join(f"rb_smooth.leaderboard.reports.{name}" for name in reports)
    code = f"import {modules}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def class_of(folder, dataset, label, **score):
    return metadata.class_name(metadata.class_names(make_entry(folder, "mine", dataset=dataset, **score)), label)


def test_names_in_reports_are_readable(tmp_path):
    for stored in ("SmallPreActResNet-26", "SmallPreActResNet (width 26)"):  # the first by earlier versions
        entry = make_entry(tmp_path, "mine", metadata={"architecture": stored}, own={"method": "at+awp (10 epochs)"})
        assert own_row(entry).architecture == "SmallPreActResNet (width 26)"
        assert own_row(entry).title == "AT+AWP (10 epochs)"
    new = {"name": "small_preactresnet", "options": {"width": 26}}
    assert metadata.architecture_name(new) == "SmallPreActResNet (width 26)"
    assert metadata.method_title("trades+ensgd2-wrn34") == "TRADES+2ndEnSGD-wrn34"
    assert class_of(tmp_path, "cifar10", 3) == "cat"
    assert class_of(tmp_path, "cifar100", 99) == "worm"
    assert class_of(tmp_path, "svhn", 3) == class_of(tmp_path, "digits", 3) == "3"
    assert class_of(tmp_path, "cifar10", 10) == "class 10"
    assert class_of(tmp_path, "folder-x", 0) == "class 0"
    assert class_of(tmp_path, "folder-x", 0, class_names=["tench", "golf_ball"]) == "tench"
    assert class_of(tmp_path, "folder-x", 1, class_names=["tench", "golf_ball"]) == "golf_ball"
    assert len(metadata._CLASSES["cifar100"]) == 100
    assert metadata._CLASSES["cifar100"] == sorted(metadata._CLASSES["cifar100"])
