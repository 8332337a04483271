"""Build leaderboard/index.html: one file with style, script, charts and images inside, equal for equal input."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import duration, percent
from rb_smooth.leaderboard.page import charts, reference_models
from rb_smooth.leaderboard.page.boards import Board, read_boards
from rb_smooth.leaderboard.page.details import Details, read_details
from rb_smooth.leaderboard.page.rows import ModelRow
from rb_smooth.leaderboard.page.templates import FOLDER, make_environment

MAX_PICTURE_BYTES, MAX_CURVE_BYTES = 700_000, 500_000
"""Total characters of all galleries, and of all training curves: 150 entries stay under 3 MB. The best come first."""

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
    details = _details([row for board in boards for row in board.ours], complaints)
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            boards=boards,
            current=_default_board(boards),
            charts={board.key: charts.draw_scatter(board) for board in boards if len(board.rows) > 1},
            curves=_curves(boards, details),
            details=details,
            complaints=complaints,
            style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
            first_script=Markup(_FIRST_SCRIPT),
            script=Markup(script),
            policy=Markup(f"{_script_hash(_FIRST_SCRIPT)} {_script_hash(script)}"),
        )
    )


def _environment() -> Environment:
    """With the functions that the templates call."""
    environment = make_environment()
    environment.globals.update(
        percent=percent,
        duration=duration,
        breakable=_with_break_points,
        value_counts=_count_values,
        filter_values=_filter_values,
        loading_code=_loading_code,
        has_clipped_points=charts.has_clipped_points,
        available_curves=charts.available_curves,
        headline=reference_models.headline,
        board_references=reference_models.board_references,
        model_references=reference_models.model_references,
        rank_sentence=reference_models.rank_sentence,
    )
    return environment


def _details(rows: Sequence[ModelRow], complaints: list[str]) -> dict[str, Details]:
    """Details by row key; galleries beyond MAX_PICTURE_BYTES are left out."""
    found: dict[str, Details] = {}
    room = MAX_PICTURE_BYTES
    for row in rows:
        try:
            each = read_details(row)
        except UserError as error:
            complaints.append(f"shown without details: {error}")
            continue
        complaints += each.complaints
        room -= sum(len(pair.clean) + len(pair.adversarial) for pair in each.pairs)
        found[row.key] = each if room >= 0 else replace(each, pairs=[], crowded_out=bool(each.pairs))
    return found


def _curves(boards: Sequence[Board], details: dict[str, Details]) -> dict[str, Markup]:
    found: dict[str, Markup] = {}
    room = MAX_CURVE_BYTES
    for row in (row for board in boards for row in board.ours):
        if row.key in details and (log := details[row.key].log) and room > 0:
            found[row.key] = charts.draw_curves(log, row.name)
            room -= len(found[row.key])
    return found


def _default_board(boards: Sequence[Board]) -> str:
    """The key of the board with most of our models; the first of equal ones."""
    return max(boards, key=lambda board: len(board.ours)).key if boards else ""


def _filter_values(row: ModelRow) -> dict[str, str]:
    """The values that the page filters by, as its choices show them."""
    whose, extra = "ours" if row.ours else "published", "with" if row.extra_data else "without"
    return {"whose": whose, "extra": extra, "architecture": row.architecture, "eps": row.eps}


def _count_values(rows: Sequence[ModelRow], name: str) -> list[tuple[str, int]]:
    """The values of one filter with their counts, in natural order: WideResNet-28-10 before WideResNet-106-16."""

    def natural(item: tuple[str, int]) -> list[str]:
        return [part.zfill(9) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", item[0])]

    return sorted(Counter(_filter_values(row)[name] for row in rows).items(), key=natural)


def _with_break_points(name: str) -> Markup:
    """`name` with line-break opportunities after each _ and +."""
    return Markup("<wbr>").join(re.findall(r"[^_+]*[_+]|[^_+]+$", name))


def _loading_code(row: ModelRow, board: Board) -> str:
    """Python that loads a published model."""
    return (
        "import rb_smooth  # so that robustbench can be imported\n"
        "from robustbench.utils import load_model\n"
        f"model = load_model({row.name!r}, dataset={board.dataset!r}, threat_model={board.threat!r})"
    )


def _script_hash(script: str) -> str:
    """`'sha256-…'`: the script's source in the Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
