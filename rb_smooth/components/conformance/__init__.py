"""Laws that every method obeys, whoever wrote it: python -m rb_smooth.laws perturbation sam

A law is a function of a constructor, to be called without options, that raises Broken where the law does not hold. In a
test file of your own:

    @pytest.mark.parametrize("law", conformance.of("perturbation"))
    def test_sam_obeys(law):
        law(SAM)

They hold a method to what `rb_smooth.components.interfaces` promises to training. Whether it is its paper's, they
cannot know.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import isfunction
from typing import Any

Check = Callable[[Callable[..., Any]], None]
METHOD_KINDS = ("objective", "perturbation", "optimizer", "averaging")


def contract_checks(kind: str) -> list[Check]:
    """The laws of a box, and those of whatever a recipe names: the public functions of their files, in their order."""
    files = ("averaging" if kind == "averaging" else f"{kind}s", "options")
    modules = [import_module(f"rb_smooth.components.conformance.{name}") for name in files]
    functions = [(module, each) for module in modules for each in vars(module).values() if isfunction(each)]
    return [each for module, each in functions if each.__module__ == module.__name__ and each.__name__[0] != "_"]
