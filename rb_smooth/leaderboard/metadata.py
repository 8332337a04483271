"""What an entry owes: its method's paper, its architecture by RobustBench's name, and data beyond the training set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from rb_smooth.config.sections import STAGED, Sections
from rb_smooth.core import robustbench
from rb_smooth.leaderboard.entries import Entry, published_entries

_PAPERS = {
    "entropy_sgd": "https://arxiv.org/abs/2103.01400",
    "entropy_sgd2": "https://arxiv.org/abs/2103.01400",
    "awp": "https://arxiv.org/abs/2004.05884",
    "trades": "https://arxiv.org/abs/1901.08573",
    "mart": "https://openreview.net/forum?id=rklOg6EFwS",
    "at": "https://arxiv.org/abs/1706.06083",
}
"""Of an entry's methods the first of these that it used, in any stage, is its link."""

_ARCHITECTURES = {
    "preactresnet18": "PreActResNet-18",
    "resnet18": "ResNet-18",
    "wideresnet": "WideResNet-{depth}-{width}",
    "small_preactresnet": "SmallPreActResNet-{width}",
    "timm": "{id}",
}
"""As RobustBench writes them."""


def paper_link(sections: Sections) -> str:
    """The link of a recipe's paper; empty for what no paper introduced."""
    used = _method_names(sections)
    return next((link for name, link in _PAPERS.items() if name in used), "")


def architecture_name(model: dict[str, Any]) -> str:
    """`WideResNet-34-10` for {name: wideresnet, options: …}; a name that we have no words for stays as it is."""
    if model["name"] == "robustbench":
        return str(_published_row(model).get("architecture", model["options"]["id"]))
    try:
        return _ARCHITECTURES[model["name"]].format(**model["options"])
    except KeyError:
        return str(model["name"])


def used_extra_data(sections: Sections, score: dict[str, Any]) -> bool:
    """Whether more than the training set went into the weights, perhaps through those from which training started."""
    model = score["model"]
    if sections["data"].get("extra") is not None or sections["train"].get("start") is not None:
        return True
    if model["name"] != "robustbench":
        return False
    return score["board"] != robustbench.zoo_dataset(model["classes"]) or _published_row(model).get("extra_data", True)


def _published_row(model: dict[str, Any]) -> dict[str, Any]:
    """What RobustBench says of the model whose network this is; nothing, if our copy of its tables lacks it."""
    options = model["options"]
    rows = published_entries(robustbench.zoo_dataset(model["classes"]), options["threat"])["entries"]
    return next((row for row in rows if row["name"] == options["id"]), {})


def _method_names(sections: Sections) -> set[str]:
    """Names of all that trains, in any stage."""
    staged = [sections[key] for key in STAGED]
    return {stage["name"] for stages in staged for stage in (stages if isinstance(stages, list) else [stages])}


class Paper(NamedTuple):
    """year: of the arXiv number, or of the conference where there is none; of: what in a recipe points here."""

    key: str
    of: frozenset[str]
    title: str
    authors: str
    year: int
    eprint: str | None = None
    url: str | None = None
    booktitle: str | None = None


AUTOATTACK, ROBUSTBENCH = "croce2020reliable", "croce2020robustbench"

