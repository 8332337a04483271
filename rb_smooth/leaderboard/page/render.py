"""Build leaderboard/index.html with style, script and charts inside, equal for equal input; models' details beside it.

Of a small board they are inside too, so that the page is one file.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rb_smooth.core import files
from rb_smooth.core.environment import usable_cores
from rb_smooth.core.formatting import duration, percent
from rb_smooth.core.worker_pool import map_unordered
from rb_smooth.leaderboard.metadata import paper_title
from rb_smooth.leaderboard.page import detail_files, reference_models, scatter
from rb_smooth.leaderboard.page.details import Details, read_details
from rb_smooth.leaderboard.reports.board import Board, Group, read_boards
from rb_smooth.leaderboard.reports.entry_report import published_loading_code
from rb_smooth.leaderboard.reports.rows import ModelRow

MAX_PAGE_BYTES = 3_000_000
"""Of the details of all entries, as estimated from their files, above which they are in files beside the page."""

_PANEL_BYTES, _MOST_PICTURE_BYTES = 14_000, 100_000
"""Of an entry's details without pictures, about; of the pictures, at most."""

_PART, _MODELS_PER_PROCESS = 100, 500
"""Models whose details one task writes; for which another process is worth its start."""

_FOLDER = Path(__file__).parent

_FIRST_SCRIPT = 'document.documentElement.classList.add("js");'
"""Runs before the first paint, so that elements which depend on scripts do not move later."""


def write_page(leaderboard: Path) -> Path:
    """Build the page of all boards and write it to <leaderboard>/index.html; returns that path.

    The details of a large board are in files beside it (detail_files.py). Damaged entries are listed in the page's
    footer, with the error; the others are shown.
    """
    path, (boards, complaints) = leaderboard / "index.html", read_boards(leaderboard)
    if _fits_one_file(boards):
        files.write_text(path, _page(boards, complaints, [*_panels(boards, complaints)]))
        detail_files.remove_detail_files(leaderboard)
    else:
        complaints += _write_details(leaderboard, [row.key for board in boards for row in board.rows])
        files.write_text(path, _page(boards, complaints, (), f"{detail_files.FOLDER}/"))
    return path


def render_page(leaderboard: Path) -> str:
    """The page as one file of HTML; it does not depend on time or place."""
    boards, complaints = read_boards(leaderboard)
    return _page(boards, complaints, [*_panels(boards, complaints)])


def _page(boards: Sequence[Board], complaints: Sequence[str], panels: Sequence[Markup], folder: str = "") -> str:
    """index.html. panels: the details of all models; none if they are in the `folder`."""
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            boards=boards,
            current=max(boards, key=lambda board: (len(board.ours), len(board.local))).key if boards else "",
            charts={board.key: scatter.scatter_chart(board) for board in boards if len(board.rows) > 1},
            panels=panels,
            folder=folder,
            complaints=complaints,
            style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
            **_scripts("copy.js", "page.js"),
        )
    )


def _scripts(*names: str) -> dict[str, Markup]:
    """The two inline scripts of a page, and the policy that allows no others."""
    script = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)
    policy = f"{_script_hash(_FIRST_SCRIPT)} {_script_hash(script)}"
    return {"first_script": Markup(_FIRST_SCRIPT), "script": Markup(script), "policy": Markup(policy)}


def _fits_one_file(boards: Sequence[Board]) -> bool:
    examples = [row.entry.examples for board in boards for row in board.local if row.entry]
    pictures = [min(path.stat().st_size, _MOST_PICTURE_BYTES) for path in examples if path.exists()]
    return _PANEL_BYTES * len(examples) + sum(pictures) <= MAX_PAGE_BYTES


def _panels(boards: Sequence[Board], complaints: list[str]) -> Iterator[Markup]:
    """The details of every model, as parts of the page."""
    macros: Any = _environment().get_template("panel.html.j2").make_module({"home": ""})
    for board, group, row in _models(boards):
        yield macros.show_panel(row, group, board, _read_details(row, complaints))


def _write_details(leaderboard: Path, keys: Sequence[str]) -> list[str]:
    """Write a file with the details of each model, in several processes if they are many; returns the complaints."""
    parts = [tuple(keys[first : first + _PART]) for first in range(0, len(keys), _PART)]
    workers = min(usable_cores(), 1 + len(keys) // _MODELS_PER_PROCESS)
    with detail_files.replace_folder(leaderboard) as folder:
        done = dict(map_unordered(partial(_make_writer, leaderboard, folder), parts, workers))
        shutil.copyfile(_FOLDER / "page.css", folder / detail_files.STYLE)
    return [complaint for part in parts for complaint in done[part]]


def _make_writer(leaderboard: Path, folder: Path) -> Callable[[Sequence[str]], list[str]]:
    """A function that writes the details of the models with these keys to `folder` and returns the complaints."""
    shared = {"home": "../index.html", **_scripts("copy.js", "details.js")}
    macros: Any = _environment().get_template("details.html.j2").make_module(shared)
    with redirect_stderr(io.StringIO()):  # the page's own reading has named what is skipped
        boards, _ = read_boards(leaderboard)
    models = {row.key: (board, group, row) for board, group, row in _models(boards)}

    def write(keys: Sequence[str]) -> list[str]:
        complaints: list[str] = []
        for board, group, row in (models[key] for key in keys if key in models):
            page: str = macros.show_page(row, group, board, _read_details(row, complaints))
            (folder / f"{row.key}.html").write_text(page.lstrip(), encoding="utf-8")
        return complaints

    return write


def _models(boards: Sequence[Board]) -> Iterator[tuple[Board, Group, ModelRow]]:
    return ((board, group, row) for board in boards for group in board.groups for row in group.rows)


def _read_details(row: ModelRow, complaints: list[str]) -> Details | None:
    """The details of an entry, whose damaged files are added to `complaints`; None of a published model."""
    if row.entry is None:
        return None
    found = read_details(row.entry)
    complaints += found.complaints
    return found


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
