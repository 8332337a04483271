"""What a printed command or block of Python means, without carrying it out: AssertionError where it means nothing."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from document_sandbox import ROOT, program_module

import rb_smooth
from rb_smooth import recipe
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import errors
from rb_smooth.training import validate

Call = Sequence[str]
"""A program and what it is told: ["python", "-m", "rb_smooth.recipe", "digits", "at"]."""


class _ParsedArguments(BaseException):
    """Raised in the place of the work that would follow; not for a program to catch."""


def program_and_arguments(call: Call) -> tuple[str, list[str]] | None:
    """(program, its arguments) of a call of one of ours, by python or torchrun, or of a file; None of others."""
    for place, word in enumerate(call[1:], 1):
        if call[place - 1] == "-m" and word.startswith("rb_smooth."):
            return word.removeprefix("rb_smooth."), list(call[place + 1 :])
    return (call[1], list(call[2:])) if call[0] == "python" and call[1].endswith(".py") else None


def check_call(call: Call) -> None:
    """What is told to a program of ours is parsed by its own parser, and the recipes named must be there and sound."""
    if call[0] == "make":
        return _check_make(call[1:])
    found = program_and_arguments(call)
    assert found is not None, f"a program that is not known: {' '.join(call)}"
    program, arguments = found
    options = _parse_arguments(program, arguments)
    if program == "recipe" and options.what[0] not in ("list", "keys"):
        options.what = options.what[options.what[0] == "show" :]
        for member in recipe._sweep_runs(options):
            validate.check_recipe(*member.recipe, "trained")  # its files need not be there


def options_of_calls(calls: Sequence[Call]) -> set[tuple[str, str]]:
    """(program, option) of each option in calls of ours; of --set, the key too."""
    found = set()
    for program, arguments in filter(None, map(program_and_arguments, calls)):
        for word, following in zip(arguments, [*arguments[1:], ""]):
            if word == "--set":
                found.add((program, f"--set {following.partition('=')[0]}"))
            elif word.startswith("--"):
                found.add((program, word.partition("=")[0]))
    return found


def check_python(text: str) -> None:
    """It compiles; what it takes from `rb_smooth` is there, and can be called so; recipes that it names are there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and _is_own_import(node.func):
            function = getattr(rb_smooth, node.func.attr)
            named = {each.arg: None for each in node.keywords if each.arg}
            inspect.signature(function).bind(*node.args, **named)
            if node.func.attr == "train" and isinstance(node.args[0], ast.Constant):
                resolve_config(*node.args[0].value.split("/"))
        elif _is_own_import(node):
            getattr(rb_smooth, node.attr)


def _is_own_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rb_smooth"


def _parse_arguments(program: str, arguments: Sequence[str]) -> argparse.Namespace:
    """What the program's own parser makes of the arguments."""
    argv, parse = sys.argv, argparse.ArgumentParser.parse_args

    def stopping(parser: argparse.ArgumentParser, *given: Any) -> argparse.Namespace:
        raise _ParsedArguments(parse(parser, *given))

    sys.argv, argparse.ArgumentParser.parse_args = [program, *arguments], stopping  # type: ignore[method-assign]
    try:
        program_module(program).main()
    except _ParsedArguments as parsed:
        return parsed.args[0]
    except (SystemExit, errors.UserError) as error:
        raise AssertionError(f"{program} {' '.join(arguments)}: {error}") from error
    finally:
        sys.argv, argparse.ArgumentParser.parse_args = argv, parse  # type: ignore[method-assign]
    raise AssertionError(f"{program} reads no arguments")


def _check_make(targets: Sequence[str]) -> None:
    """The targets are there, and what they would call of ours is sound."""
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in _own_imports(done.stdout):
        check_call(["python", *line.split()])


def _own_imports(text: str) -> Iterator[str]:
    yield from re.findall(r"-m rb_smooth\.(?!doctor).*", text)
