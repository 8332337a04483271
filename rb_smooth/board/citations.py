"""The papers behind what an entry used, as BibTeX: fields that were read in the papers' records, nothing guessed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rb_smooth.entries import Entry
from rb_smooth.sections import STAGED


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


def used_by(entry: Entry) -> list[Paper]:
    """The papers of the methods that trained it, in any stage, and of how it is evaluated and ranked."""
    sections = [entry.own["recipe"].get(key, []) for key in STAGED]
    stages = [stage for section in sections for stage in (section if isinstance(section, list) else [section])]
    names = {stage.get("name") for stage in stages}
    return [paper for paper in PAPERS if not paper.of or paper.of & names]


def written(papers: Iterable[Paper]) -> str:
    """BibTeX, each paper once. Capitals of titles are kept as printed."""
    return "\n".join(_entry(paper) for paper in dict.fromkeys(papers))


def _entry(paper: Paper) -> str:
    archive = {"eprint": paper.eprint, "archiveprefix": "arXiv", "url": f"https://arxiv.org/abs/{paper.eprint}"}
    fields = {"title": f"{{{paper.title}}}", "author": paper.authors, "booktitle": paper.booktitle}
    fields |= {"year": str(paper.year)} | (archive if paper.eprint else {"url": paper.url})
    lines = [f"  {name:<13} = {{{value}}}," for name, value in fields.items() if value]
    kind = "inproceedings" if paper.booktitle else "misc"
    return "\n".join([f"@{kind}{{{paper.key},", *lines, "}", ""])
