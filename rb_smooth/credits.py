"""What an entry owes: its method's paper, its architecture by RobustBench's name, and data beyond the training set."""

from __future__ import annotations

from typing import Any

from rb_smooth import bridge
from rb_smooth.entries import published
from rb_smooth.sections import STAGED, Sections

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


def paper(sections: Sections) -> str:
    """The link of a recipe's paper; empty for what no paper introduced."""
    used = _methods(sections)
    return next((link for name, link in _PAPERS.items() if name in used), "")


def architecture(model: dict[str, Any]) -> str:
    """`WideResNet-34-10` for {name: wideresnet, options: …}; a name that we have no words for stays as it is."""
    if model["name"] == "robustbench":
        return str(_published_row(model).get("architecture", model["options"]["id"]))
    try:
        return _ARCHITECTURES[model["name"]].format(**model["options"])
    except KeyError:
        return str(model["name"])


def saw_more(sections: Sections, score: dict[str, Any]) -> bool:
    """Whether more than the training set went into the weights, perhaps through those from which training started."""
    model = score["model"]
    if sections["data"].get("extra") is not None or sections["train"].get("start") is not None:
        return True
    if model["name"] != "robustbench":
        return False
    return score["board"] != bridge.zoo_dataset(model["classes"]) or _published_row(model).get("extra_data", True)


def _published_row(model: dict[str, Any]) -> dict[str, Any]:
    """What RobustBench says of the model whose network this is; nothing, if our copy of its tables lacks it."""
    options = model["options"]
    rows = published(bridge.zoo_dataset(model["classes"]), options["threat"])["entries"]
    return next((row for row in rows if row["name"] == options["id"]), {})


def _methods(sections: Sections) -> set[str]:
    """Names of all that trains, in any stage."""
    staged = [sections[key] for key in STAGED]
    return {stage["name"] for stages in staged for stage in (stages if isinstance(stages, list) else [stages])}
