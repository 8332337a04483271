"""rb_smooth: adversarially robust models, trained by published recipes and ranked beside RobustBench's.

    run = rb_smooth.train("digits/at+ensgd")
    score = rb_smooth.evaluate(run)
    entry = rb_smooth.submit(run)

Importing it costs no torch, and makes a later `import robustbench` work where PyPI's packages alone do not. Every name
below is looked up when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rb_smooth import bridge

if TYPE_CHECKING:
    from rb_smooth.api import Comparison, compare, evaluate, submit, train
    from rb_smooth.averaging.ema import EMA
    from rb_smooth.batchnorm import recalibrate
    from rb_smooth.contracts import Threat
    from rb_smooth.entries import Entry
    from rb_smooth.models import Normalized
    from rb_smooth.objectives.at import AT
    from rb_smooth.objectives.mart import MART
    from rb_smooth.objectives.standard import Standard
    from rb_smooth.objectives.trades import TRADES
    from rb_smooth.optimizers.entropy_sgd import EntropySGD
    from rb_smooth.optimizers.entropy_sgd2 import EntropySGD2
    from rb_smooth.optimizers.sgd import SGD
    from rb_smooth.outsiders import Outsider
    from rb_smooth.perturbations.awp import AWP
    from rb_smooth.refusal import Interrupted, Refused
    from rb_smooth.run_folder import Run
    from rb_smooth.scores import Score
    from rb_smooth.zoo import load_model, recipes, register

__version__ = "0.2.0"

_ROOMS = {
    "api": ("Comparison", "compare", "evaluate", "submit", "train"),
    "zoo": ("load_model", "recipes", "register"),
    "run_folder": ("Run",),
    "scores": ("Score",),
    "entries": ("Entry",),
    "outsiders": ("Outsider",),
    "refusal": ("Interrupted", "Refused"),
    # parts for other training loops
    "contracts": ("Threat",),
    "models": ("Normalized",),
    "batchnorm": ("recalibrate",),
    "objectives.at": ("AT",),
    "objectives.mart": ("MART",),
    "objectives.standard": ("Standard",),
    "objectives.trades": ("TRADES",),
    "perturbations.awp": ("AWP",),
    "optimizers.entropy_sgd": ("EntropySGD",),
    "optimizers.entropy_sgd2": ("EntropySGD2",),
    "optimizers.sgd": ("SGD",),
    "averaging.ema": ("EMA",),
}
"""Where the public names live."""

_HOMES = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_HOMES)

bridge.install()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"rb_smooth.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rb_smooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
