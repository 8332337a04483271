"""Paper, architecture and training data of an entry, in RobustBench's terms; names are in references.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rb_smooth.config.sections import STAGED, Sections
from rb_smooth.core import robustbench
from rb_smooth.leaderboard.entries import Entry, published_entries


class Paper(NamedTuple):
    """A paper as BibTeX needs it. methods: names in a recipe whose entries cite it; empty: every entry does."""

    key: str
    title: str
    authors: str
    year: int
    methods: tuple[str, ...] = ()
    eprint: str | None = None
    url: str | None = None
    booktitle: str | None = None

    @property
    def link(self) -> str:
        return self.url or f"https://arxiv.org/abs/{self.eprint}"


_REFERENCES = yaml.safe_load(Path(__file__).with_name("references.yaml").read_text(encoding="utf-8"))
_ARCHITECTURES: dict[str, str] = _REFERENCES["architectures"]
PAPERS = tuple(Paper(**paper | {"methods": tuple(paper["methods"])}) for paper in _REFERENCES["papers"])
_METHODS: dict[str, str] = _REFERENCES["methods"]
_CLASSES: dict[str, list[str]] = _REFERENCES["classes"]
AUTOATTACK, ROBUSTBENCH = "croce2020reliable", "croce2020robustbench"
"""Keys of papers in references.yaml."""


def paper_link(sections: Sections) -> str:
    """Return the link of a recipe's paper: the last in references.yaml that its methods cite; "" if there is none."""
    names = _method_names(sections)
    return next((paper.link for paper in reversed(PAPERS) if names & {*paper.methods}), "")


def paper_title(link: str) -> str:
    """Return the title of the paper with this link in references.yaml; the link itself for others."""
    return next((paper.title for paper in PAPERS if paper.link == link), link)


def architecture_name(model: dict[str, Any]) -> str:
    """Return RobustBench's name, `WideResNet-34-10`, of {name: wideresnet, options: …}; unknown names are unchanged."""
    if model["name"] == "robustbench":
        return str(_published_row(model).get("architecture", model["options"]["id"]))
    try:
        return _ARCHITECTURES[model["name"]].format(**model["options"])
    except KeyError:
        return str(model["name"])


def dataset_title(dataset: str) -> str:
    """Return `CIFAR-10` for cifar10; unknown names are unchanged."""
    return str(_REFERENCES["datasets"].get(dataset, dataset))


def class_names(entry: Entry) -> list[str]:
    """Return the class names that the entry's score has, else those of its data set; empty if neither is known."""
    stated: list[str] | None = entry.own["score"].get("class_names")
    if stated is not None:
        return stated
    return [name.replace("_", " ") for name in _CLASSES.get(entry.dataset, [])]


def class_name(names: Sequence[str], label: int) -> str:
    """Return the name of a label, `cat`; `class 3` where `names` has none."""
    return names[label] if 0 <= label < len(names) else f"class {label}"


def method_title(method: str) -> str:
    """Return `AT+AWP (10 epochs)` for a recipe's at+awp (10 epochs): papers' names of the parts that have one."""
    name, space, notes = method.partition(" ")
    parts = [_METHODS.get(part, part) for part in re.split(r"([+-])", name)]
    return "".join(parts) + space + notes


def entry_title(entry: Entry) -> str:
    """Return the readable title of an entry: its method's; of an external checkpoint, the paper's."""
    method = entry.own.get("method")
    if entry.is_external or not method:
        return str(entry.info.get("name") or entry.name)
    return method_title(str(method))


def used_extra_data(sections: Sections, score: dict[str, Any]) -> bool:
    """Return whether the weights, or those from which training started, have seen more than the training set."""
    model = score["model"]
    if sections["data"].get("extra") is not None or sections["train"].get("start") is not None:
        return True
    if model["name"] != "robustbench":
        return False
    return score["board"] != robustbench.zoo_dataset(model["classes"]) or _published_row(model).get("extra_data", True)


def _published_row(model: dict[str, Any]) -> dict[str, Any]:
    """Return RobustBench's entry of the published model whose network this is; empty if our copy lacks it."""
    options = model["options"]
    rows = published_entries(robustbench.zoo_dataset(model["classes"]), options["threat"])["entries"]
    return next((row for row in rows if row["name"] == options["id"]), {})


def _method_names(sections: Sections) -> set[str]:
    """Return the names of objectives, optimizers, …, of all stages."""
    staged = [sections.get(key, []) for key in STAGED]
    return {stage.get("name") for stages in staged for stage in (stages if isinstance(stages, list) else [stages])}


def papers_of(entry: Entry) -> list[Paper]:
    """Return the papers of the methods that trained the entry, and of its evaluation and ranking."""
    names = _method_names(entry.own["recipe"])
    return [paper for paper in PAPERS if not paper.methods or names & {*paper.methods}]


def to_bibtex(papers: Iterable[Paper]) -> str:
    """Format papers as BibTeX, without repetitions; capitals of titles are protected."""
    return "\n".join(_bibtex_entry(paper) for paper in dict.fromkeys(papers))


def _bibtex_entry(paper: Paper) -> str:
    archive = {"eprint": paper.eprint, "archiveprefix": "arXiv"} if paper.eprint else {}
    fields = {"title": f"{{{paper.title}}}", "author": paper.authors, "booktitle": paper.booktitle}
    fields |= {"year": str(paper.year), **archive, "url": paper.link}
    lines = [f"  {name:<13} = {{{value}}}," for name, value in fields.items() if value]
    kind = "inproceedings" if paper.booktitle else "misc"
    return "\n".join([f"@{kind}{{{paper.key},", *lines, "}", ""])


_UNNAMED_ARCHITECTURES = ("preactresnet18", "resnet18", "wideresnet")
"""Values of `architecture` in entries of earlier versions: names of ours."""


def architecture_title(entry: Entry) -> str:
    """Return RobustBench's name of the architecture, `WideResNet-34-10`, also for entries of earlier versions."""
    name = re.sub(r"^SmallPreActResNet-(\d+)$", r"SmallPreActResNet (width \1)", str(entry.info["architecture"]))
    if name not in _UNNAMED_ARCHITECTURES:
        return name
    return architecture_name(
        {"name": name, "options": {"depth": 34, "width": 10} | entry.own["model"].get("options", {})}
    )


def architecture_family(architecture: str) -> str | None:
    """Return `ResNet-18` also for its pre-activation form, `WideResNet-34-10` for itself; None for other families."""
    if re.fullmatch(r"(PreAct)?ResNet-18", architecture):
        return "ResNet-18"
    return architecture if re.fullmatch(r"(WideResNet|ResNet|DenseNet)-\d+(-\d+)?", architecture) else None
