"""Build leaderboard/index.html: one file with style, script, charts and images inside, equal for equal input."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rb_smooth.core import files
from rb_smooth.core.formatting import duration, percent
from rb_smooth.leaderboard.metadata import paper_title
from rb_smooth.leaderboard.page import reference_models, scatter
from rb_smooth.leaderboard.page.details import Details, read_details
from rb_smooth.leaderboard.reports.board import read_boards
from rb_smooth.leaderboard.reports.entry_report import published_loading_code
from rb_smooth.leaderboard.reports.rows import ModelRow

MAX_DETAIL_BYTES = 1_200_000
"""Total characters of galleries and training curves: 150 entries stay under 3 MB. The best come first."""

_FOLDER = Path(__file__).parent

_FIRST_SCRIPT = 'document.documentElement.classList.add("js");'
"""Runs before the first paint, so that elements which depend on scripts do not move later."""


def write_page(leaderboard: Path) -> Path:
    """Build the page of all boards and write it to <leaderboard>/index.html; returns that path.

    Damaged entries are listed in the page's footer, with the error; the others are shown.
    """
    path = leaderboard / "index.html"
    files.write_text(path, render_page(leaderboard))
    return path


def render_page(leaderboard: Path) -> str:
    """The page as HTML; it does not depend on time or place."""
    boards, complaints = read_boards(leaderboard)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            boards=boards,
            current=max(boards, key=lambda board: (len(board.ours), len(board.local))).key if boards else "",
            charts={board.key: scatter.scatter_chart(board) for board in boards if len(board.rows) > 1},
            details=_read_all_details([row for board in boards for row in board.local], complaints),
            complaints=complaints,
            style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
            first_script=Markup(_FIRST_SCRIPT),
            script=Markup(script),
            policy=Markup(f"{_script_hash(_FIRST_SCRIPT)} {_script_hash(script)}"),
        )
    )


def _environment() -> Environment:
    """Every text is escaped: `select_autoescape` would not escape in templates whose names end in .j2."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        percent=percent,
        duration=duration,
        breakable=_with_break_points,
        value_counts=_count_values,
        headline=reference_models.headline,
        method_classes=functools.cache(scatter.method_classes),
        method_legend=scatter.method_legend,
        paper_title=paper_title,
        published_loading_code=published_loading_code,
        accuracy_text=reference_models.accuracy_text,
        board_references=reference_models.board_references,
        model_references=reference_models.model_references,
        rank_sentence=reference_models.rank_sentence,
    )
    return environment


def _read_all_details(rows: Sequence[ModelRow], complaints: list[str]) -> dict[str, Details]:
    """Details by row key; galleries and curves beyond MAX_DETAIL_BYTES are left out."""
    found: dict[str, Details] = {}
    room = MAX_DETAIL_BYTES
    for row in rows:
        assert row.entry is not None
        each = read_details(row.entry)
        complaints += each.complaints
        room -= each.size
        found[row.key] = each if room >= 0 else replace(each, pairs=[], training=None, crowded_out=True)
    return found


def _filter_values(row: ModelRow) -> dict[str, str]:
    """The values that the page filters by, as its choices show them."""
    extra = "with" if row.extra_data else "without"
    return {"whose": row.whose, "extra": extra, "architecture": row.architecture, "eps": row.eps}


def _count_values(rows: Sequence[ModelRow], name: str) -> list[tuple[str, int]]:
    """The values of one filter with their counts, in natural order: WideResNet-28-10 before WideResNet-106-16."""

    def natural(item: tuple[str, int]) -> list[str]:
        return [part.zfill(9) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", item[0])]

    return sorted(Counter(_filter_values(row)[name] for row in rows).items(), key=natural)


def _with_break_points(name: str) -> Markup:
    """`name` with line-break opportunities after each _ and +."""
    return Markup("<wbr>").join(re.findall(r"[^_+]*[_+]|[^_+]+$", name))


def _script_hash(script: str) -> str:
    """`'sha256-…'`: the script's source in the Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
