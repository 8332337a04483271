"""What `python -m rb_smooth.leaderboard` can be told. Costs no torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb_smooth.core.cli import make_parser

if TYPE_CHECKING:
    from rb_smooth.config.schema import Evaluate


_COMMANDS_BY_NAME = ("evaluate", "verify", "reproduce", "show", "bundle")


def parse_options(description: str) -> argparse.Namespace:
    """The command line as options; `command` says which program, `what` what it is about."""
    parser = make_parser("leaderboard", description)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {
        name: commands.add_parser(name, help=metadata, description=metadata)
        for name, metadata in (
            ("submit", "enter a run, or a checkpoint that was trained elsewhere"),
            (
                "evaluate",
                "accuracy against the radius of the ball, in one norm or two; of ours and of RobustBench's zoo",
            ),
            ("verify", "measure an entry again from its stored weights, and say: same or different"),
            ("reproduce", "train an entry again from its stored recipe, and hold it against what it says"),
            ("show", "all there is to know of one entry"),
            ("compare", "ranks, neighbours, and differences with intervals"),
            ("table", "the board as a paper prints it: mean and standard deviation over seeds"),
            ("bundle", "what RobustBench's new-model issue asks for, in a folder"),
            ("page", "write the board's index.html"),
            ("serve", "write it, and open it in a browser"),
        )
    }
    for name in _COMMANDS_BY_NAME:
        made[name].add_argument("what", metavar="NAME", help="of the entry")
    made["submit"].add_argument(
        "what", type=Path, metavar="RUN|CHECKPOINT", help="a run's folder, or a file of weights"
    )
    made["compare"].add_argument("what", nargs="+", metavar="NAME", help="of entries of one board")
    for command in made.values():
        command.add_argument(
            "--leaderboard", type=Path, default=Path("leaderboard"), help="the board's folder (default: leaderboard)"
        )
    for name in ("submit", "evaluate", "verify", "reproduce", "show", "bundle", "compare"):
        made[name].add_argument("--dataset", help="cifar10, digits, folder, …; tells equal names apart")
        made[name].add_argument("--threat", choices=("Linf", "L2"), help="the norm of the ball")
    for name in ("submit", "evaluate", "verify", "reproduce"):
        _add_evaluation_options(made[name])
    _add_submission_options(made["submit"])
    for name in ("submit", "evaluate"):
        _add_protocol_options(made[name])
    made["evaluate"].add_argument(
        "--norms", metavar="Linf,L2", help="radii of another norm are scaled (default: its own)"
    )
    made["evaluate"].add_argument(
        "--zoo-dir", type=Path, default=Path("models"), help="where RobustBench's own weights lie (default: models)"
    )
    made["reproduce"].add_argument(
        "--runs", type=Path, default=Path("runs/reproduced"), help="where it is trained (default: runs/reproduced)"
    )
    for name in ("show", "compare"):
        made[name].add_argument("--json", action="store_true", help="for programs; accuracies are shares in [0, 1]")
    _add_table_options(made["table"])
    made["bundle"].add_argument("--out", type=Path, default=Path("bundles"), help="where to put it (default: bundles)")
    made["serve"].add_argument("--port", type=int, default=8000)
    made["serve"].add_argument("--no-browser", action="store_true", help="only serve")
    return parser.parse_args()


def requested_protocol(options: argparse.Namespace, defaults: dict[str, Any] | None = None) -> Evaluate:
    """The protocol that the options describe, over the keys in `defaults`. Raises UserError for what cannot be
    meant.
    """
    from rb_smooth.config.schema import parse_protocol

    names = ("version", "n_examples", "batch_size", "seed", "keep_adversarial")
    wanted = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return parse_protocol((defaults or {}) | wanted)


def _add_evaluation_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", type=Path, default=Path("data"), help="torchvision's folder (default: data)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    command.add_argument("--workers", type=int, default=1, help="processes to attack in (default: 1)")


def _add_protocol_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--eps", metavar="8/255", help="radius; for `evaluate` also 1/255,8/255 or 2/255..16/255")
    command.add_argument("--version", choices=("standard", "quick"), help="AutoAttack, or an upper bound of it")
    command.add_argument("--n-examples", type=int, help="test points to attack (the first ones; default: all)")
    command.add_argument("--batch-size", type=int, help="points attacked at a time (default: 250, AutoAttack's own)")
    command.add_argument("--seed", type=int, help="of the attacks (default: 0)")
    command.add_argument("--keep-adversarial", type=int, metavar="N", help="examples kept, of the first N points")


def _add_submission_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--replace", action="store_true", help="replace another model's entry; the old one is kept")
    brought = command.add_argument_group("a checkpoint from elsewhere")
    brought.add_argument("--arch", metavar="NAME", help="preactresnet18, resnet18, wideresnet, timm, …")
    brought.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="model.depth=28, data.root=DIR, …"
    )
    brought.add_argument("--name", help="of the entry (default: the file's and the architecture's)")
    brought.add_argument("--key", help="which of several state dicts in the file, such as ema_state_dict")
    brought.add_argument("--standardise", action="store_true", help="its inputs are normalised by the data's moments")
    brought.add_argument("--step-size", metavar="2/255", help="of PGD-20 (default: a quarter of eps)")
    brought.add_argument("--title", help="of the paper; --authors, --link and --venue go with it")
    for name in ("authors", "link", "venue"):
        brought.add_argument(f"--{name}", help=argparse.SUPPRESS)
    brought.add_argument("--additional-data", action="store_true", help="it was trained on more than the training set")


def _add_table_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", help="cifar10, digits, …: as the board is called")
    command.add_argument("threat", choices=("Linf", "L2"))
    form = command.add_mutually_exclusive_group()
    for name, metadata in (
        ("latex", "booktabs"),
        ("csv", "the default"),
        ("bibtex", "of the papers behind the methods"),
    ):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=metadata)
    command.add_argument(
        "--published", type=int, default=0, metavar="N", help="the N best comparable published entries too"
    )
