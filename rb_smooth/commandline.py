"""What the command lines of all programs share: --version, -q and -v, examples in the help, one line for a slip.

Costs no torch.
"""

from __future__ import annotations

import argparse
import logging
import platform
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from rb_smooth import bridge, launch
from rb_smooth.launch import Loudness
from rb_smooth.provenance import commit
from rb_smooth.refusal import Refused, nearest

SCRIPT = "rb-smooth"
_MODULE = "python -m rb_smooth."


class CommandLine(argparse.ArgumentParser):
    """Like its base, but what it cannot read is a Refused, and options are spelt out in full."""

    def __init__(self, **told: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **told)
        loudness = self.add_mutually_exclusive_group()
        loudness.add_argument("-q", "--quiet", action=_Quiet, help="results and warnings only")
        loudness.add_argument("-v", "--verbose", action=_Verbose, help="what libraries log, and where an error arose")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        options, unread = super().parse_known_args(args, namespace)
        if unread:
            first = unread[0].partition("=")[0]
            if not first.startswith("-"):
                raise Refused(
                    f"expected nothing more for {self.prog}, got {first!r}; drop it, or quote what has spaces"
                )
            known = re.findall(r"(?<=[\s,])--?[a-z][\w-]*", self.format_help())
            raise Refused(f"expected an option of {self.prog}, {nearest(first, set(known))}")
        return options, unread

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; {self.prog} --help says what is expected")


def program(name: str, description: str | None) -> CommandLine:
    """The command line of the program `name`, in the words in which it was called; its help is `description`."""
    text = description or ""
    if launch.as_script:
        text = text.replace(_MODULE, f"{SCRIPT} ")
    called = f"{SCRIPT} {name}".rstrip() if launch.as_script else f"{_MODULE}{name}"
    parser = CommandLine(prog=called, description=text)
    parser.add_argument("--version", action=_Version, help="which versions are at work, and stop")
    return parser


class _Flag(argparse.Action):
    """An option without a value that does something when it is met."""

    def __init__(self, option_strings: Sequence[str], dest: str, **told: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **told)


class _Version(_Flag):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        own, *others = (f"{package} {number}" for package, number in bridge.versions().items())
        print(f"{own} (commit {commit()}), Python {platform.python_version()}, {', '.join(others)}")
        parser.exit()


class _Quiet(_Flag):
    def __call__(self, *_: Any) -> None:
        launch.loudness = Loudness.QUIET


class _Verbose(_Flag):
    def __call__(self, *_: Any) -> None:
        launch.loudness = Loudness.VERBOSE
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("auto-attack").setLevel(logging.DEBUG)  # where it says how far it is
