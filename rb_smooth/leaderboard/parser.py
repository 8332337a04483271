"""Command-line options of `python -m rb_smooth.leaderboard`. Does not import torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.core.cli import make_parser
from rb_smooth.core.numbers import real_number, seed_number, whole_number, worker_number
from rb_smooth.core.threat import MAX_RADIUS

if TYPE_CHECKING:
    from rb_smooth.config.schema import Evaluate

DEFAULT_FOLDER = Path("leaderboard")


def parse_options(description: str) -> argparse.Namespace:
    """Parse the command line. `command` is the program, `what` its positional argument."""
    parser = make_parser("leaderboard", description)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {
        name: commands.add_parser(name, help=text, description=text)
        for name, text in (
            ("submit", "add a run or an external checkpoint to the board"),
            ("audit", "test a claimed robust accuracy of a checkpoint; writes a report"),
            ("evaluate", "accuracy against the radius, of an entry or a model of RobustBench's zoo"),
            ("verify", "evaluate an entry again from its stored weights: same or different"),
            ("reproduce", "train an entry again from its stored recipe and compare the results"),
            ("show", "all data of one entry, or what is known of a published model"),
            ("compare", "ranks, neighbours, and differences with intervals"),
            ("table", "the board as a table for a paper: mean and standard deviation over seeds"),
            ("bundle", "a folder with what RobustBench's new-model issue requires"),
            ("page", "write the board's index.html"),
            ("serve", "write index.html and open it in a browser"),
        )
    }
    for name in ("evaluate", "verify", "reproduce", "show", "bundle"):
        parsers[name].add_argument("what", metavar="NAME", help="of the entry")
    parsers["submit"].add_argument(
        "what", type=Path, metavar="RUN|CHECKPOINT", help="a run's folder, or a file of weights"
    )
    parsers["audit"].add_argument("what", type=Path, metavar="CHECKPOINT", help="a file of weights")
    parsers["compare"].add_argument("what", nargs="+", metavar="NAME", help="of entries or published models")
    for name in parsers.keys() - {"audit"}:
        parsers[name].add_argument(
            "--leaderboard", type=Path, default=DEFAULT_FOLDER, help="the board's folder (default: leaderboard)"
        )
    for name in ("submit", "audit", "evaluate", "verify", "reproduce", "show", "bundle", "compare"):
        parsers[name].add_argument("--dataset", help="cifar10, digits, folder, …; if several boards have the name")
        parsers[name].add_argument("--threat", choices=("Linf", "L2"), help="the norm of the ball")
    for name in ("submit", "audit", "evaluate", "verify", "reproduce"):
        _add_evaluation_options(parsers[name])
    _add_submission_options(parsers["submit"])
    for name in ("submit", "evaluate"):
        _add_protocol_options(parsers[name])
    _add_audit_options(parsers["audit"])
    parsers["evaluate"].add_argument(
        "--norms", metavar="Linf,L2", help="radii are scaled for another norm (default: the model's own norm)"
    )
    parsers["evaluate"].add_argument(
        "--zoo-dir", type=Path, default=Path("models"), help="folder of RobustBench's weights (default: models)"
    )
    parsers["reproduce"].add_argument(
        "--runs", type=Path, default=Path("runs/reproduced"), help="folder of the new run (default: runs/reproduced)"
    )
    for name in ("show", "compare"):
        parsers[name].add_argument("--json", action="store_true", help="JSON output; accuracies are in [0, 1]")
    _add_table_options(parsers["table"])
    parsers["bundle"].add_argument("--out", type=Path, default=Path("bundles"), help="output folder (default: bundles)")
    parsers["serve"].add_argument("--port", type=whole_number(0, 65_535), default=8000)
    parsers["serve"].add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser.parse_args()


def requested_protocol(options: argparse.Namespace, defaults: dict[str, Any] | None = None) -> Evaluate:
    """Return the protocol of the options, with `defaults` for missing ones. Raises UserError for invalid values."""
    from rb_smooth.config.schema import parse_protocol

    names = ("version", "n_examples", "batch_size", "seed", "keep_adversarial")
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    return parse_protocol((defaults or {}) | given)


def _add_evaluation_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", type=Path, default=Path("data"), help="torchvision's folder (default: data)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    command.add_argument(
        "--workers", type=worker_number, default=1, help="processes that attack in parallel (default: 1)"
    )


def _add_protocol_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--eps", metavar="8/255", help="radius; for `evaluate` also 1/255,8/255 or 2/255..16/255")
    command.add_argument("--version", choices=("standard", "quick"), help="AutoAttack, or an upper bound of it")
    command.add_argument("--n-examples", type=whole_number(1), help="attack the first N points (default: all)")
    command.add_argument("--batch-size", type=whole_number(1), help="points per batch (default: 250, as AutoAttack)")
    command.add_argument("--seed", type=seed_number, help="of the attacks (default: 0)")
    command.add_argument(
        "--keep-adversarial", type=whole_number(0), metavar="N", help="store adversarial examples of the first N points"
    )


def _add_submission_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--replace", action="store_true", help="replace another model's entry, which is archived")
    external = command.add_argument_group("external checkpoint")
    _add_checkpoint_options(external)
    external.add_argument("--name", help="of the entry (default: FILE_ARCHITECTURE)")
    external.add_argument("--title", help="of the paper; see also --authors, --link, --venue")
    for name in ("authors", "link", "venue"):
        external.add_argument(f"--{name}", help=argparse.SUPPRESS)
    external.add_argument("--additional-data", action="store_true", help="trained on more than the training set")


def _add_audit_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--claimed", type=real_number(1e-9, 1), metavar="0.60", required=True, help="the claimed robust accuracy"
    )
    command.add_argument("--eps", metavar="8/255", help="radius of the ball")
    command.add_argument(
        "--n-examples",
        type=whole_number(1),
        default=1000,
        metavar="N",
        help="largest number of points to attack (default: 1000)",
    )
    command.add_argument("--batch-size", type=whole_number(1), help="points per batch (default: 250)")
    command.add_argument("--seed", type=seed_number, help="of the sample and the attacks (default: 0)")
    command.add_argument("--report", type=Path, help="folder of the report (default: audits/FILE)")
    command.add_argument(
        "--model", metavar="my_module.py:Net", help="network from a file or an importable factory; executes its code"
    )
    _add_checkpoint_options(command)


def _add_checkpoint_options(external: argparse._ActionsContainer) -> None:
    external.add_argument("--arch", metavar="NAME", help="preactresnet18, resnet18, wideresnet, timm, …")
    external.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="model.depth=28, data.root=DIR, …"
    )
    external.add_argument("--key", help="of the state dict if the file has several, such as ema")
    external.add_argument("--standardise", action="store_true", help="normalise inputs by the data's mean and std")
    external.add_argument(
        "--step-size",
        metavar="2/255",
        type=real_number(1e-9, MAX_RADIUS["L2"]),
        help="of PGD-20 (default: a quarter of eps)",
    )


def _add_table_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", help="of the board: cifar10, digits, …")
    command.add_argument("threat", choices=("Linf", "L2"))
    form = command.add_mutually_exclusive_group()
    for name, text in (
        ("latex", "booktabs"),
        ("csv", "one line per row, for programs"),
        ("bibtex", "of the methods' papers"),
    ):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=text)
    command.add_argument(
        "--published",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="include the N best comparable published models (without entries: the N best, default: all)",
    )
