"""Submit an external checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rb_smooth.components.checkpoints import export_state_dict, load_checkpoint
from rb_smooth.components.flops import choose_threads
from rb_smooth.components.foreign_model import build_foreign_model, is_foreign
from rb_smooth.components.models import Normalized
from rb_smooth.config.registry import build_model, packages_of
from rb_smooth.config.schema import Evaluate, load_raw_dataset, parse_protocol
from rb_smooth.config.sections import Sections
from rb_smooth.core import files
from rb_smooth.core.console import is_quiet, log_info
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.input_files import regular_file
from rb_smooth.core.threat import Threat
from rb_smooth.data.datasets import RawDataset
from rb_smooth.evaluation.evaluator import evaluate_model, network_config
from rb_smooth.leaderboard.entries import Entry, cache_folder, published_entries
from rb_smooth.leaderboard.submission import Submission, entry_info, write_entry
from rb_smooth.training.cost import evaluation_estimate

_FIX_HINT = "correct --arch, its --set model.…, --key or the file"


@dataclass(frozen=True)
class ExternalModel:
    """A checkpoint and what its file does not contain.

    architecture, options: a model of a recipe and its options. data: a recipe's section. threat: the ball of the
    evaluation. asked: the protocol, or keys of a recipe's `evaluate:`. standardise: inputs are normalised by the mean
    and standard deviation of the data, unless the file has its own. key: name of the state dict, if the file has
    several. name: of the entry; default: the file's and the architecture's. told: values of RobustBench's JSON: name
    (title), authors, link, venue, additional_data.
    """

    checkpoint: Path
    architecture: str
    options: dict[str, Any]
    data: Sections
    threat: Threat
    asked: Evaluate | Mapping[str, Any] = field(default_factory=Evaluate)
    standardise: bool = False
    key: str | None = None
    name: str | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        norm, eps, step_size = self.threat
        object.__setattr__(self, "checkpoint", Path(self.checkpoint))
        object.__setattr__(self, "threat", Threat(norm, float(eps), float(step_size)))  # numpy's are not JSON

    @property
    def protocol(self) -> Evaluate:
        """`asked` as a protocol. Raises UserError for invalid values."""
        return self.asked if isinstance(self.asked, Evaluate) else parse_protocol(self.asked)


def build_external(external_model: ExternalModel, source: RawDataset) -> Normalized:
    """Return the network with the checkpoint's weights, on the CPU. A foreign network's code is executed.

    Raises UserError for a missing file and for weights of another network.
    """
    path, options = external_model.checkpoint, external_model.options
    _check_file(path)
    shape, normalisation = source.test.shape, source.normalisation if external_model.standardise else ()
    if is_foreign(external_model.architecture):
        network = build_foreign_model(external_model.architecture, options)
        mean, std = normalisation or ((0.0,) * shape[0], (1.0,) * shape[0])
        model = Normalized(network, [*mean], [*std])
    else:
        model = build_model(external_model.architecture, options, shape, len(source.classes), *normalisation)
    others = load_checkpoint(model, path, _FIX_HINT, external_model.key)
    if others and external_model.key is None:
        log_info(f"{path} also has {', '.join(others)}; choose with --key")
    if _gets_pixels(model):
        log_info(
            f"{path} has no mean and standard deviation: the network gets pixels in [0, 1]; if it was trained on "
            "normalised images, add --standardise, or its robust accuracy is too low"
        )
    return model


def _gets_pixels(model: Normalized) -> bool:
    """Whether images reach the network as they are, and it has no normalisation of its own."""
    own = {key.rpartition(".")[2] for key in model.net.state_dict()} & {"mean", "mu", "std", "sigma"}
    return not own and not bool(model.mean.any()) and bool((model.std == 1).all())


def _check_file(path: Path) -> None:
    if not path.exists():
        raise UserError(f"expected a checkpoint or a run's folder at {path}, got nothing there; correct the path")
    regular_file(path)


def submit_checkpoint(
    external_model: ExternalModel,
    leaderboard: Path,
    *,
    data_dir: Path,
    device: torch.device,
    workers: int = 1,
    replace: bool = False,
) -> Entry:
    """Evaluate the model as entries of runs are, and write its entry.

    Results are cached in <leaderboard>/.evaluations; after an interruption the same call continues. Raises UserError
    for a file without matching weights, and for a model that fails the trust checks.
    """
    path, architecture, options = external_model.checkpoint, external_model.architecture, external_model.options
    threat, key, standardise = external_model.threat, external_model.key, external_model.standardise
    _check_file(path)
    protocol = external_model.protocol
    name = validate_name(external_model.name or f"{path.stem}_{architecture}")
    source = load_raw_dataset(external_model.data, data_dir)
    if name in {row["name"] for row in published_entries(source.board, threat.norm)["entries"]}:
        raise UserError(f"expected a name that no model of RobustBench's has, got {name}; choose another --name")
    points, classes = source.test[: protocol.n_examples].load(), len(source.classes)
    model = build_external(external_model, source)
    choose_threads(model, points.shape, protocol.batch_size)
    sha256 = files.sha256(path)
    cache = cache_folder(leaderboard, sha256) / ("standardised" if standardise else "plain")
    weights = cache / "weights.pt"
    files.save_tensors(weights, export_state_dict(model))
    model.to(device)
    if not is_quiet():  # the estimate takes a moment
        with suppress(RuntimeError):  # a model without gradients fails a trust check, which says so
            log_info(f"{source.board} {name}; {evaluation_estimate(model, points, protocol, device, workers)}")
    score = evaluate_model(
        model,
        points,
        threat,
        protocol,
        classes=classes,
        weights_sha256=files.sha256(weights),
        parent=cache,
        workers=workers,
    ) | {
        **source.score_fields,
        "whole": len(points) == len(source.test),
        "packages": packages_of([("model", architecture), ("data", external_model.data["name"])]),
    }
    metadata = {"name": name, "link": "", "authors": "not told", "venue": "local", "additional_data": False}
    metadata |= external_model.told
    own = {
        "run": f"checkpoint {sha256}",
        "method": metadata["name"],
        "recipe": {"data": dict(external_model.data), "evaluate": protocol.model_dump(exclude_none=True)},
        "origin": {"checkpoint": path.name, "sha256": sha256, "key": key, "standardise": standardise},
    }
    net = network_config(architecture, options, points.shape, classes)
    entry = Entry(leaderboard, source.board, threat.norm, name, entry_info(score, net, metadata, own))
    results = cache / score["findings"]
    return write_entry(
        Submission(entry, lambda network: network.load_state_dict(files.load_tensors(weights)), results), replace
    )


Outsider = ExternalModel  # public name
