"""Recipe files: found and added up. A method's name is a sum: `at+awp` is at.yaml with +awp.yaml's sections.

Files are looked for in ./recipes, then in the checkout, then in the installed package; the first one found wins. Other
packages add files (plugins.py) with names of their own: each has a base or a part that none of ours has. For the sum
at+awp+ensgd the sections of at.yaml, +awp.yaml and +ensgd.yaml are added in this order, and then those of the
files that carry the name of a sum within it (a paper's cell with values of its own: at+awp.yaml, at+awp+ensgd.yaml),
shorter names first. A part may say with which `bases` it goes. Importing this module costs no torch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rb_smooth.config import plugins
from rb_smooth.config.sections import SECTIONS, Sections, fill_defaults, merge_sections, read_sections
from rb_smooth.core.environment import data_roots
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.files import validate_name


class RecipeFile(NamedTuple):
    """packages: those that offer it, as "rb-smooth-sam 0.1"; none if it is ours or the user's own."""

    path: Path
    packages: tuple[str, ...] = ()


def recipe_roots(shipped_only: bool = False) -> list[Path]:
    """The folders that hold <dataset>/<method>.yaml, the user's own and ours, in this order."""
    places = [] if shipped_only else [Path("recipes")]
    places += [root / "recipes" for root in data_roots()]
    return list({place.resolve(): place for place in places if place.is_dir()}.values())


def list_datasets() -> list[str]:
    places = [*recipe_roots(), *(folder for _, folder in plugins.recipe_folders())]
    return sorted({folder.name for place in places for folder in place.iterdir() if _yaml_files(folder)})


def recipe_files(dataset: str, shipped_only: bool = False) -> dict[str, RecipeFile]:
    """Name -> file for one dataset: bases ("at"), parts ("+awp", "-l2") and cells ("at+awp+ensgd").

    shipped_only: without the user's own; what other packages ship is shipped.
    """
    if dataset not in list_datasets():
        raise UserError(f"expected a dataset with recipes, {did_you_mean(dataset, list_datasets())}")
    found: dict[str, RecipeFile] = {}
    for package, path in _package_files(dataset, named_by_us=False):
        first, others = found.get(path.stem, RecipeFile(path))
        found[path.stem] = RecipeFile(first, tuple(dict.fromkeys((*others, package))))
    for root in reversed(recipe_roots(shipped_only)):
        found |= {path.stem: RecipeFile(path) for path in _yaml_files(root / dataset)}
    return found


def skipped_files(dataset: str) -> list[str]:
    """Other packages' files that would change what one of our names means, one line for each."""
    found = _package_files(dataset, named_by_us=True)
    return [f"passed over: recipe {dataset}/{path.stem} of {package}: the name is ours" for package, path in found]


def list_methods(dataset: str) -> list[str]:
    """Every sum of the dataset's files that `resolve_method` takes, in its one order."""
    catalog = RecipeCatalog({name: file for name, file in recipe_files(dataset).items() if _is_readable(name, file)})
    parts = sorted(catalog.parts, key=catalog.sort_key)
    sums = [
        (base, chosen)
        for base in catalog.bases
        for size in range(len(parts) + 1)
        for chosen in itertools.combinations(parts, size)
    ]
    return [
        base + "".join(chosen)
        for base, chosen in sorted(sums, key=lambda each: (len(each[1]), *each))
        if not catalog.invalid_reason(base, chosen)
    ]


