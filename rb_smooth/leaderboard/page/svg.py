"""An SVG of matplotlib's made part of a page: ids of its own, colours from the page's style, names for its points."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

INK, MUTED, GRID, PAPER, OURS, PUBLISHED = (f"#0000{n:02x}" for n in range(0xF1, 0xF7))
"""Stand-ins in a drawing for the colours of the page, light or dark, that `inline_svg` names instead."""

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    OURS: "var(--ours)",
    PUBLISHED: "var(--published)",
}


_MAX_TITLE = 400
"""Characters of an attribute that is a curve of many points."""


class SvgLabel(NamedTuple):
    """Whose an element of a drawing is, by the id of its panel; with a text, it becomes a link there that says it."""

    of: str
    text: str = ""


def css_variable(colour: str) -> str:
    """The page's own name of a stand-in."""
    return _VARIABLES[colour]


def inline_svg(text: str, key: str, title: str, labels: Mapping[str, SvgLabel]) -> str:
    """An SVG document -> an element for an HTML page, which scales to its place and has no size of its own.

    key: begins every id that is kept, so that two drawings on one page do not share any. title: what the drawing is,
    for who cannot see it. labels: by gid, the elements that belong to a model.
    """
    root = ElementTree.fromstring(text)
    for element in root.iter():  # HTML has no namespaces: svg's elements are known by their names there
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: _simplify_value(value) for name, value in element.attrib.items()}
        if "d" in element.attrib:  # a path's letters part its numbers; after the first point, lines need no letter
            element.attrib["d"] = re.sub(r"(?<=\d) L ", " ", re.sub(r"\s+", " ", element.attrib["d"])).strip()
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
    _drop(root, "metadata", "title")
    _gather_definitions(root)
    for parent in list(root.iter()):
        for place, child in enumerate(parent):
            if (label := labels.get(child.get("id", ""))) is not None:
                parent[place] = _add_label(child, label)
    _prefix_ids(root, key)
    for size in ("width", "height", "version", "xmlns"):
        root.attrib.pop(size, None)
    # points are links: with them it is a group; without, one picture
    root.attrib |= {"class": "chart", "role": "group" if labels else "img", "aria-label": title}
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


def _simplify_value(value: str) -> str:
    """Colours by the page's names, numbers to a hundredth of a pixel, type in the page's own face."""
    for colour, variable in _VARIABLES.items():
        value = value.replace(colour, variable)
    value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", re.sub(r"font-family: [^;]*(; )?", "", value))
    digits = 1 if len(value) > _MAX_TITLE else 2
    return re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.{digits}f}".rstrip("0").rstrip("."), value)


def _drop(parent: ElementTree.Element, *tags: str) -> None:
    for child in [each for each in parent if each.tag in tags]:
        parent.remove(child)


def _gather_definitions(root: ElementTree.Element) -> None:
    """All into one place: what a point that is hidden defines, others use. A style would hold for the whole page."""
    gathered = ElementTree.Element("defs")
    for parent in list(root.iter()):
        for definitions in parent.findall("defs"):
            parent.remove(definitions)
            gathered.extend(each for each in definitions if each.tag != "style")
    root.insert(0, gathered)


def _add_label(element: ElementTree.Element, label: SvgLabel) -> ElementTree.Element:
    if not label.text:
        element.set("data-of", label.of)
        return element
    link = ElementTree.Element("a", {"href": f"#{label.of}", "class": "point", "data-of": label.of})
    ElementTree.SubElement(link, "title").text = label.text
    link.append(element)
    return link


def _prefix_ids(root: ElementTree.Element, key: str) -> None:
    """Ids that something refers to begin with `key`; the others, as `patch_1`, are in every drawing, and go."""
    pattern = re.compile(r"(?<=url\(#)[^)]+|(?<=^#)m[0-9a-f]{6,}$")
    values = [value for element in root.iter() for value in element.attrib.values()]
    referred = {found for value in values for found in pattern.findall(value)}
    for element in root.iter():
        for name, value in element.attrib.items():
            element.attrib[name] = pattern.sub(lambda found: f"{key}-{found[0]}", value)
        if (own := element.attrib.pop("id", None)) in referred:
            element.attrib["id"] = f"{key}-{own}"
