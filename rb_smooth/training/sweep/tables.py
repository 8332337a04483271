"""Compared methods as tables: what a paper would print, and the tests that say how far to believe it."""

from __future__ import annotations

from itertools import compress
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rb_smooth.config.resolver import adds_one_part
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.evaluation.score import attack_title
from rb_smooth.training.sweep.comparison import METRICS, best_method

_HEADINGS = {
    "clean": "clean",
    "pgd20": "PGD-20",
    "autoattack": "Auto\nAttack",
    "last_pgd20": "last\nPGD-20",
    "gap": "best\n- last",
}

_PAIRS = 15
"""As many are shown whole, those of six methods; of more, those that tell what one part adds."""


def render_tables(dataset: str, groups: list[dict[str, Any]]) -> list[Table | str]:
    """What to print of `comparison.compare_methods`: for each, the table, the paired tests, and why one is missing."""
    lines: list[Table | str] = []
    for group in groups:
        lines.append(_figures_table(dataset, group))
        shown = _significance_lines(group["differences"])
        if any(each["p"] is not None for each in shown):
            lines.append(_tests_table(shown, group["protocol"]))
            lines.append("Tests pair equal seeds on these points: they speak of other seeds, not of other test points.")
        untested: dict[str, list[str]] = {}
        for each in shown:
            if each["untested"]:
                untested.setdefault(each["untested"], []).append(f"{each['method']} and {each['minus']}")
        lines += [f"not tested, {why}: {', '.join(pairs)}" for why, pairs in untested.items()]
        if more := len(group["differences"]) - len(shown):
            lines.append(f"{more} other pairs differ in more than one part; their tests are in the file below.")
    if len(groups) > 1:
        lines.append("Tables differ in test points, attack or selection: figures of one do not compare with another's.")
    return lines


def _figures_table(dataset: str, group: dict[str, Any]) -> Table:
    protocol, best = group["protocol"], best_method(group)
    remark, headings = "", _HEADINGS
    if protocol["version"] != "standard":
        remark, headings = f"; {attack_title(protocol)}", _HEADINGS | {"autoattack": "upper\nbound"}
    title = (
        f"{dataset} {protocol['norm']} eps {eps_text(protocol['eps'])}, {protocol['n']} test points, best epoch by "
        f"{protocol['selected_on']}{remark}; %, mean ± standard deviation over n seeds"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    for heading in ("n", *headings.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in group["methods"]:
        bold = {"autoattack": "bold"} if row["method"] == best else {}
        cells = [Text(_spread(row[figure]), bold.get(figure, "")) for figure in METRICS]
        table.add_row(row["title"], str(len(row["seeds"])), *cells)
    return table


def _significance_lines(differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(differences) <= _PAIRS:
        return differences
    pairs = [(each["method"], each["minus"]) for each in differences]
    near = [adds_one_part(one, other) or adds_one_part(other, one) for one, other in pairs]
    return list(compress(differences, near))


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


def _spread(figure: dict[str, Any]) -> str:
    """`52.10±0.31`, as papers print; without ± where there is one seed."""
    mean = percent(figure["mean"])
    return mean if figure["std"] is None else f"{mean}±{percent(figure['std'])}"
