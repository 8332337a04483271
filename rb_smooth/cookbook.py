"""Recipe files: found, read and added up. A method's name is a sum: `at+awp` is at.yaml with +awp.yaml's sections.

Files are looked for in ./recipes, then in the checkout, then in the installed package; the first one found wins. For
the sum at+awp+ensgd the sections of at.yaml, +awp.yaml and +ensgd.yaml are added in this order, and then those of the
files that carry the name of a sum within it (a paper's cell with values of its own: at+awp.yaml, at+awp+ensgd.yaml),
shorter names first. A part may say with which `bases` it goes. Importing this module costs no torch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from rb_smooth.entries import check_name, data_roots
from rb_smooth.notation import parse
from rb_smooth.refusal import Refused, nearest

SECTIONS = ("data", "model", "objective", "perturbation", "optimizer", "averaging", "schedule", "train", "evaluate")
STAGED = ("objective", "perturbation", "optimizer")
"""Sections that may be a list of stages, each with `from_epoch`."""

Sections = dict[str, Any]


def read(path: Path) -> Sections:
    """The sections of one recipe file. Raises Refused for anything but a mapping of known sections."""
    try:
        sections = parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise Refused(f"expected a recipe file, got nothing at {path}; check the path") from None
    except (UnicodeDecodeError, IsADirectoryError, NotADirectoryError) as error:
        raise Refused(f"expected a recipe file at {path}, got {type(error).__name__}; check the path") from None
    if not isinstance(sections, dict):
        raise Refused(
            f"expected sections such as 'optimizer:' in {path}, got {type(sections).__name__}; see `recipe show`"
        )
    for key in sections:
        if key not in (*SECTIONS, "base", "bases", "name", "run"):
            raise Refused(f"expected a section in {path}, {nearest(str(key), SECTIONS)}")
    return sections


def roots(shipped_only: bool = False) -> list[Path]:
    """The folders that hold <dataset>/<method>.yaml, the user's own first."""
    places = [] if shipped_only else [Path("recipes")]
    places += [root / "recipes" for root in data_roots()]
    return list({place.resolve(): place for place in places if place.is_dir()}.values())


def datasets() -> list[str]:
    return sorted({folder.name for root in roots() for folder in root.iterdir() if folder.is_dir()})


def recipe_files(dataset: str, shipped_only: bool = False) -> dict[str, Path]:
    """Name -> file for one dataset: bases ("at"), parts ("+awp", "-l2") and cells ("at+awp+ensgd")."""
    if dataset not in datasets():
        raise Refused(f"expected a dataset with recipes, {nearest(dataset, datasets())}")
    found = {}
    for root in reversed(roots(shipped_only)):
        found.update({path.stem: path for path in (root / dataset).glob("*.yaml") if path.is_file()})
    return found


def methods(dataset: str) -> list[str]:
    """Every sum of the dataset's files that `resolve` takes, in its one order."""
    shelf = _Shelf(recipe_files(dataset))
    sums = [
        (base, chosen)
        for base in shelf.bases
        for size in range(len(shelf.parts) + 1)
        for chosen in itertools.combinations(shelf.parts, size)
    ]
    return [
        base + "".join(chosen) for base, chosen in sorted(sums, key=_by_length) if not shelf.objection(base, chosen)
    ]


def resolve(dataset: str, method: str, shipped_only: bool = False) -> tuple[str, Sections]:
    """The method's name in its one order, and its sections. Raises Refused for what is not a sum of known files."""
    shelf = _Shelf(recipe_files(dataset, shipped_only))
    base, *parts = _split(method)
    if base not in shelf.bases or "".join([base, *parts]) != method:
        raise Refused(f"expected a method of {dataset}, {nearest(method, shelf.bases)}")
    for part in parts:
        if part not in shelf.parts:
            raise Refused(f"expected a part of {dataset}'s methods, {nearest(part, shelf.parts)}")
    parts.sort(key=shelf.parts.index)
    if objection := shelf.objection(base, parts):
        raise Refused(f"{objection} (in {method!r})")
    sections = read(shelf.available[base])
    for name in [*parts, *shelf.cells(base, parts)]:
        if name in shelf.available:
            more = {key: value for key, value in read(shelf.available[name]).items() if key != "bases"}
            sections = added(sections, more, str(shelf.available[name]))
    return base + "".join(parts), complete(sections)


