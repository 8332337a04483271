"""A trained network with its checkpoints, training images and test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rb_smooth.config.registry import build_model
from rb_smooth.config.schema import load_raw_dataset
from rb_smooth.config.sections import Sections
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.threat import Threat
from rb_smooth.data.datasets import RawDataset
from rb_smooth.data.images import AnyImages, Images, fixed_permutation
from rb_smooth.data.splits import split
from rb_smooth.leaderboard.entries import Entry, list_entries
from rb_smooth.leaderboard.zoo import load_entry
from rb_smooth.training import validate
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.run_folder.summary import find_run, find_runs, is_run, match_runs


@dataclass(frozen=True)
class TrainedModel:
    """A run or a leaderboard entry.

    name:    name of the run folder or of the entry. method: title of the recipe, `at+ensgd` or `at (30 epochs)`.
    threat:  threat model of its own evaluation.
    train:   the training images without augmentation, extra images and validation images. test: the test set.
    weights: checkpoint files: `best`, `last`, and `first`, the earliest epoch of train.keep if there is one. An entry
             has only `best`.
    """

    name: str
    method: str
    dataset: str
    seed: int
    threat: Threat
    train: AnyImages
    test: AnyImages
    weights: Mapping[str, Path]
    _architecture: Mapping[str, Any]
    _source: Run | Entry

    def load(self, checkpoint: str = "best") -> nn.Module:
        """The network with the weights `checkpoint`, in eval mode on the CPU: images in [0, 1] -> logits.

        Raises UserError for an unknown checkpoint, or if its file is missing or damaged.
        """
        if checkpoint not in self.weights:
            fix = "; train with --set train.keep=[1]" if checkpoint == "first" else ""
            raise UserError(f"expected weights of {self.name}, {did_you_mean(checkpoint, self.weights)}{fix}")
        if isinstance(self._source, Entry):
            return load_entry(self._source)
        model = build_model(**self._architecture)
        self._source.load_into(model, self.weights[checkpoint].stem)
        return model.eval()


def find_trained_model(what: str, *, runs: Path, leaderboard: Path, data_dir: Path) -> TrainedModel:
    """Look up a run by folder, a run in `runs` by name, or an entry of `leaderboard` by name.

    Raises UserError for an unknown name, with a suggestion, and for a run that is not trained yet.
    """
    entries = {entry.name: entry for entry in list_entries(leaderboard, wanted=[what])[0]}
    known = {name for name, _ in find_runs(runs)}
    if is_run(Path(what)) or (match_runs(what, known) and what not in entries):
        return _from_run(find_run(what, runs), data_dir)
    if what in entries:
        return _from_entry(entries[what], data_dir)
    raise UserError(
        f"expected a run in {runs} or an entry of {leaderboard}, {did_you_mean(what, known | entries.keys())}"
    )


def first_images(images: AnyImages, n: int) -> Images:
    """The first `n` images, in memory; if they are sorted by class, the first `n` of a fixed permutation."""
    if bool((images.y.diff() >= 0).all()):
        images = images[fixed_permutation(len(images))]
    return images[:n].load()


def _from_run(run: Run, data_dir: Path) -> TrainedModel:
    resolved = run.recipe
    if not run.is_trained:
        raise UserError(
            f"expected a trained run in {run.path}, got one without last.pt; repeat its recipe to resume it"
        )
    recipe = validate.check_recipe(*resolved, "trained")
    source, train = _images(resolved.sections, data_dir)
    net = recipe.stage("model")
    epochs = sorted(run.path.glob("epoch-*.pt"), key=lambda path: int(path.stem.partition("-")[2]))
    weights = {"first": epochs[0]} if epochs else {}
    weights |= {name: run.path / f"{name}.pt" for name in ("best", "last")}
    return TrainedModel(
        name=run.path.resolve().name,
        method=recipe.title,
        dataset=source.board,
        seed=recipe.train.seed,
        threat=recipe.threat,
        train=train,
        test=source.test,
        weights=weights,
        _architecture={
            "name": net.name,
            "options": dict(net.options),  # a plain dict can be pickled
            "shape": source.test.shape,
            "classes": len(source.classes),
        },
        _source=run,
    )


def _from_entry(entry: Entry, data_dir: Path) -> TrainedModel:
    own = entry.own
    source, train = _images(own["recipe"], data_dir)
    return TrainedModel(
        name=entry.name,
        method=str(own["method"]),
        dataset=entry.dataset,
        seed=own["recipe"].get("train", {}).get("seed", 0),
        threat=Threat(**own["score"]["threat"]),
        train=train,
        test=source.test,
        weights={"best": entry.weights},
        _architecture={},
        _source=entry,
    )


def _images(sections: Sections, data_dir: Path) -> tuple[RawDataset, AnyImages]:
    """The dataset, and its training split; all its training images if `sections` has no section `train`."""
    data, source = sections["data"], load_raw_dataset(sections["data"], data_dir)
    if "train" not in sections:
        return source, source.train
    given = {key: data[key] for key in ("validation", "split_seed", "train_examples") if key in data}
    options = {"validation": 0, "split_seed": 0} | given
    return source, split(source, select=sections["train"].get("select", "validation"), **options).train
