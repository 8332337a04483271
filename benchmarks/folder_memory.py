"""Print the bytes that an epoch over an image folder adds to this process.

    python benchmarks/folder_memory.py ROOT true|false

Each folder needs its own process, since freed memory is not returned. The folder is read as in training, without worker
processes (`data.workers` 0); `true` streams it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_component
from rb_smooth.data.splits import split
from rb_smooth.training import validate
from rb_smooth.training.batches import BatchLoader


def main(root: str, stream: str) -> None:
    torch.set_num_threads(1)
    settings = ["data.name=folder", f"data.root={root}", f"data.stream={stream}", "data.workers=0"]
    recipe = validate.check_recipe(
        *resolve_config("digits", "at", [*settings, "data.batch_size=8", "data.validation=4", "model.width=1"])
    )
    process, section = psutil.Process(), recipe.data
    before = process.memory_info().rss
    source = build_component("data", section.name, section.options, Path("data"))
    data = split(
        source, validation=section.validation, split_seed=section.split_seed, select=recipe.train.select
    ).load()
    minibatches, most = BatchLoader(recipe, data), 0
    order = minibatches.order(0)
    for batch in range(minibatches.per_epoch):
        minibatches.draw(order, batch, batch)
        most = max(most, process.memory_info().rss)
    print(most - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