def resolve_method(dataset: str, method: str, shipped_only: bool = False) -> tuple[str, Sections]:
    """The method's name in its one order, and its sections. Raises UserError for what is not a sum of known files."""
    catalog = RecipeCatalog(recipe_files(dataset, shipped_only))
    base, *parts = split_method(method)
    if base not in catalog.bases or "".join([base, *parts]) != method:
        raise UserError(f"expected a method of {dataset}, {did_you_mean(method, catalog.bases)}")
    for part in parts:
        if part not in catalog.parts:
            raise UserError(f"expected a part of {dataset}'s methods, {did_you_mean(part, catalog.parts)}")
    parts.sort(key=catalog.sort_key)
    if reason := catalog.invalid_reason(base, parts):
        raise UserError(f"{reason} (in {method!r})")
    sections = read_sections(catalog.files[base].path)
    for name, more in catalog.overlays(base, parts):
        sections = merge_sections(sections, more, str(catalog.files[name].path))
    return base + "".join(parts), fill_defaults(sections)


def resolve_file(path: Path) -> tuple[str, str, Sections]:
    """(dataset, method, sections) of a user's own recipe. `base: cifar10/at+awp` starts from a shipped one."""
    sections = read_sections(path, also=("base", "name", "run"))
    sections.pop("run", None)
    base, name = sections.pop("base", None), sections.pop("name", None)
    if base is not None:
        dataset, _, method = str(base).partition("/")
        sections = merge_sections(resolve_method(dataset, method)[1], sections, str(path))
    if not isinstance(sections.get("data"), dict) or "name" not in sections["data"]:
        raise UserError(f"expected data.name in {path}, got none; add it, or `base: digits/at` to start from a recipe")
    dataset, _, method = str(name or f"{sections['data']['name']}/{path.stem}").partition("/")
    return validate_name(dataset), validate_name(method), fill_defaults(sections)


class RecipeCatalog:
    """One dataset's files: bases ("at"), parts ("+awp", "-l2") and cells ("at+awp+ensgd"), read when they are needed.

    A part may have no file and be known from a cell alone ("-tuned"): it is then taken only where such a cell is.
    """

    def __init__(self, files: dict[str, RecipeFile]) -> None:
        self.files = files
        self.bases = [name for name in files if len(split_method(name)) == 1 and name[0] not in "+-"]
        named = {part for name in files if name[0] not in "+-" for part in split_method(name)[1:]}
        self.parts = sorted(named | {name for name in files if name[0] in "+-"})
        self._sections_by_name: dict[str, Sections] = {}
        self._bases: dict[str, list[str]] = {}

    def sections_of(self, name: str) -> Sections:
        """The sections of a part or cell; none for a part without a file."""
        if name not in self._sections_by_name:
            also = ("bases",) if name[0] in "+-" else ()
            found = read_sections(self.files[name].path, also) if name in self.files else {}
            bases = found.pop("bases", self.bases)
            if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
                where = self.files[name].path
                raise UserError(f"expected bases in {where} to be a list of names, got {bases!r}; correct it")
            self._sections_by_name[name], self._bases[name] = found, bases
        return self._sections_by_name[name]

    def bases_of(self, part: str) -> list[str]:
        """With which a part goes: those that its file names, else all."""
        self.sections_of(part)
        return self._bases[part]

    def sort_key(self, part: str) -> tuple[bool, int, str]:
        """+parts before -parts, each by the section it replaces: so that a sum has one name and one meaning."""
        places = [SECTIONS.index(key) for key in self.sections_of(part)]
        return part[0] == "-", min(places, default=len(SECTIONS)), part

    def combinations(self, base: str, parts: Sequence[str]) -> list[str]:
        """The cells of which `base` and `parts` are the whole or more, shorter names first."""
        return [name for of, own, name in self._combinations if of == base and own <= set(parts)]

    def overlays(self, base: str, parts: Sequence[str]) -> Iterator[tuple[str, Sections]]:
        """What is added to the base, in order: methods that parts choose, cells, single values that parts change."""
        yield from self._sections(parts, choosing=True)
        yield from ((combination, self.sections_of(combination)) for combination in self.combinations(base, parts))
        yield from self._sections(parts, choosing=False)

    def invalid_reason(self, base: str, parts: Sequence[str]) -> str:
        """Why this is no method, in words; empty if it is one."""
        if len(set(parts)) < len(parts):
            return "expected each part once, got one twice; drop it"
        combinations = self.combinations(base, parts)
        for name in (base, *parts, *combinations):
            if name in self.files and (conflict := plugins.conflict_message(name, self.files[name].packages)):
                return conflict
        for part in parts:
            if base not in self.bases_of(part):
                return f"expected {part} with {' or '.join(self.bases_of(part))}, got {base}; drop it"
            if part not in self.files and not any(part in split_method(combination) for combination in combinations):
                whole = min((name for name in self.files if part in split_method(name)), key=len)
                return f"expected {part} as in {whole}, got {base + ''.join(parts)}; write it whole"
        if conflict := self._conflict(parts, chosen_only=True) or self._conflict(self._most_specific(combinations)):
            return f"expected one choice per section, got {conflict}; drop one of them"
        return ""

    @cached_property
    def _combinations(self) -> list[tuple[str, set[str], str]]:
        """(base, parts, name) of each, shorter ones first."""
        split = [(name, split_method(name)) for name in self.files if name[0] not in "+-"]
        combinations = [(base, set(parts), name) for name, (base, *parts) in split if parts]
        return sorted(combinations, key=lambda combination: (len(combination[1]), combination[2]))

    def _sections(self, parts: Sequence[str], choosing: bool) -> Iterator[tuple[str, Sections]]:
        """Of each part the sections that choose a method, or those that only change one."""
        for part in parts:
            if more := {
                key: value for key, value in self.sections_of(part).items() if _names_method(value) == choosing
            }:
                yield part, more

    def _most_specific(self, combinations: Sequence[str]) -> list[str]:
        """Those that no other of `combinations` contains: a longer cell is there to have the last word."""
        parts = {combination: set(split_method(combination)) for combination in combinations}
        return [
            combination
            for combination in combinations
            if not any(parts[combination] < parts[other] for other in combinations)
        ]

    def _conflict(self, names: Sequence[str], chosen_only: bool = False) -> str:
        """Two that both have a word on a section (on its method, with `chosen_only`), in words; empty if none do."""
        first: dict[str, str] = {}
        for name in names:
            for key, section in self.sections_of(name).items():
                if chosen_only and not _names_method(section):
                    continue
                if key in first:
                    return f"{first[key]} and {name} for the {key}"
                first[key] = name
        return ""


