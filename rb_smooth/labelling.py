"""Extra images with their labels: those given with them, or those that a model of ours gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rb_smooth.extra import read_images, read_labels
from rb_smooth.images import AnyImages, Images, batches
from rb_smooth.models import Normalized
from rb_smooth.outlines import Outline
from rb_smooth.refusal import Refused
from rb_smooth.registry import build_model
from rb_smooth.run_folder import Run
from rb_smooth.seeding import random_state_kept

if TYPE_CHECKING:
    from rb_smooth.declaration import Extra

_BATCH_SIZE = 500


def extra_images(extra: Extra, known: Outline, device: torch.device) -> Images:
    """The images that `data.extra` names, for data of this outline, on `device`.

    Pseudo-labels (Carmon et al., "Unlabeled Data Improves Adversarial Robustness", arXiv 1905.13736) are the classes
    that the labeller, a finished run of ours on data of the same kind, finds likeliest.
    """
    x = read_images(Path(extra.file))
    if extra.labeller is None:
        return Images(x, read_labels(Path(extra.file))).to(device)
    unlabelled = Images(x, torch.zeros(len(x), dtype=torch.int64)).to(device)
    model = best_model(Run(Path(extra.labeller)), known).to(device)
    return replace(unlabelled, y=likeliest(model, unlabelled, device))


def best_model(run: Run, known: Outline) -> Normalized:
    """The run's best model, in eval mode. Raises Refused if it is not finished, or its model is of other data."""
    if not run.is_trained:
        raise Refused(f"expected a finished run in {run.path}, got none; train it, or name another one")
    options = dict(run.header["model"])
    with random_state_kept():
        model = build_model(options.pop("name"), options, known.shape, known.classes)
    run.load_into(model, "best")
    return model.eval()


@torch.no_grad()
def likeliest(model: nn.Module, images: AnyImages, device: torch.device) -> Tensor:
    """The class that `model`, as it stands, gives each image: (N,) int64, on `device`."""
    return torch.cat([model(x).argmax(1) for x, _ in batches(images, _BATCH_SIZE, device)])
