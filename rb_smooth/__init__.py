"""rb_smooth: adversarially robust models, trained by published recipes and ranked beside RobustBench's.

Importing it costs no torch, and makes a later `import robustbench` work where PyPI's packages alone do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rb_smooth import bridge

if TYPE_CHECKING:
    from rb_smooth.zoo import load_model, recipes, register

__version__ = "0.1.0"
__all__ = ["load_model", "recipes", "register"]

bridge.install()


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("rb_smooth.zoo"), name)
    raise AttributeError(f"module 'rb_smooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
