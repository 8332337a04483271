"""Problems of a typed recipe in which several of its keys meet: a message for each."""

from __future__ import annotations

from collections.abc import Iterator

from rb_smooth.config.schema import Recipe
from rb_smooth.core.formatting import counted
from rb_smooth.data.image_spec import TRAINING_IMAGES


def epoch_problems(recipe: Recipe, where: str) -> Iterator[str]:
    """Stages that begin, and weights that are stored, after the last epoch."""
    length = counted(recipe.train.epochs, "epoch")
    for kind, stages in recipe.stages.items():
        if (last := stages[-1].from_epoch) >= recipe.train.epochs:
            yield (
                f"expected the stages of {kind} in {where} to start within {length}, got "
                f"from_epoch {last}; correct it or train.epochs"
            )
    if recipe.train.keep and max(recipe.train.keep) > recipe.train.epochs:
        yield (
            f"expected train.keep in {where} within {length}, got {max(recipe.train.keep)}; correct it or train.epochs"
        )


def image_problems(recipe: Recipe, where: str) -> Iterator[str]:
    """No images held out, all of them, or too few left for a minibatch, where their number is known."""
    selects_on_them = recipe.train.select == "validation"
    held_out = recipe.data.validation if selects_on_them else 0
    if selects_on_them and held_out == 0:
        yield f"expected data.validation > 0 in {where}, got 0; hold some out, or set train.select: test"
    total = TRAINING_IMAGES.get(recipe.data.name)
    if total is not None and held_out >= total:
        yield f"expected data.validation below {total}, the number of images, got {held_out}; lower it"
    elif total is not None and (left := min(total - held_out, recipe.data.train_examples or total)) < (
        size := recipe.data.batch_size
    ):
        yield f"expected {size} training images, one minibatch, got {left}; lower data.batch_size"
