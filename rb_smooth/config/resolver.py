"""Resolve a method's name, such as `at+awp`, to the sections of a recipe.

A name is a base (`at`) and parts (`+awp`, `-l2`), each a YAML file. The search path is ./recipes, the checkout, the
installed package; the first file wins. Other packages (plugins.py) add files whose names contain a base or a part that
is not built in.

Merge order for at+awp+ensgd: at.yaml; the sections of +awp.yaml and +ensgd.yaml that name a component; the files of
combinations (at+awp.yaml, at+awp+ensgd.yaml: a paper's values for that combination), shorter names first; the
remaining sections of the parts, which change single values. The `bases` of a part's file list the methods that it
extends; without them it extends all. Importing this module does not import torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rb_smooth.config import plugins
from rb_smooth.config.method_names import parse_method, split_method
from rb_smooth.config.sections import SECTIONS, Sections, fill_defaults, merge_sections, read_sections, read_tune
from rb_smooth.core.environment import data_roots
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.files import validate_name


class RecipeFile(NamedTuple):
    """A recipe file and the packages that provide it ("rb-smooth-sam 0.1"); none if built in or in ./recipes."""

    path: Path
    packages: tuple[str, ...] = ()


def recipe_roots(shipped_only: bool = False) -> list[Path]:
    """Folders of <dataset>/<method>.yaml: ./recipes (unless `shipped_only`), then the built-in ones."""
    places = [] if shipped_only else [Path("recipes")]
    places += [root / "recipes" for root in data_roots()]
    return list({place.resolve(): place for place in places if place.is_dir()}.values())


def list_datasets() -> list[str]:
    """Names of the data sets with at least one recipe file, sorted."""
    places = [*recipe_roots(), *(folder for _, folder in plugins.recipe_folders())]
    return sorted({folder.name for place in places for folder in place.iterdir() if _yaml_files(folder)})


def recipe_files(dataset: str, shipped_only: bool = False) -> dict[str, RecipeFile]:
    """Files of one dataset by name: bases ("at"), parts ("+awp", "-l2") and combinations ("at+awp+ensgd").

    shipped_only: without ./recipes; files of other packages are included. Raises UserError for an unknown dataset.
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
    """One line for each file of another package that is ignored because it would change a built-in method."""
    found = _package_files(dataset, named_by_us=True)
    return [f"skipped: recipe {dataset}/{path.stem} of {package}: the name is built in" for package, path in found]


def list_methods(dataset: str) -> list[str]:
    """Names of all valid methods of a dataset, each in canonical order of parts."""
    catalog = RecipeCatalog({name: file for name, file in recipe_files(dataset).items() if _is_readable(name, file)})
    parts = sorted(catalog.parts, key=catalog.sort_key)
    candidates = [
        (base, chosen)
        for base in catalog.bases
        for size in range(len(parts) + 1)
        for chosen in itertools.combinations(parts, size)
    ]
    return [
        base + "".join(chosen)
        for base, chosen in sorted(candidates, key=lambda each: (len(each[1]), *each))
        if not catalog.invalid_reason(base, chosen)
    ]


def resolve_method(dataset: str, method: str, shipped_only: bool = False) -> tuple[str, Sections]:
    """The method's name in canonical order of parts, and its sections. Raises UserError for an invalid method.

    method: also as the papers write it (method_names.py).
    """
    catalog = RecipeCatalog(recipe_files(dataset, shipped_only))
    base, *parts = parse_method(dataset, method, catalog.bases, catalog.parts)
    parts.sort(key=catalog.sort_key)
    if reason := catalog.invalid_reason(base, parts):
        raise UserError(f"{reason} (in {method!r})")
    sections = read_sections(catalog.files[base].path)
    for name, more in catalog.overlays(base, parts):
        sections = merge_sections(sections, more, str(catalog.files[name].path))
    return base + "".join(parts), fill_defaults(sections)


def resolve_file(path: Path) -> tuple[str, str, Sections]:
    """(dataset, method, sections) of a user's recipe file. `base: cifar10/at+awp` inherits from a known method."""
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


def tune_texts(target: str, method: str | None = None) -> dict[str, Any]:
    """The search space of `tune:` in the files of a method, or of a FILE.yaml and its base; later files win."""
    if method is None:
        base = read_sections(Path(target), also=("base", "name", "run")).get("base")
        inherited = {} if base is None else tune_texts(*str(base).split("/", 1))
        return inherited | read_tune(Path(target))
    catalog = RecipeCatalog(recipe_files(target))
    base, *parts = parse_method(target, method, catalog.bases, catalog.parts)
    texts: dict[str, Any] = {}
    for name in (base, *sorted(parts, key=catalog.sort_key), *catalog.combinations(base, parts)):
        texts |= read_tune(catalog.files[name].path)
    return texts


