"""What a recipe relies on in whatever it names: the constructor is the schema."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc, signature
from typing import Any

from pydantic import TypeAdapter

from rb_smooth.components.conformance.fixtures import require

Make = Callable[..., Any]


def options_are_keyword_only_and_fit_their_annotations(make: Make) -> None:
    """A recipe gives options by name, and each is checked by its annotation; `generator` is training's to give."""
    for name, option in signature(make, eval_str=True).parameters.items():
        if option.kind is not option.KEYWORD_ONLY:
            require(option.default is option.empty, f"{name} is an option, and not keyword-only: put a * before it")
        elif name != "generator":
            require(option.annotation is not option.empty, f"{name} has no annotation by which it could be checked")
            if option.default is not option.empty:
                TypeAdapter(option.annotation).validate_python(option.default)


def it_says_what_it_is(make: Make) -> None:
    """In a docstring: with what each option means, its range, and where it comes from."""
    require(bool(getdoc(getattr(make, "func", make))), "there is no docstring")
