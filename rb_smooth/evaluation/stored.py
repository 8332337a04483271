"""Schemas of stored files: an entry, a score, the recipe of a run, per-example results, a published table.

`check_stored` holds a file's content against its schema. Keys that no schema names are left as they are: later versions
add some. Files are read without torch; import this module where one is read, since pydantic takes 40 ms.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.robustbench import ATTACKS
from rb_smooth.core.threat import Norm

_MAX_DEPTH = 20
"""Levels of nesting; what rb_smooth writes has eight at most."""


def _path_part(name: str) -> str:
    try:
        return validate_name(name)
    except UserError as error:
        raise ValueError(str(error)) from None


def _recipe_name(name: str) -> str:
    dataset, _, method = name.partition("/")
    return f"{_path_part(dataset)}/{_path_part(method)}"


Share = Annotated[float, Field(ge=0, le=1)]
Percentage = Annotated[str, Field(pattern=r"^(100(\.0+)?|\d{1,2}(\.\d+)?)?$")]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Radius = Annotated[float, Field(ge=0, le=1e4)]
Index = Annotated[int, Field(ge=0, lt=10**9)]
Count = Annotated[int, Field(ge=1, lt=10**9)]
PathPart = Annotated[str, AfterValidator(_path_part)]
RecipeName = Annotated[str, AfterValidator(_recipe_name)]
"""`digits/at`: both become folders."""


class _Threat(TypedDict):
    norm: Norm
    eps: Radius
    step_size: Radius


class _Attack(TypedDict):
    robust: Share
    seconds: Seconds


class _Check(TypedDict):
    name: str
    verdict: str
    found: str


class _LastEpoch(TypedDict):
    clean: Share
    pgd20: Share


class _Training(TypedDict, total=False):
    seconds: Seconds


class _TrainingFile(_Training, total=False):
    packages: dict[str, str]


class _Model(TypedDict):
    name: str
    options: NotRequired[dict[str, Any]]
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)]
    classes: Count


def _zoo_model(model: _Model) -> _Model:
    options = model.get("options", {})
    if model["name"] == "robustbench" and not all(isinstance(options.get(key), str) for key in ("id", "threat")):
        raise ValueError("expected id and threat of a model of RobustBench's")
    return model


Model = Annotated[_Model, AfterValidator(_zoo_model)]


class _Score(TypedDict):
    clean: Share
    pgd20: Share
    autoattack: Share
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)]
    attacks: dict[str, _Attack]
    n: Count
    fingerprint: str
    threat: _Threat
    version: str
    official: bool
    whole: bool
    warnings: NotRequired[list[str]]
    checks: NotRequired[list[_Check]]
    seed: NotRequired[int]
    batch_size: NotRequired[Count]
    seconds: NotRequired[Seconds]
    findings: NotRequired[PathPart]
    selected_on: NotRequired[str]
    select_rule: NotRequired[str]
    packages: NotRequired[dict[str, str]]
    training: NotRequired[_Training]
    class_names: NotRequired[list[str]]


class _EntryScore(_Score):
    last: NotRequired[_LastEpoch]


class _RunScore(_Score):
    asked: dict[str, Any]
    title: str
    board: PathPart
    model: Model
    last: _LastEpoch
    versions: dict[str, str]


class _Method(TypedDict, total=False):
    name: str


class _Train(TypedDict):
    seed: int
    epochs: NotRequired[Count]


class _Recipe(TypedDict, total=False):
    model: _Method
    objective: _Method | list[_Method]
    perturbation: _Method | list[_Method]
    optimizer: _Method | list[_Method]
    averaging: _Method
    schedule: _Method
    train: _Train
    evaluate: dict[str, Any]


class _RunHeader(_Recipe):
    data: NotRequired[_Method]
    name: RecipeName
    run: str


class _EntryRecipe(_Recipe):
    data: _Method


class _OwnBlock(TypedDict):
    run: str
    method: str
    trained_as: NotRequired[RecipeName]
    origin: NotRequired[dict[str, Any]]
    recipe: _EntryRecipe
    model: Model
    score: _EntryScore
    versions: NotRequired[dict[str, str]]
    weights_sha256: NotRequired[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


class _Entry(TypedDict):
    """RobustBench's own `benchmark` writes null for what it does not know."""

    name: str | None
    authors: str | None
    link: str | None
    venue: str | None
    additional_data: bool | None
    architecture: str
    eps: str | Radius
    clean_acc: Percentage
    autoattack_acc: Percentage
    unreliable: NotRequired[bool | None]
    rb_smooth: _OwnBlock


class _PublishedModel(TypedDict):
    name: str
    title: str
    link: str
    venue: str
    architecture: str
    eps: Annotated[str, Field(pattern=r"^\d+(\.\d+)?(/[1-9]\d*)?$", max_length=20)]
    extra_data: bool
    clean: Share
    autoattack: Share
    best_known: Share
    unreliable: bool | None


class _PublishedTable(TypedDict):
    source: str
    commit: str
    date: str
    entries: list[_PublishedModel]


_BrokenBy = Annotated[str, Field(pattern=rf"^(clean|pgd-20|{'|'.join(ATTACKS)})?$")]
_Margin = Literal[""] | Annotated[float, Field(ge=-math.inf)]
"""Not NaN, which is not at least anything."""

ENTRY, SCORE, RUN_HEADER = TypeAdapter(_Entry), TypeAdapter(_RunScore), TypeAdapter(_RunHeader)
PUBLISHED, TRAINING = TypeAdapter(_PublishedTable), TypeAdapter(_TrainingFile)
POINTS: TypeAdapter[Any] = TypeAdapter(list[tuple[Index, Index, Index, _BrokenBy, _Margin]])
"""The rows of points.csv, whose cells are text."""


def check_stored(
    content: Any, schema: TypeAdapter[Any], what: str, path: Path, cure: str = "restore or delete it"
) -> dict[str, Any]:
    """Return `content`, unchanged. Raises UserError, naming `what` was expected in `path`, if the schema refuses it."""
    try:
        _check_values(content, _MAX_DEPTH)
        schema.validate_python(content, strict=True)
    except ValueError as error:
        raise UserError(f"expected {what} in {path}, got {_problem(error)}; {cure}") from None
    checked: dict[str, Any] = content
    return checked


def _problem(error: ValueError) -> str:
    """The first problem in a few words: `rb_smooth.score.clean: input should be less than or equal to 1`."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    return ": ".join([".".join(map(str, first["loc"])) or "other content", text[0].lower() + text[1:]])


def _check_values(value: Any, depth: int) -> None:
    """Raise ValueError for values that are not JSON's, numbers that are not finite, and deeper nesting than `depth`."""
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(f"more than {_MAX_DEPTH} levels of nesting")
        if isinstance(value, dict):
            for key in value:
                key.encode() if isinstance(key, str) else _refuse(key)
            value = value.values()
        for each in value:
            _check_values(each, depth - 1)
    elif isinstance(value, str):
        value.encode()  # half of a surrogate pair cannot be written
    elif isinstance(value, (int, float)):
        if not abs(value) < 1e300:
            raise ValueError("a number that is not finite, or too large")
    elif value is not None:
        _refuse(value)


def _refuse(value: Any) -> None:
    raise ValueError(f"a value of type {type(value).__name__}")
