"""leaderboard/index.html: one file with its style, script, charts and pictures in it, the same for equal files."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.core.formatting import duration, percent
from rb_smooth.leaderboard.page import charts, landmarks, svg
from rb_smooth.leaderboard.page.boards import Board, read_boards
from rb_smooth.leaderboard.page.details import Details, read_details
from rb_smooth.leaderboard.page.rows import ModelRow

_FOLDER = Path(__file__).parent

MAX_PICTURE_BYTES, MAX_CURVE_BYTES = 700_000, 500_000
"""Characters that all galleries, and all training curves, may take: so that 150
entries stay under 3 MB. The best come first."""

_FIRST_SCRIPT = 'document.documentElement.classList.add("js");'
"""Before anything is drawn: what a script will show or hide has its place from the start."""


def write_page(leaderboard: Path) -> Path:
    """Build the page of all boards and write it to <leaderboard>/index.html; returns that path.

    An entry that is damaged is named in the page's foot, with what is wrong; the others are shown.
    """
    path = leaderboard / "index.html"
    files.write_text(path, render_page(leaderboard))
    return path


def render_page(leaderboard: Path) -> str:
    """The page as HTML. Nothing in it depends on when, where or how often it is built."""
    boards, complaints = read_boards(leaderboard)
    details = _details([row for board in boards for row in board.ours], complaints)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            boards=boards,
            current=_default_board(boards),
            charts={board.key: Markup(charts.draw_scatter(board)) for board in boards if len(board.rows) > 1},
            curves=_curves(boards, details),
            details=details,
            complaints=complaints,
            style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
            first_script=Markup(_FIRST_SCRIPT),
            script=Markup(script),
            policy=Markup(f"{_script_hash(_FIRST_SCRIPT)} {_script_hash(script)}"),
        )
    )


def _environment() -> Environment:
    """With every text escaped: `select_autoescape` would pass over templates whose names end in .j2."""
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
        counted=_count_values,
        traits=_filter_values,
        loading=_loading_code,
        variable=svg.css_variable,
        is_cut=charts.has_clipped_points,
        curves_drawn=charts.available_curves,
        headline=landmarks.headline,
        board_landmarks=landmarks.board_reference_models,
        landmarks=landmarks.reference_models,
        standing=landmarks.rank_sentence,
    )
    return environment


def _details(rows: Sequence[ModelRow], complaints: list[str]) -> dict[str, Details]:
    """By row; without the galleries for which there is no room."""
    found: dict[str, Details] = {}
    room = MAX_PICTURE_BYTES
    for row in rows:
        try:
            metadata = read_details(row)
        except UserError as refused:
            complaints.append(f"shown without details: {refused}")
            continue
        complaints += metadata.complaints
        room -= sum(len(pair.clean) + len(pair.adversarial) for pair in metadata.pairs)
        found[row.key] = metadata if room >= 0 else replace(metadata, pairs=[], crowded_out=bool(metadata.pairs))
    return found


def _curves(boards: Sequence[Board], details: dict[str, Details]) -> dict[str, Markup]:
    found: dict[str, Markup] = {}
    room = MAX_CURVE_BYTES
    for row in (row for board in boards for row in board.ours):
        if row.key in details and (log := details[row.key].log) and room > 0:
            found[row.key] = Markup(charts.draw_curves(log, row.key, row.name))
            room -= len(found[row.key])
    return found


def _default_board(boards: Sequence[Board]) -> str:
    """The board with most of ours, since whoever opens the page wants to see those; the first of equal ones."""
    return max(boards, key=lambda board: len(board.ours)).key if boards else ""


def _filter_values(row: ModelRow) -> dict[str, str]:
    """By what models are filtered, in the words of the choices."""
    whose, extra = "ours" if row.ours else "published", "with" if row.extra_data else "without"
    return {"whose": whose, "extra": extra, "architecture": row.architecture, "eps": row.eps}


def _count_values(rows: Sequence[ModelRow], trait: str) -> list[tuple[str, int]]:
    """What there is of one trait and how often, in an order that people expect: WideResNet-28-10 before -106-16."""

    def natural(item: tuple[str, int]) -> list[str]:
        return [part.zfill(9) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", item[0])]

    return sorted(Counter(_filter_values(row)[trait] for row in rows).items(), key=natural)


def _with_break_points(name: str) -> Markup:
    """A name with places where it may go on in the next line: after the signs in it, before it breaks elsewhere."""
    return Markup("<wbr>").join(re.findall(r"[^_+]*[_+]|[^_+]+$", name))


def _loading_code(row: ModelRow, board: Board) -> str:
    """Python that loads a published model."""
    return (
        "import rb_smooth  # so that robustbench can be imported\n"
        "from robustbench.utils import load_model\n"
        f"model = load_model({row.name!r}, dataset={board.dataset!r}, threat_model={board.threat!r})"
    )


def _script_hash(script: str) -> str:
    """The one script that may run, to the browser: `'sha256-…'`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
