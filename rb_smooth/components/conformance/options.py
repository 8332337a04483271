"""Contract checks of a component's constructor, whose signature is the schema of its options."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc, signature
from typing import Any

from pydantic import TypeAdapter

from rb_smooth.components.conformance.fixtures import require
from rb_smooth.components.ranges import keyword_only_message

Make = Callable[..., Any]


def options_are_keyword_only_and_match_their_annotations(make: Make) -> None:
    """Recipes pass options by name and validate them by annotation; training passes `generator`."""
    for name, option in signature(make, eval_str=True).parameters.items():
        if option.kind is not option.KEYWORD_ONLY:
            require(option.default is option.empty, keyword_only_message(make, name))
        elif name != "generator":
            require(option.annotation is not option.empty, f"option {name!r} has no type annotation; add one")
            if option.default is not option.empty:
                TypeAdapter(option.annotation).validate_python(option.default)


def it_has_a_docstring(make: Make) -> None:
    """The docstring describes the method and each option, with its range and source."""
    require(bool(getdoc(getattr(make, "func", make))), "the docstring is missing")