PAPERS = (
    Paper(
        "madry2017towards",
        frozenset({"at"}),
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian",
        2017,
        "1706.06083",
    ),
    Paper(
        "zhang2019theoretically",
        frozenset({"trades"}),
        "Theoretically Principled Trade-off between Robustness and Accuracy",
        "Zhang, Hongyang and Yu, Yaodong and Jiao, Jiantao and Xing, Eric P. and El Ghaoui, Laurent and "
        "Jordan, Michael I.",
        2019,
        "1901.08573",
    ),
    Paper(
        "wang2020improving",
        frozenset({"mart"}),
        "Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
        "Wang, Yisen and Zou, Difan and Yi, Jinfeng and Bailey, James and Ma, Xingjun and Gu, Quanquan",
        2020,
        url="https://openreview.net/forum?id=rklOg6EFwS",
        booktitle="International Conference on Learning Representations (ICLR)",
    ),
    Paper(
        "wu2020adversarial",
        frozenset({"awp"}),
        "Adversarial Weight Perturbation Helps Robust Generalization",
        "Wu, Dongxian and Xia, Shu-Tao and Wang, Yisen",
        2020,
        "2004.05884",
    ),
    Paper(
        "kanai2021smoothness",
        frozenset({"entropy_sgd", "entropy_sgd2"}),
        "Smoothness Analysis of Adversarial Training",
        "Kanai, Sekitoshi and Yamada, Masanori and Takahashi, Hiroshi and Yamanaka, Yuki and Ida, Yasutoshi",
        2021,
        "2103.01400",
    ),
    Paper(
        "chaudhari2016entropy",
        frozenset({"entropy_sgd", "entropy_sgd2"}),
        "Entropy-SGD: Biasing Gradient Descent Into Wide Valleys",
        "Chaudhari, Pratik and Choromanska, Anna and Soatto, Stefano and LeCun, Yann and Baldassi, Carlo and "
        "Borgs, Christian and Chayes, Jennifer and Sagun, Levent and Zecchina, Riccardo",
        2016,
        "1611.01838",
    ),
    Paper(
        AUTOATTACK,
        frozenset(),
        "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
        "Croce, Francesco and Hein, Matthias",
        2020,
        "2003.01690",
    ),
    Paper(
        ROBUSTBENCH,
        frozenset(),
        "RobustBench: a standardized adversarial robustness benchmark",
        "Croce, Francesco and Andriushchenko, Maksym and Sehwag, Vikash and Debenedetti, Edoardo and "
        "Flammarion, Nicolas and Chiang, Mung and Mittal, Prateek and Hein, Matthias",
        2020,
        "2010.09670",
    ),
)


def papers_of(entry: Entry) -> list[Paper]:
    """The papers of the methods that trained it, in any stage, and of how it is evaluated and ranked."""
    sections = [entry.own["recipe"].get(key, []) for key in STAGED]
    stages = [stage for section in sections for stage in (section if isinstance(section, list) else [section])]
    names = {stage.get("name") for stage in stages}
    return [paper for paper in PAPERS if not paper.of or paper.of & names]


def to_bibtex(papers: Iterable[Paper]) -> str:
    """BibTeX, each paper once. Capitals of titles are kept as printed."""
    return "\n".join(_bibtex_entry(paper) for paper in dict.fromkeys(papers))


def _bibtex_entry(paper: Paper) -> str:
    archive = {"eprint": paper.eprint, "archiveprefix": "arXiv", "url": f"https://arxiv.org/abs/{paper.eprint}"}
    fields = {"title": f"{{{paper.title}}}", "author": paper.authors, "booktitle": paper.booktitle}
    fields |= {"year": str(paper.year)} | (archive if paper.eprint else {"url": paper.url})
    lines = [f"  {name:<13} = {{{value}}}," for name, value in fields.items() if value]
    kind = "inproceedings" if paper.booktitle else "misc"
    return "\n".join([f"@{kind}{{{paper.key},", *lines, "}", ""])


_TITLES = {"preactresnet18": "PreActResNet-18", "resnet18": "ResNet-18"}


def architecture_title(entry: Entry) -> str:
    """As RobustBench writes architectures: `WideResNet-34-10`, also where an older entry says `wideresnet`."""
    model = entry.own["model"]
    if entry.info["architecture"] != "wideresnet":
        return _TITLES.get(entry.info["architecture"], str(entry.info["architecture"]))
    options = {"depth": 34, "width": 10} | model.get("options", {})
    return f"WideResNet-{options['depth']}-{options['width']}"


def architecture_family(architecture: str) -> str | None:
    """`ResNet-18` also for its pre-activation form, `WideResNet-34-10` for itself; None for one without relatives."""
    if re.fullmatch(r"(PreAct)?ResNet-18", architecture):
        return "ResNet-18"
    return architecture if re.fullmatch(r"(WideResNet|ResNet|DenseNet)-\d+(-\d+)?", architecture) else None
