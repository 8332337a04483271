"""Where training starts if not at random: from a checkpoint, or from a model of RobustBench's zoo."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import NamedTuple

from torch import nn

from rb_smooth import bridge
from rb_smooth.checkpoints import start_from
from rb_smooth.declaration import Recipe, Stage
from rb_smooth.models import Normalized
from rb_smooth.refusal import Refused, nearest
from rb_smooth.registry import defaults


class ZooModel(NamedTuple):
    """A model of RobustBench's own. folder: the `model_dir` of its loader, to which the user has downloaded weights."""

    name: str
    dataset: str
    threat: str
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.dataset / self.threat / f"{self.name}.pt"

    def load(self) -> nn.Module:
        """The model, in eval mode on the CPU: images (B, C, H, W) in [0, 1] -> logits (B, classes).

        Raises Refused, and touches no network, for an unknown name and where there is no file, or one of another kind.
        """
        if self.name not in (known := bridge.zoo_table(self.dataset, self.threat)):
            raise Refused(
                f"expected a model of RobustBench's for {self.dataset} {self.threat}, {nearest(self.name, known)}"
            )
        call = f"robustbench.load_model({self.name!r}, {str(self.folder)!r}, {self.dataset!r}, {self.threat!r})"
        if not self.path.exists():
            raise Refused(
                f"expected the weights of {self.name} in {self.path}, got nothing there; download them with {call}, "
                "or say where they are: --zoo-dir, or --set model.zoo_dir=… of a recipe"
            )
        load = bridge.robustbench().load_model
        try:
            model: nn.Module = load(self.name, str(self.folder), dataset=self.dataset, threat_model=self.threat)
        except (pickle.UnpicklingError, EOFError):
            raise Refused(
                f"expected the weights of {self.name} in {self.path}, got a damaged or foreign file (a web page, where "
                f"a download was refused); delete it and download them again with {call}, or with a browser"
            ) from None
        return model.eval()


def zoo_model(net: Stage, classes: int) -> ZooModel | None:
    """The published model that a recipe's `model:` names; None if it names an architecture."""
    if net.name != "robustbench":
        return None
    options = defaults("model", net.name) | dict(net.options)
    return ZooModel(options["id"], bridge.zoo_dataset(classes), options["threat"], Path(options["zoo_dir"]))


def start_file(recipe: Recipe, classes: int) -> Path | None:
    """The weights from which the recipe's training starts; None: it starts at random."""
    if recipe.train.start is not None:
        return Path(recipe.train.start)
    published = zoo_model(recipe.stage("model"), classes)
    return None if published is None else published.path


def give_start(model: Normalized, recipe: Recipe, classes: int) -> None:
    """Give `model` these weights; nothing where there are none. Raises Refused if they are missing or another's."""
    if recipe.train.start is not None:
        start_from(model, Path(recipe.train.start))
    elif (published := zoo_model(recipe.stage("model"), classes)) is not None:
        model.net.load_state_dict(published.load().state_dict())
