"""Extra images with their labels: those given with them, or those that a model of ours gives."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rb_smooth import schema
from rb_smooth.data import Images
from rb_smooth.extra import read_images, read_labels
from rb_smooth.registry import build_model
from rb_smooth.runs import Run
from rb_smooth.splits import Dataset

_BATCH_SIZE = 500


def extra_images(extra: schema.Extra, data: Dataset, device: torch.device) -> Images:
    """The images that `data.extra` names, on the CPU.

    Pseudo-labels (Carmon et al., "Unlabeled Data Improves Adversarial Robustness", arXiv 1905.13736, section 3.1) are
    the classes that the labeller, a finished run of ours on data of the same kind, finds likeliest.
    """
    x = read_images(Path(extra.file))
    if extra.labeller is None:
        return Images(x, read_labels(Path(extra.file)))
    return Images(x, _pseudo_labels(Run(Path(extra.labeller)), x, data, device))


def _pseudo_labels(run: Run, x: Tensor, data: Dataset, device: torch.device) -> Tensor:
    net = dict(run.header["model"])
    model = build_model(net.pop("name"), net, data.shape, len(data.source.classes)).to(device)
    run.load_into(model, "best")
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part.to(device).float() / 255).argmax(1).cpu() for part in x.split(_BATCH_SIZE)])
