"""Contract checks that every method must pass: python -m rb_smooth.laws perturbation sam

A check is a function of a constructor, which it calls without options; it raises ContractError if the method violates
`rb_smooth.components.interfaces`. In a method's tests:

    @pytest.mark.parametrize("check", contract_checks("perturbation"))
    def test_sam_passes(check):
        check(SAM)

The checks do not compare a method with its paper; that needs a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import isfunction
from typing import Any

Check = Callable[[Callable[..., Any]], None]
METHOD_KINDS = ("objective", "perturbation", "optimizer", "averaging")


def contract_checks(kind: str) -> list[Check]:
    """Return the checks of a kind of method and those of its options: the public functions of their files, in order."""
    files = ("averaging" if kind == "averaging" else f"{kind}s", "options")
    modules = [import_module(f"rb_smooth.components.conformance.{name}") for name in files]
    functions = [(module, each) for module in modules for each in vars(module).values() if isfunction(each)]
    return [each for module, each in functions if each.__module__ == module.__name__ and each.__name__[0] != "_"]
