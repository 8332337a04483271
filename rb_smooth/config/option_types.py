"""Convert plain values to the types and ranges of annotations; a message for every value that does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import isclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    Strict,
    TypeAdapter,
    ValidationError,
)

from rb_smooth.core.errors import Problems, did_you_mean, short_repr
from rb_smooth.core.numbers import MAX_COUNT, MAX_EPOCHS, MAX_SEED

_Section = TypeVar("_Section", bound=BaseModel)

Count = Annotated[PositiveInt, Field(le=MAX_COUNT).metadata[0]]
CountOrNone = Annotated[NonNegativeInt, Field(le=MAX_COUNT).metadata[0]]
Epochs = Annotated[PositiveInt, Field(le=MAX_EPOCHS).metadata[0]]
Seed = Annotated[NonNegativeInt, Field(le=MAX_SEED).metadata[0], Strict()]
SplitSeed = Annotated[NonNegativeInt, Field(le=2**32 - 1).metadata[0]]
"""Types of a recipe's own keys; scikit-learn, which splits, takes 32-bit seeds."""

_INTEGERS = range(-(2**31), 2**31)
"""Integers that an option of a component can have; all of torch's sizes fit."""


def convert_option(annotation: Any, value: Any, where: str) -> Any:
    """`value` in the type `annotation`. Raises UserError for another type, infinities and huge integers."""
    problems = Problems()
    try:
        converted = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        problems.add(*_messages(error, where, None))
    else:
        if huge := [each for each in _integers(converted) if each not in _INTEGERS]:
            problems.add(f"expected {where} to be from -2^31 to 2^31 - 1, got {short_repr(huge[0])}; correct it")
    problems.raise_any()
    return converted


def convert_section(cls: type[_Section], section: Mapping[str, Any], where: str) -> _Section:
    """`section` as a `cls`. Raises UserError with a line for each unknown key and each value that does not fit."""
    problems = Problems()
    try:
        return cls.model_validate(section)
    except ValidationError as error:
        problems.add(*_messages(error, where, cls))
        raise problems.as_error() from None


def _messages(error: ValidationError, where: str, cls: type[BaseModel] | None) -> Iterator[str]:
    """pydantic's errors as `expected …, got …; do …`; one for a value of which no type of a union fits."""
    seen = set()
    for each in error.errors():
        is_key = each["type"] in ("missing", "extra_forbidden")
        if (place := (each["loc"] if is_key else (each["loc"][:1], id(each["input"])))) in seen:
            continue
        seen.add(place)
        if each["type"] == "extra_forbidden" and cls is not None:
            *within, key = map(str, each["loc"])
            yield f"expected a key of {'.'.join([where, *within])}, {did_you_mean(key, _keys(cls, within))}"
            continue
        full = ".".join([where, *map(str, each["loc"])])
        if each["type"] == "missing":
            yield f"expected {full}, got nothing; add it"
            continue
        wanted = each["msg"].replace("a valid tuple", "a list").replace("a valid dictionary", "keys, as {key: value}")
        wanted = wanted.replace("Input should", "should").replace("String should", "should").partition(", unable to")[0]
        wanted = wanted.partition(" or instance of")[0].replace("should", "to")
        yield f"expected {full} {wanted}, got {short_repr(each['input'])}; correct it"


def _keys(cls: type[BaseModel], within: list[str]) -> list[str]:
    """Keys of `cls`, or of the section in its field `within`."""
    for name in within:
        annotation = cls.model_fields[name].annotation
        inner = [each for each in (annotation, *get_args(annotation)) if isclass(each) and issubclass(each, BaseModel)]
        cls = inner[0]
    return list(cls.model_fields)


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _integers(each)
