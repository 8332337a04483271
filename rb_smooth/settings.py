"""What a command line changes in a recipe: single values, and its length. Importing this module costs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from rb_smooth.cookbook import SECTIONS, STAGED, Sections, resolve, resolve_file
from rb_smooth.notation import parse
from rb_smooth.refusal import Refused, nearest


def gather(
    target: str, method: str | None = None, settings: Sequence[str] = (), epochs: int | None = None
) -> tuple[str, str, Sections]:
    """(dataset, method, sections) of ("cifar10", "at+awp") or of a user's FILE.yaml, with overrides and length."""
    if method is None:
        dataset, method, sections = resolve_file(Path(target))
    else:
        dataset, (method, sections) = target, resolve(target, method)
    sections = override(sections, settings)
    return dataset, method, sections if epochs is None else scale(sections, epochs)


def override(sections: Sections, settings: Sequence[str]) -> Sections:
    """`sections` with each "section.key=value" applied; stages are addressed by number, `optimizer.1.lr=0.05`.

    Another name comes without the options of the old one (as in a sum), whichever is typed first; only `data` keeps
    its keys, since most of them are about training on any data.
    """
    result = deepcopy(sections)
    for setting in sorted(settings, key=lambda setting: ".name=" not in setting):
        path, equals, text = setting.partition("=")
        keys = path.split(".")
        if not equals or len(keys) < 2:
            raise Refused(f"expected --set section.key=value, got {setting!r}; for example --set train.epochs=30")
        if keys[0] not in SECTIONS:
            raise Refused(f"expected a section in --set {setting}, {nearest(keys[0], SECTIONS)}")
        target = result[keys[0]]
        for key in keys[1:-1]:
            target = _inside(target, key, setting)
        if isinstance(target, list):
            raise Refused(f"expected a stage's number in --set {setting}, got a list; write {keys[0]}.0.{keys[-1]}")
        value = parse(text, f"--set {setting}")
        if keys[-1] == "name" and keys[0] != "data" and value != target.get("name"):
            for key in set(target) - {"from_epoch"}:
                del target[key]
        target[keys[-1]] = value
    return result


def scale(sections: Sections, epochs: int) -> Sections:
    """The same recipe in `epochs` epochs: drops and stage starts move in proportion, rounded half up."""
    result = deepcopy(sections)
    full = result["train"].get("epochs")
    if epochs < 1 or type(full) is not int or full < 1:
        raise Refused(
            f"expected to scale whole epochs to --epochs of at least 1, got {full!r} to {epochs}; correct them"
        )
    if epochs == full:
        return result

    def moved(epoch: int) -> int:
        return (2 * epoch * epochs + full) // (2 * full)

    if isinstance(result["schedule"].get("drops"), list):
        result["schedule"]["drops"] = [moved(drop) for drop in result["schedule"]["drops"]]
    for key in STAGED:
        if isinstance(result[key], list):
            starts = {
                moved(stage["from_epoch"]): stage for stage in result[key]
            }  # two stages on one epoch: the later one
            result[key] = [stage | {"from_epoch": start} for start, stage in starts.items()]
    result["train"] |= {"epochs": epochs, "scaled_from": full}
    return result


def _inside(target: Any, key: str, setting: str) -> Any:
    if isinstance(target, list):
        if key.isdigit() and int(key) < len(target):
            return target[int(key)]
        raise Refused(f"expected a stage from 0 to {len(target) - 1} in --set {setting}, got {key!r}")
    if not isinstance(target, dict) or key not in target or not isinstance(target[key], (dict, list)):
        raise Refused(f"expected a section of keys at {key!r} in --set {setting}, got none; see `recipe show`")
    return target[key]
