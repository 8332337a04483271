"""What `recipe keys` shows: every key of a recipe in tables, in a terminal and in docs/recipes.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rb_smooth.console import console
from rb_smooth.documents import write_between
from rb_smooth.keys import Chapter, Key, chapters
from rb_smooth.refusal import Refused, nearest
from rb_smooth.sections import SECTIONS

_HEADINGS = ("key", "values", "default", "what it does", "source")


def print_keys(topics: Sequence[str]) -> None:
    """The tables of each topic; of all sections where none is given."""
    for chapter in _chosen(topics):
        whose = f" (from {chapter.package})" if chapter.package else ""
        console.print(f"{chapter.title}{whose}: {_sentence(chapter)}", soft_wrap=False)
        console.print(_table(chapter.keys) if chapter.keys else "", soft_wrap=False)


def as_plain(topics: Sequence[str]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [each._asdict() | {"keys": [key._asdict() for key in each.keys]} for each in _chosen(topics)]


def _chosen(topics: Sequence[str]) -> list[Chapter]:
    return [each for topic in topics or SECTIONS for each in selected(topic)]


def selected(topic: str) -> list[Chapter]:
    """What is told of a section (`data`), a part of it (`data.augment`), a method (`objective.at`), or of one key of
    those that have it (`objective.eps`, `objective.at.eps`). Raises Refused for anything else.
    """
    section, key = topic.partition(".")[0], topic.rpartition(".")[2]
    if section not in SECTIONS:
        raise Refused(f"expected a section, {nearest(section, SECTIONS)}")
    found = chapters(section)
    places = [each for each in found if topic in (f"{section}.{key}", f"{each.title}.{key}")]
    narrowed = [each._replace(keys=tuple(own for own in each.keys if own.name == key)) for each in places]
    shown = [each for each in narrowed if each.keys]
    shown += [each for each in found if f"{each.title}.".startswith(f"{topic}.")]
    if not shown:
        known = {each.title for each in found} | {f"{section}.{own.name}" for each in found for own in each.keys}
        raise Refused(f"expected a method or a key of {section}, {nearest(topic, known)}")
    return shown


def write_keys(path: Path) -> None:
    """Put each section's tables, without other packages' methods, into the document at `path`, between comments of
    its name. Raises Refused as `documents.write_between` does.
    """
    write_between(path, {section: list(_markdown(chapters(section))) for section in SECTIONS})


def _sentence(chapter: Chapter) -> str:
    return f"{chapter.what} Source: {chapter.source}" if chapter.source else chapter.what


def _table(keys: Sequence[Key]) -> Table:
    table = Table(*_HEADINGS, box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for key in keys:
        table.add_row(*(cell.replace("`", "") for cell in key))
    return table


def _markdown(found: Sequence[Chapter]) -> Iterator[str]:
    """Lines: of a section's own keys the table, of a method also its name and what it is."""
    for chapter in found:
        if chapter.package is not None:
            continue
        if "." in chapter.title:
            yield from (f"### `{chapter.title}`", "", _sentence(chapter), "")
        if chapter.keys:
            yield f"| {' | '.join(_HEADINGS)} |"
            yield "|---|---|---|---|---|"
            yield from map(_row, chapter.keys)
            yield ""


def _row(key: Key) -> str:
    values = key.values.replace(">=", "≥").replace("<=", "≤")
    default = key.default if key.default in ("none", "required") else f"`{key.default}`"
    cells = (f"`{key.name}`", values, default, key.what, key.source)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
