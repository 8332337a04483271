"""Build a network from a user's own file or an importable factory. Executes that code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rb_smooth.core.errors import UserError, did_you_mean, first_line


def is_foreign(name: str) -> bool:
    """Whether `name` has the form `my_module.py:Net` or `package.module:factory`."""
    return ":" in name


def build_foreign_model(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Import `my_module.py:Net` or `package.module:factory`, call it with `options`, and return it in eval mode.

    The folder of a file is put on sys.path, so that it can import its neighbours. Raises UserError if importing or
    calling fails, or if the result is no torch module.
    """
    where, _, attribute = name.rpartition(":")
    module = _import(where)
    if not hasattr(module, attribute):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise UserError(f"expected a class or function of {where} after the colon, {did_you_mean(attribute, public)}")
    try:
        model = getattr(module, attribute)(**options)
    except Exception as error:
        raise UserError(
            f"expected {name} to build a network, got {type(error).__name__} ({first_line(error)}); pass its arguments "
            "with --set model.NAME=VALUE, or write a function that needs none"
        ) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"expected {name} to return a torch module, got {type(model).__name__}; correct it")
    return model.eval()


def _import(where: str) -> Any:
    """Import a file (by path) or a module (by name)."""
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where).resolve()
        if not path.is_file():
            raise UserError(f"expected the network's code in {where}, got no such file; correct --model")
        sys.path.insert(0, str(path.parent))
        return importlib.import_module(path.stem)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"expected to import {where}, got {type(error).__name__} ({first_line(error)}); correct --model or the file"
        ) from error
