"""Extension of mkdocstrings: the arguments in this package's docstrings become a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ARGUMENT = re.compile(r"^([A-Za-z_]\w*(?:, \w+)*)( \([^)]*\))?:[ ]+(?=\S)")


class ArgumentLists(griffe.Extension):
    """Rewrite "name:  what it is", one argument per line, as items of a Markdown list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = "\n\n".join(map(_as_list, obj.docstring.value.split("\n\n")))


def _as_list(paragraph: str) -> str:
    """The paragraph, as a Markdown list if its first line names an argument; `<name>` stays text, not HTML."""
    if paragraph.startswith("    "):
        return paragraph  # code
    paragraph = re.sub(r"<(?=\w)", "&lt;", paragraph)
    if not _ARGUMENT.match(paragraph):
        return paragraph
    return "\n".join(_ARGUMENT.sub(r"- **`\1`**\2: ", line) for line in paragraph.splitlines())
