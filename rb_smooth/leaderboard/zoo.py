"""Load entries through RobustBench's API and through ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.config import resolver
from rb_smooth.config.sections import Sections
from rb_smooth.core import files, robustbench
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.leaderboard.entries import Entry, find_entry, list_entries, model_dir
from rb_smooth.training.run_folder.run import Run

if TYPE_CHECKING:
    from torch import Tensor, nn


_ROBUSTBENCH_DATASETS = ("cifar10", "cifar100")


def recipes() -> list[str]:
    """List all recipes, those in ./recipes included: "cifar10/at", "cifar10/at+ensgd", …"""
    return [f"{dataset}/{method}" for dataset in resolver.list_datasets() for method in resolver.list_methods(dataset)]


def register(leaderboard: str | Path = "leaderboard", new_datasets: bool = False) -> list[str]:
    """Register all entries with RobustBench, for robustbench.utils.load_model and benchmark. Returns their names.

    Load them with model_dir="<leaderboard>/models". Call it again after new submissions. Raises UserError for an entry
    with the name of one of RobustBench's own models.

    new_datasets: also entries of data sets that RobustBench lacks (svhn, digits, folders), whose names are added to its
    enumeration of data sets, a private part of it.
    """
    entries = [
        entry for entry in list_entries(Path(leaderboard))[0] if new_datasets or entry.dataset in _ROBUSTBENCH_DATASETS
    ]
    for entry in entries:
        register_entry(entry)
    return [entry.name for entry in entries]


def register_entry(entry: Entry) -> None:
    """Register one entry, and its data set if RobustBench lacks it."""
    if entry.dataset not in _ROBUSTBENCH_DATASETS:
        loader = partial(_load_test_points, entry.own["recipe"]["data"])
        robustbench.register_dataset(entry.dataset, entry.own["model"]["classes"], loader)
    table = robustbench.zoo_table(entry.dataset, entry.threat)
    if entry.name in table and not isinstance(table[entry.name]["model"], _Architecture):
        raise UserError(
            f"expected a name that no model of RobustBench's has, got {entry.name} in {entry.path}; delete that file, "
            "and submit the model under another --name"
        )
    table[entry.name] = {
        "model": _Architecture(build_entry_network, entry),
        "gdrive_id": _NoDownload(model_dir(entry.leaderboard)),
    }


def load_model(
    name: str | Run, dataset: str = "cifar10", threat_model: str = "Linf", leaderboard: str | Path = "leaderboard"
) -> nn.Module:
    """Load a model in eval mode on the CPU: images (B, C, H, W) in [0, 1] -> logits (B, classes).

    name: an entry of `leaderboard`, on the board of `dataset` and `threat_model` (a norm), registered or not; or a run,
    for the weights of its best epoch, which ignores the other arguments.

    Raises UserError for an unknown name (with the most similar one), for a run that is not trained, and for missing
    weights.
    """
    if isinstance(name, Run):
        return _load_run(name)
    return load_entry(find_entry(name, Path(leaderboard), dataset, threat_model))


def _load_run(run: Run) -> nn.Module:
    from rb_smooth.config.schema import Data
    from rb_smooth.data.image_spec import ImageSpec, known_image_spec
    from rb_smooth.training.batches import load_best_model

    if (score := run.score) is not None:
        known: ImageSpec | None = ImageSpec(tuple(score["model"]["shape"]), score["model"]["classes"])
    else:
        data = run.recipe.sections["data"]
        known = known_image_spec(data["name"], {key: data[key] for key in data if key not in Data.model_fields})
    if known is None:
        raise UserError(
            f"expected an evaluated run in {run.path}, as the number of its classes is unknown; evaluate it"
        )
    return load_best_model(run, known)


def load_entry(entry: Entry) -> nn.Module:
    """Load the entry's model in eval mode on the CPU. Raises UserError if the weights are missing, damaged or not the
    evaluated ones.
    """
    weights, model = entry.measured_weights(), build_entry_network(entry)
    try:
        model.load_state_dict(files.load_tensors(weights))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"expected the weights of {entry.name} in {entry.weights}, got others ({first_line(error)}); restore them"
        ) from None
    return model.eval()


def build_entry_network(entry: Entry) -> nn.Module:
    """Build the entry's network with initial weights. Raises UserError, naming the package, if a third-party model is
    not installed.
    """
    from rb_smooth.config.registry import build_model, check_installed

    model, packages = entry.own["model"], entry.packages
    check_installed({method: packages[method] for method in packages if method == f"model.{model['name']}"})
    return build_model(model["name"], model.get("options", {}), tuple(model["shape"]), model["classes"])


class _Architecture(partial):
    """Builds an entry's network; RobustBench calls it without arguments and loads the checkpoint into the result."""


class _NoDownload(str):
    """The weights' folder, where RobustBench has the id of a download. It prints the id before it downloads."""

    def __format__(self, _: str) -> str:
        raise UserError(
            f"expected the weights of an entry in RobustBench's model_dir, got none; pass model_dir={str(self)!r} to "
            "load_model"
        )


def _load_test_points(
    section: Sections, n_examples: int | None, data_dir: str, preprocessing: Any = None
) -> tuple[Tensor, Tensor]:
    """RobustBench's loader of test points, for the data set of a recipe's `section`."""
    from rb_smooth.config.schema import load_raw_dataset

    test = load_raw_dataset(section, Path(data_dir)).test[:n_examples].load()
    return (test.x.float() / 255).contiguous(), test.y  # AutoAttack's L2 attacks take no other