class _Shelf:
    """One dataset's files: bases ("at"), parts ("+awp", "-l2") and cells ("at+awp+ensgd").

    A part may have no file and be known from a cell alone ("-tuned"): it is then taken only where such a cell is.
    """

    def __init__(self, available: dict[str, Path]) -> None:
        self.available = available
        self.bases = [name for name in available if not re.search("[+-]", name)]
        self.contents = {name: read(path) for name, path in available.items() if name[0] in "+-"}
        named = {part for name in available if name[0] not in "+-" for part in _split(name)[1:]}
        self.parts = sorted(named | self.contents.keys(), key=lambda part: _order(part, self.contents))

    def cells(self, base: str, parts: Sequence[str]) -> list[str]:
        """The cells of which `base` and `parts` are the whole or more, shorter names first."""
        split = [(base, tuple(_split(name)[1:]), name) for name in self.available if _split(name)[0] == base]
        return [name for _, own, name in sorted(split, key=_by_length) if own and set(own) <= set(parts)]

    def objection(self, base: str, parts: Sequence[str]) -> str:
        """Why this is no method, in words; empty if it is one."""
        if len(set(parts)) < len(parts):
            return "expected each part once, got one twice; drop it"
        for part in parts:
            bases = self.contents.get(part, {}).get("bases", [base])
            if base not in bases:
                return f"expected {part} with {' or '.join(map(str, bases))}, got {base}; drop it"
            if part not in self.contents and not any(part in _split(cell) for cell in self.cells(base, parts)):
                whole = min((name for name in self.available if part in _split(name)), key=len)
                return f"expected {part} as in {whole}, got {base + ''.join(parts)}; write it whole"
        if clash := _clash(tuple(parts), self.contents):
            return f"expected one choice per section, got {clash}; drop one of them"
        return ""


def resolve_file(path: Path) -> tuple[str, str, Sections]:
    """(dataset, method, sections) of a user's own recipe. `base: cifar10/at+awp` starts from a shipped one."""
    sections = read(path)
    sections.pop("run", None)
    base, name = sections.pop("base", None), sections.pop("name", None)
    if base is not None:
        dataset, _, method = str(base).partition("/")
        sections = added(resolve(dataset, method)[1], sections, str(path))
    if not isinstance(sections.get("data"), dict) or "name" not in sections["data"]:
        raise Refused(f"expected data.name in {path}, got none; add it, or `base: digits/at` to start from a recipe")
    dataset, _, method = str(name or f"{sections['data']['name']}/{path.stem}").partition("/")
    return check_name(dataset), check_name(method), complete(sections)


def added(sections: Sections, more: Sections, where: str) -> Sections:
    """`sections` with those of `more` in their place. A section without a name changes only the keys it lists."""
    result = deepcopy(sections)
    for key, new in more.items():
        old = result.get(key)
        if isinstance(new, dict) and isinstance(old, dict) and new.get("name", old.get("name")) == old.get("name"):
            result[key] = old | new
        elif isinstance(new, dict) and "name" not in new and isinstance(old, list):
            raise Refused(
                f"expected a name in section {key} of {where}, got keys for a list of stages; say which method"
            )
        else:
            result[key] = deepcopy(new)
    return result


def complete(sections: Sections) -> Sections:
    """All sections, in the house's order. Raises Refused for one that is missing."""
    defaults: Sections = {
        "perturbation": {"name": "none"},
        "averaging": {"name": "none"},
        "schedule": {"name": "constant"},
    }
    filled = defaults | sections
    for key in SECTIONS:
        if not isinstance(filled.get(key), dict) and not (key in STAGED and isinstance(filled.get(key), list)):
            found = "nothing" if key not in filled else repr(filled[key])
            raise Refused(
                f"expected a section '{key}: {{...}}' in the recipe, got {found}; see `recipe show digits at`"
            )
    filled["train"] = {"seed": 0} | filled["train"]
    return {key: filled[key] for key in SECTIONS}


def digest(sections: Sections) -> str:
    """Six hex digits that change with anything that training sees, except the seed, which names carry in clear."""
    relevant = {key: value for key, value in sections.items() if key != "evaluate"}
    relevant["train"] = {key: value for key, value in relevant["train"].items() if key != "seed"}
    return digest_of(relevant)


def digest_of(value: Any) -> str:
    """Six hex digits of any nest of plain values; 1 and 1.0 are one value."""
    return hashlib.sha256(json.dumps(_as_floats(value), sort_keys=True).encode()).hexdigest()[:6]


def summary(path: Path) -> str:
    """The first comment line of a recipe file: what `recipe list` shows."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _split(method: str) -> list[str]:
    return re.findall(r"^[^+-]+|[+-][^+-]+", method) or [method]


def _by_length(method: tuple[Any, ...]) -> tuple[int, str, tuple[str, ...]]:
    """The order of (base, parts, …): few parts first."""
    return len(method[1]), method[0], method[1]


def _order(part: str, contents: dict[str, Sections]) -> tuple[bool, int, str]:
    """+parts before -parts, each by the section it replaces: so that a sum has one name and one meaning."""
    places = [SECTIONS.index(key) for key in contents.get(part, {}) if key in SECTIONS]
    return part[0] == "-", min(places, default=len(SECTIONS)), part


def _clash(parts: tuple[str, ...], contents: dict[str, Sections]) -> str:
    """The two parts that both choose a section's method, in words; empty if none do."""
    chosen: dict[str, str] = {}
    for part in parts:
        for key, section in contents.get(part, {}).items():
            if isinstance(section, list) or "name" in (section or {}):
                if key in chosen:
                    return f"{chosen[key]} and {part} for the {key}"
                chosen[key] = part
    return ""
