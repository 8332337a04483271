"""What programs write into documents: lines between two comments of a Markdown file, the rest left as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rb_smooth import files
from rb_smooth.refusal import Refused


def write_between(path: Path, blocks: Mapping[str, Sequence[str]]) -> None:
    """Put each block's lines between <!-- name --> and <!-- /name --> of the document at `path`.

    Raises Refused where there is no document, or a place is missing or there twice; then nothing is written.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"expected a document in {path}, got {type(error).__name__}; check the name") from None
    for name, lines in blocks.items():
        text = between(text, name, lines, path.name)
    files.write_text(path, text)


def between(text: str, name: str, lines: Sequence[str], where: str) -> str:
    """`text` with `lines` in the place of what stood between the comments. where: the document, for Refused."""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = "\n".join([opening, *lines, closing])
    replaced, count = re.subn(f"{re.escape(opening)}\n.*?{re.escape(closing)}", lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        raise Refused(f"expected '{opening}' and '{closing}' once in {where}, got them {count} times; put them right")
    return replaced