def split_method(method: str) -> list[str]:
    """`at+awp-l2` -> at, +awp, -l2."""
    return re.findall(r"^[^+-]+|[+-][^+-]+", method) or [method]


def adds_one_part(method: str, base: str) -> bool:
    """Whether it is the other one and one part more: at+awp to at, and not at+awp to at+ensgd."""
    here, there = set(split_method(method)), set(split_method(base))
    return there < here and len(here - there) == 1


def _yaml_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.yaml") if path.is_file()]


def _package_files(dataset: str, named_by_us: bool) -> list[tuple[str, Path]]:
    """(package, file) of other packages' files for the dataset: either those whose name is made of bases and parts of
    ours, so that they would change what it means, or the others.
    """
    ours = [path.stem for root in recipe_roots(shipped_only=True) for path in _yaml_files(root / dataset)]
    known = {part for name in ours for part in split_method(name)}
    folders = plugins.recipe_folders()
    found = [(package, path) for package, folder in folders for path in _yaml_files(folder / dataset)]
    return [(package, path) for package, path in found if known.issuperset(split_method(path.stem)) == named_by_us]


def _is_readable(name: str, file: RecipeFile) -> bool:
    """Whether a file of another package can be read: what is broken there breaks nothing of ours."""
    try:
        return not file.packages or bool(RecipeCatalog({name: file}).sections_of(name))
    except UserError:
        return False


def _names_method(section: Any) -> bool:
    """Whether a section says which method, and not only what changes in it."""
    return isinstance(section, list) or "name" in section