class RecipeCatalog:
    """The recipe files of one dataset, read lazily: bases, parts and combinations of them."""

    def __init__(self, files: dict[str, RecipeFile]) -> None:
        self.files = files
        self.bases = [name for name in files if len(split_method(name)) == 1 and name[0] not in "+-"]
        self.parts = sorted(name for name in files if name[0] in "+-")
        self._sections_by_name: dict[str, Sections] = {}
        self._bases: dict[str, list[str]] = {}

    def sections_of(self, name: str) -> Sections:
        """The sections of a part's or a combination's file."""
        if name not in self._sections_by_name:
            path = self.files[name].path
            sections = read_sections(path, also=("bases",) if name[0] in "+-" else ())
            bases = sections.pop("bases", self.bases)
            if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
                raise UserError(f"expected bases in {path} to be a list of names, got {bases!r}; correct it")
            self._sections_by_name[name], self._bases[name] = sections, bases
        return self._sections_by_name[name]

    def bases_of(self, part: str) -> list[str]:
        """The methods that a part extends: the `bases` of its file, else all bases."""
        self.sections_of(part)
        return self._bases[part]

    def sort_key(self, part: str) -> tuple[bool, int, str]:
        """Canonical order of parts: "+" before "-", then by the first section that the part changes, then by name."""
        places = [SECTIONS.index(key) for key in self.sections_of(part)]
        return part[0] == "-", min(places, default=len(SECTIONS)), part

    def combinations(self, base: str, parts: Sequence[str]) -> list[str]:
        """Names of combination files that `base` and `parts` contain, fewest parts first."""
        return [name for of, own, name in self._combinations if of == base and own <= set(parts)]

    def overlays(self, base: str, parts: Sequence[str]) -> Iterator[tuple[str, Sections]]:
        """(name, sections) merged into the base, in order: components of parts, combinations, values of parts."""
        yield from self._sections(parts, choosing=True)
        yield from ((combination, self.sections_of(combination)) for combination in self.combinations(base, parts))
        yield from self._sections(parts, choosing=False)

    def invalid_reason(self, base: str, parts: Sequence[str]) -> str:
        """The message that says why this is not a valid method; empty if it is valid."""
        if len(set(parts)) < len(parts):
            return "expected each part once, got one twice; drop it"
        combinations = self.combinations(base, parts)
        for name in (base, *parts, *combinations):
            if name in self.files and (conflict := plugins.conflict_message(name, self.files[name].packages)):
                return conflict
        for part in parts:
            if not any({base, *parts}.issuperset(split_method(needed)) for needed in self.bases_of(part)):
                others = "".join(each for each in parts if each != part)
                return f"expected {part} with {' or '.join(self.bases_of(part))}, got {base}{others}; drop it"
        if conflict := self._conflict(parts, chosen_only=True) or self._conflict(self._most_specific(combinations)):
            return f"expected one choice per section, got {conflict}; drop one of them"
        return ""

    @cached_property
    def _combinations(self) -> list[tuple[str, set[str], str]]:
        """(base, parts, name) of each combination file, fewest parts first."""
        split = [(name, split_method(name)) for name in self.files if name[0] not in "+-"]
        combinations = [(base, set(parts), name) for name, (base, *parts) in split if parts]
        return sorted(combinations, key=lambda combination: (len(combination[1]), combination[2]))

    def _sections(self, parts: Sequence[str], choosing: bool) -> Iterator[tuple[str, Sections]]:
        """Of each part the sections that name a component (`choosing`), or those that only change its values."""
        for part in parts:
            if more := {
                key: value for key, value in self.sections_of(part).items() if _names_method(value) == choosing
            }:
                yield part, more

    def _most_specific(self, combinations: Sequence[str]) -> list[str]:
        """The combinations that no other one contains: a larger one overrides the smaller."""
        parts = {combination: set(split_method(combination)) for combination in combinations}
        return [
            combination
            for combination in combinations
            if not any(parts[combination] < parts[other] for other in combinations)
        ]

    def _conflict(self, names: Sequence[str], chosen_only: bool = False) -> str:
        """Two names that change the same section (its component, with `chosen_only`), as text; empty if none do."""
        first: dict[str, str] = {}
        for name in names:
            for key, section in self.sections_of(name).items():
                if chosen_only and not _names_method(section):
                    continue
                if key in first:
                    return f"{first[key]} and {name} for the {key}"
                first[key] = name
        return ""


def _yaml_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.yaml") if path.is_file()]


def _package_files(dataset: str, named_by_us: bool) -> list[tuple[str, Path]]:
    """(package, file) of other packages' files for the dataset.

    named_by_us: those whose names consist of built-in bases and parts, which are ignored; else the others.
    """
    ours = [path.stem for root in recipe_roots(shipped_only=True) for path in _yaml_files(root / dataset)]
    known = {part for name in ours for part in split_method(name)}
    folders = plugins.recipe_folders()
    found = [(package, path) for package, folder in folders for path in _yaml_files(folder / dataset)]
    return [(package, path) for package, path in found if known.issuperset(split_method(path.stem)) == named_by_us]


def _is_readable(name: str, file: RecipeFile) -> bool:
    """Whether a file of another package is valid; an invalid one is left out of the list of methods."""
    try:
        return not file.packages or bool(RecipeCatalog({name: file}).sections_of(name))
    except UserError:
        return False


def _names_method(section: Any) -> bool:
    """Whether a section names a component, rather than only changing its values."""
    return isinstance(section, list) or "name" in section
