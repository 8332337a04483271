"""Evaluate the weights of a trained run and write its score.json."""

from __future__ import annotations

import torch
from torch import nn

from rb_smooth.components.models import Normalized
from rb_smooth.config.schema import Recipe
from rb_smooth.core import distributed, files
from rb_smooth.core.determinism import full_float32
from rb_smooth.data.splits import DataSplits
from rb_smooth.evaluation.accuracy import measure_accuracy
from rb_smooth.evaluation.evaluator import evaluate_model, network_config
from rb_smooth.training.run_folder.run import Run


def score_run(
    recipe: Recipe, run: Run, data: DataSplits, network: Normalized, device: torch.device, workers: int = 1
) -> None:
    """Evaluate best.pt with all attacks and last.pt with PGD-20, on the first test points. Writes score.json.

    network: result of `build_network`; its weights change.
    """
    net, source, classes = recipe.stage("model"), data.source, len(data.source.classes)
    model = network.to(device)
    points = data.test[: recipe.evaluate.n_examples].load()
    _load_weights(run, "last", model)
    with full_float32():
        last = {"clean": measure_accuracy(model, points), "pgd20": measure_accuracy(model, points, recipe.threat)}
    _load_weights(run, "best", model)
    measured = evaluate_model(
        model,
        points,
        recipe.threat,
        recipe.evaluate,
        classes=classes,
        weights_sha256=distributed.rank_zero_call(lambda: files.sha256(run.path / "best.pt")),
        parent=run.path,
        workers=workers,
    )
    if distributed.is_rank_zero():
        training = run.training
        run.set_score(
            {
                "asked": dict(recipe.sections["evaluate"]),
                "title": recipe.title,
                **measured,
                "last": last,
                "whole": len(points) == len(data.test),
                **source.score_fields,
                "selected_on": recipe.train.select,
                **({} if (rule := recipe.train.select_rule) == "maximum" else {"select_rule": rule}),
                "packages": training.pop("packages", {}),
                "training": training,
                "model": network_config(net.name, net.options, data.shape, classes),
            }
        )


def _load_weights(run: Run, name: str, model: nn.Module) -> None:
    """Load a run's weights in rank zero and broadcast them."""
    distributed.rank_zero_call(lambda: run.load_into(model, name))
    distributed.broadcast(model.state_dict().values())
