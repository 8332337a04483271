"""Tables of a method comparison: metrics as in papers, and significance tests."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rb_smooth.config.method_names import adds_one_part
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.evaluation.score import attack_title, selection_title
from rb_smooth.training.sweep.comparison import METRICS, best_method

_HEADINGS = {
    "clean": "clean",
    "pgd20": "PGD-20",
    "autoattack": "Auto\nAttack",
    "last_pgd20": "last\nPGD-20",
    "gap": "best\n- last",
}

_PAIRS = 15
"""Pairs of six methods, all shown; of more pairs, only those that differ in one part."""


def render_tables(dataset: str, groups: list[dict[str, Any]]) -> list[Table | str]:
    """Render `comparison.compare_methods`: for each group its metrics, paired tests and untested pairs."""
    lines: list[Table | str] = []
    for group in groups:
        lines.append(_metrics_table(dataset, group))
        if any(len(row["seeds"]) == 2 for row in group["methods"]):
            lines.append("warning: ± and intervals from two seeds are very uncertain; train three or more")
        shown = _shown_differences(group["differences"])
        if any(each["p"] is not None for each in shown):
            lines.append(_tests_table(shown, group["protocol"]))
            lines.append("Tests pair equal seeds. Uncertainty is over training seeds; the test set is fixed.")
        untested: dict[str, list[str]] = {}
        for each in shown:
            if each["untested"]:
                untested.setdefault(each["untested"], []).append(f"{each['method']} and {each['minus']}")
        lines += [f"not tested, {why}: {', '.join(pairs)}" for why, pairs in untested.items()]
        if more := len(group["differences"]) - len(shown):
            lines.append(f"{more} more pairs differ in more than one part; the file below holds their tests.")
    if len(groups) > 1:
        lines.append("Tables differ in test points, attack or selection: do not compare numbers between them.")
    return lines


def _metrics_table(dataset: str, group: dict[str, Any]) -> Table:
    protocol, best = group["protocol"], best_method(group)
    note, headings = "", _HEADINGS
    if protocol["version"] != "standard":
        note, headings = f"; {attack_title(protocol)}", _HEADINGS | {"autoattack": "upper\nbound"}
    title = (
        f"{dataset} {protocol['norm']} eps {eps_text(protocol['eps'])}, {protocol['n']} test points, best epoch by "
        f"{selection_title(protocol)}{note}; %, mean ± standard deviation over n seeds"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    for heading in ("n", *headings.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in group["methods"]:
        bold = {"autoattack": "bold"} if row["method"] == best else {}
        cells = [Text(_mean_and_std(row[metric]), bold.get(metric, "")) for metric in METRICS]
        table.add_row(row["title"], str(len(row["seeds"])), *cells)
    return table


def _shown_differences(differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(differences) <= _PAIRS:
        return differences
    return [
        each
        for each in differences
        if adds_one_part(each["method"], each["minus"]) or adds_one_part(each["minus"], each["method"])
    ]


def _tests_table(differences: list[dict[str, Any]], protocol: dict[str, Any]) -> Table:
    title = f"{attack_title(protocol)}, difference in points; paired t-test, p corrected for all pairs (Holm)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("methods", overflow="fold")
    for heading in ("n", "difference", "95 % interval", "p", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in differences:
        if each["p"] is not None:
            table.add_row(
                f"{each['method']} - {each['minus']}",
                str(len(each["seeds"])),
                f"{100 * each['mean']:+.2f}",
                f"{100 * each['low']:+.2f} to {100 * each['high']:+.2f}",
                f"{each['p']:.2g}",
                f"{each['p_holm']:.2g}",
            )
    return table


def _mean_and_std(metric: dict[str, Any]) -> str:
    """`52.10±0.31`; the mean alone for one seed."""
    mean = percent(metric["mean"])
    return mean if metric["std"] is None else f"{mean}±{percent(metric['std'])}"
