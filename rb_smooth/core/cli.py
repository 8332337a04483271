"""Command line of all programs: --version, -q, -v, help with examples, one-line errors, exit codes.

Does not import torch.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import platform
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from rb_smooth.core import environment, robustbench
from rb_smooth.core.environment import Verbosity, git_commit
from rb_smooth.core.errors import (
    FAILED,
    INTERRUPTED,
    USER_ERROR,
    Failed,
    Interrupted,
    UserError,
    did_you_mean,
    first_line,
    messages_of,
    one_line,
)
from rb_smooth.core.worker_pool import stop_signals

SCRIPT = "rb-smooth"
_MODULE = "python -m rb_smooth."


class StrictArgumentParser(argparse.ArgumentParser):
    """An argument parser that raises UserError on invalid arguments and accepts no abbreviated options."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)
        loudness = self.add_mutually_exclusive_group()
        loudness.add_argument("-q", "--quiet", action=_Quiet, help="results and warnings only")
        loudness.add_argument(
            "-v", "--verbose", action=_Verbose, help="also print the logs of libraries, and tracebacks"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        options, unread = super().parse_known_args(args, namespace)
        if unread:
            first = unread[0].partition("=")[0]
            if not first.startswith("-"):
                raise UserError(
                    f"expected nothing more for {self.prog}, got {first!r}; drop it, or quote an argument with spaces"
                )
            known = re.findall(r"(?<=[\s,])--?[a-z][\w-]*", self.format_help())
            raise UserError(f"expected an option of {self.prog}, {did_you_mean(first, set(known))}")
        return options, unread

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser(name: str, description: str | None) -> StrictArgumentParser:
    """The parser of the program `name`, named as it was started (module or script), with `description` as its help."""
    text = description or ""
    if environment.as_script:
        text = text.replace(_MODULE, f"{SCRIPT} ")
    called = f"{SCRIPT} {name}".rstrip() if environment.as_script else f"{_MODULE}{name}"
    parser = StrictArgumentParser(prog=called, description=text)
    parser.add_argument("--version", action=_Version, help="print versions and exit")
    return parser


class _Flag(argparse.Action):
    """An option without a value that acts when it is parsed."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **kwargs)


class _Version(_Flag):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        own, *others = (f"{package} {number}" for package, number in robustbench.package_versions().items())
        print(f"{own} (commit {git_commit()}), Python {platform.python_version()}, {', '.join(others)}")
        parser.exit()


class _Quiet(_Flag):
    def __call__(self, *_: Any) -> None:
        environment.verbosity = Verbosity.QUIET


class _Verbose(_Flag):
    def __call__(self, *_: Any) -> None:
        environment.verbosity = Verbosity.VERBOSE
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("auto-attack").setLevel(logging.DEBUG)  # the level of its progress


_OS_ERROR_HINTS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "choose a disk that takes files of this size, or raise ulimit -f",
    errno.EMFILE: "raise ulimit -n",
    errno.ENFILE: "end other programs",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network disk",
    errno.ELOOP: "correct the link that points to itself",
    errno.ENXIO: "choose a file",
    errno.EACCES: "allow it, or choose another folder",
    errno.EPERM: "allow it, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOTDIR: "choose a folder",
    errno.EEXIST: "choose a folder",
    errno.EISDIR: "choose a file, or move the folder away",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def run_cli(main: Callable[[], int | None]) -> Callable[[], int]:
    """Wrap a program's `main`: convert exceptions to exit codes, and user errors to one line on stderr."""

    def program() -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 must not end a run
        with _stop_signals_as_interrupt():
            try:
                return main() or 0
            except UserError as refused:
                return _print_error("\n".join(map(one_line, messages_of(refused))), USER_ERROR)
            except Failed as failed:
                return _print_error(str(failed), FAILED)
            except Interrupted as interrupted:
                return _print_error(str(interrupted), INTERRUPTED)
            except KeyboardInterrupt:
                return _print_error("stopped; finished work is saved, and the same command resumes it", INTERRUPTED)
            except BrokenPipeError:  # the reader of stdout has closed it
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (lives until the process ends)
                return USER_ERROR
            except OSError as error:
                if error.errno not in _OS_ERROR_HINTS:
                    raise
                what = error.filename or "the output folder"
                cure = _OS_ERROR_HINTS[error.errno]
                return _print_error(
                    f"expected to use {what}, got '{error.strerror}'; {cure} and repeat the command", USER_ERROR
                )
            except RuntimeError as error:
                if str(error).startswith("DataLoader worker"):  # it died: killed for memory, or out of shared memory
                    return _print_error(
                        f"expected workers to decode images, got '{first_line(error)}'; lower data.workers",
                        USER_ERROR,
                    )
                if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
                    raise  # torch's own class is named here, so that torch stays unimported
                return _print_error(
                    "expected model and batch to fit into memory, got out of memory; lower data.batch_size (--set)",
                    USER_ERROR,
                )

    return program


@contextmanager
def _stop_signals_as_interrupt() -> Iterator[None]:
    """Handle `stop_signals` as Ctrl-C. Does nothing outside the main thread."""
    before = {}
    try:
        for number in stop_signals():
            before[number] = signal.signal(number, signal.default_int_handler)
    except ValueError:
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_error(message: str, code: int) -> int:
    """Print `message` to stderr and return `code`. User errors are printed by every rank, others by rank 0."""
    if environment.verbosity is environment.Verbosity.VERBOSE:
        traceback.print_exc()
    if environment.RANK == 0 or code == USER_ERROR:
        prefix = f"rb_smooth, process {environment.RANK}" if environment.RANK else "rb_smooth"
        for line in message.splitlines():
            print(f"{prefix}: {line}", file=sys.stderr)
    return code
