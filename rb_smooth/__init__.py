"""rb_smooth: adversarially robust models, trained by published recipes and ranked beside RobustBench's.

    run = rb_smooth.train("digits/at+ensgd")
    score = rb_smooth.evaluate(run)
    entry = rb_smooth.submit(run)

Importing it does not import torch, and makes a later `import robustbench` work where PyPI's packages alone do not.
Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rb_smooth.core import robustbench
from rb_smooth.core.old_paths import forward_old_paths
from rb_smooth.core.requirements import require_packages

if TYPE_CHECKING:
    from rb_smooth.api import Comparison, compare, evaluate, submit, train
    from rb_smooth.components.averaging.ema import EMA
    from rb_smooth.components.batchnorm import recalibrate
    from rb_smooth.components.models import Normalized
    from rb_smooth.components.objectives.at import AT
    from rb_smooth.components.objectives.mart import MART
    from rb_smooth.components.objectives.standard import Standard
    from rb_smooth.components.objectives.trades import TRADES
    from rb_smooth.components.optimizers.entropy_sgd import EntropySGD
    from rb_smooth.components.optimizers.entropy_sgd2 import EntropySGD2
    from rb_smooth.components.optimizers.sgd import SGD
    from rb_smooth.components.perturbations.awp import AWP
    from rb_smooth.config.overrides import resolve_config
    from rb_smooth.core.errors import Interrupted, Refused, UserError
    from rb_smooth.core.threat import Threat
    from rb_smooth.evaluation.score import Score
    from rb_smooth.evaluation.sequential_audit import Audit
    from rb_smooth.leaderboard.auditing import audit
    from rb_smooth.leaderboard.entries import Entry
    from rb_smooth.leaderboard.external import ExternalModel, Outsider
    from rb_smooth.leaderboard.page.render import write_page
    from rb_smooth.leaderboard.reports.bundle import write_bundle
    from rb_smooth.leaderboard.reports.latex import render_table
    from rb_smooth.leaderboard.verification import reproduce, verify
    from rb_smooth.leaderboard.zoo import load_model, recipes, register
    from rb_smooth.training.pipeline import RunOptions, run_recipe
    from rb_smooth.training.run_folder.run import Run
    from rb_smooth.training.run_folder.summary import find_runs, summarise
    from rb_smooth.training.sweep.comparison import RunResult, compare_methods


__version__ = "0.2.0"

_PUBLIC_NAMES = {
    "api": ("Comparison", "compare", "evaluate", "submit", "train"),
    "leaderboard.auditing": ("audit",),
    "evaluation.sequential_audit": ("Audit",),
    "leaderboard.zoo": ("load_model", "recipes", "register"),
    "training.run_folder.run": ("Run",),
    "evaluation.score": ("Score",),
    "leaderboard.entries": ("Entry",),
    "leaderboard.external": ("ExternalModel", "Outsider"),
    "core.errors": ("Interrupted", "Refused", "UserError"),
    # the other programs
    "config.overrides": ("resolve_config",),
    "training.pipeline": ("RunOptions", "run_recipe"),
    "training.sweep.comparison": ("RunResult", "compare_methods"),
    "training.run_folder.summary": ("find_runs", "summarise"),
    "leaderboard.verification": ("reproduce", "verify"),
    "leaderboard.page.render": ("write_page",),
    "leaderboard.reports.bundle": ("write_bundle",),
    "leaderboard.reports.latex": ("render_table",),
    # parts for other training loops
    "core.threat": ("Threat",),
    "components.models": ("Normalized",),
    "components.batchnorm": ("recalibrate",),
    "components.objectives.at": ("AT",),
    "components.objectives.mart": ("MART",),
    "components.objectives.standard": ("Standard",),
    "components.objectives.trades": ("TRADES",),
    "components.perturbations.awp": ("AWP",),
    "components.optimizers.entropy_sgd": ("EntropySGD",),
    "components.optimizers.entropy_sgd2": ("EntropySGD2",),
    "components.optimizers.sgd": ("SGD",),
    "components.averaging.ema": ("EMA",),
}
"""Where the public names live."""

_MODULE_OF_NAME = {name: room for room, names in _PUBLIC_NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF_NAME)

require_packages()
robustbench.install()
forward_old_paths()


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF_NAME:
        return getattr(import_module(f"rb_smooth.{_MODULE_OF_NAME[name]}"), name)
    raise AttributeError(f"module 'rb_smooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
