"""What can be seen to be wrong before data or GPU are touched: how a recipe's parts fit the data that it names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth import bridge
from rb_smooth.outlines import Outline
from rb_smooth.refusal import Refused
from rb_smooth.registry import build_model, make
from rb_smooth.sections import substance
from rb_smooth.seeding import random_state_kept

if TYPE_CHECKING:
    from rb_smooth.declaration import Recipe
    from rb_smooth.run_folder import Progress


def inspect(recipe: Recipe, known: Outline, progress: Progress) -> None:
    """Raises Refused for what cannot train on data of this outline, or start from what is named.

    Reads headers and labels, no image. Called as soon as the outline is known: before the data are read if their name
    tells it, else after.
    """
    net = recipe.stage("model")
    _check_classes(recipe, known.classes)
    _check_augmentations(recipe, known)
    _check_model(net.name, tuple(net.options.items()), known)
    if recipe.data.extra is not None and progress != "trained":
        _check_extra(recipe, known)
    if progress == "new":
        from rb_smooth.pretrained import give_start, start_file

        if start_file(recipe, known.classes) is not None:
            with random_state_kept():
                give_start(build_model(net.name, net.options, known.shape, known.classes), recipe, known.classes)


@lru_cache
def _check_model(name: str, options: tuple[tuple[str, Any], ...], known: Outline) -> None:
    """On the meta device, where a model has shapes and no weights; but a few look at their numbers as they answer."""
    import torch

    wanted = (name, dict(options), known.shape, known.classes)
    try:
        with torch.device("meta"):
            build_model(*wanted)
    except (Refused, RuntimeError):
        with random_state_kept():
            build_model(*wanted)


def _check_classes(recipe: Recipe, classes: int) -> None:
    """Refuse data of too few classes for the final attack, naming the objective where even that could not train."""
    if classes < 2:
        objective = recipe.stage("objective").name
        raise Refused(f"expected 2 classes or more for objective {objective}, got {classes}; use other data")
    if classes < bridge.FEWEST_CLASSES:
        raise Refused(
            f"expected {bridge.FEWEST_CLASSES} classes or more, for AutoAttack's targeted attacks, got {classes}; use "
            "other data"
        )


def _check_augmentations(recipe: Recipe, known: Outline) -> None:
    import torch

    blank = torch.zeros(1, *known.shape, dtype=torch.uint8)
    for name, options in recipe.data.augmentations:
        try:
            make("augmentation", name, options)(blank, torch.Generator())
        except ValueError as error:
            raise Refused(f"augmentation {name}: {error}; change data.augment") from None


def _check_extra(recipe: Recipe, known: Outline) -> None:
    from rb_smooth.extra import check_extra
    from rb_smooth.labelling import best_model
    from rb_smooth.run_folder import Run

    extra = recipe.data.extra
    assert extra is not None
    if not 0 < round(extra.share * recipe.data.batch_size) < recipe.data.batch_size:
        raise Refused(
            f"expected data.extra.share to leave images of both kinds in a minibatch of {recipe.data.batch_size}, got "
            f"{extra.share}; change it or data.batch_size"
        )
    if (extra.labels == "pseudo") != (extra.labeller is not None):
        raise Refused(
            "expected data.extra.labeller if and only if data.extra.labels is pseudo, got "
            f"labels {extra.labels} and labeller {extra.labeller}; correct one of them"
        )
    if extra.labeller is not None:
        run = Run(Path(extra.labeller))
        best_model(run, known)
        ours = substance({"data": {"name": recipe.data.name, **recipe.data.options}})["data"]
        if (theirs := {key: run.header["data"].get(key) for key in ours}) != ours:
            raise Refused(f"expected a labeller trained on {ours}, got one trained on {theirs}; choose another run")
    check_extra(Path(extra.file), known, labelled=extra.labels == "given")
