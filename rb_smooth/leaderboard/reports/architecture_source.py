"""A network of ours as Python that needs nothing but torch and RobustBench: what RobustBench's model zoo would hold.

Taken from the source of `rb_smooth.components.models`, so that it cannot fall behind; what it has of ours is replaced
or left out. Reading the source costs no torch.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from rb_smooth.core.errors import UserError

_NORMALIZED = '''class Normalized(nn.Module):
    """net((x - mean) / std): images in [0, 1]. The checkpoint carries mean and std, one number per channel."""

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.std)
'''

_HEADER = """from importlib import import_module
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""

_ZOO = '''def zoo_dataset(classes: int) -> str:
    return "cifar100" if classes == 100 else "cifar10"


def zoo_network(dataset: str, threat: str, name: str) -> nn.Module:
    """RobustBench's own network, untrained."""
    zoo, enums = import_module("robustbench.model_zoo"), import_module("robustbench.model_zoo.enums")
    return zoo.model_dicts[enums.BenchmarkDataset(dataset)][enums.ThreatModel(threat)][name]["model"]()
'''
"""What `core.robustbench` has of these names, without its refusals."""

_OWN_NAMES = ("bridge", "ranges", "UserError")
"""What `models` imports from us, and RobustBench does not have."""


def write_architecture_source(model: dict[str, Any]) -> str:
    """Python that defines `build()`, the untrained network that an entry's weights are loaded into.

    model: an entry's `model` block. Raises UserError for a network that is not of `rb_smooth.components.models`, or
    needs more of us than is understood here.
    """
    text = (Path(__file__).parents[2] / "components" / "models.py").read_text(encoding="utf-8")
    parts = _required_source(model["name"], text)
    if parts is None:
        raise UserError(
            f"expected a network of rb_smooth.components.models, got {model['name']!r}; write its source by hand"
        )
    channels, classes = int(model["shape"][0]), int(model["classes"])
    options = model.get("options", {})
    for key, value in options.items():  # they become code
        if not key.isidentifier() or not isinstance(value, (bool, int, float, str)):
            raise UserError(f"expected plain options of {model['name']}, got {key!r}: {value!r}; correct the entry")
    given = "".join(f", {key}={value!r}" for key, value in options.items())
    build = (
        "def build() -> nn.Module:\n"
        f"    return Normalized({model['name']}({channels}, {classes}{given}), channels={channels})\n"
    )
    parts = [_ZOO, *parts] if "bridge.zoo_" in "".join(parts) else parts
    source = "\n\n".join([_HEADER, _NORMALIZED, *map(_strip_own_imports, parts), build])
    if left := [name for name in _OWN_NAMES if re.search(rf"\b{name}\b", source)]:
        raise UserError(
            f"expected a network of torch and RobustBench alone, got {model['name']}, which uses {left[0]}; write its "
            "source by hand"
        )
    return source


def _required_source(name: str, text: str) -> list[str] | None:
    """Source of the function `name` and of all private definitions it leans on, in the file's order."""
    definitions = {
        node.name: node for node in ast.parse(text).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    if name not in definitions:
        return None
    wanted, ahead = set[str](), [name]
    while ahead:
        current = ahead.pop()
        wanted.add(current)
        used = {node.id for node in ast.walk(definitions[current]) if isinstance(node, ast.Name)}
        ahead += sorted((used & definitions.keys()) - wanted)
    return [f"{ast.get_source_segment(text, node)}\n" for key, node in definitions.items() if key in wanted]


def _strip_own_imports(source: str) -> str:
    """RobustBench's modules by their own names; no check of options, which are what they are."""
    theirs = r'import_module("robustbench.model_zoo.architectures.\1")'
    source = re.sub(r'bridge\.architectures\("(\w+)"\)', theirs, source)
    source = re.sub(r"bridge\.(zoo_\w+)", r"\1", source)
    return re.sub(r"^ +ranges\..*\n", "", source, flags=re.M)
