"""python -m rb_smooth.recipe DATASET METHOD: train (or go on), evaluate, submit, compare.

    python -m rb_smooth.recipe digits at+ensgd                     minutes on two cores, no download
    python -m rb_smooth.recipe cifar10 at+awp --epochs 30          the recipe's shape in 30 epochs
    python -m rb_smooth.recipe cifar10 at --set optimizer.lr=0.05  other settings, other folder
    python -m rb_smooth.recipe mine.yaml                           your own; `base: cifar10/at` starts from a recipe
    python -m rb_smooth.recipe list [DATASET]                      what there is
    python -m rb_smooth.recipe show cifar10 at+awp+ensgd           what it means, resolved and checked

The same command again goes on where it stopped, skips what is finished, and prints the table. Exit codes: 0 done,
2 something to mend (one line says what), 130 stopped by you.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rb_smooth import cookbook, notation
from rb_smooth.console import console
from rb_smooth.listing import print_recipes
from rb_smooth.pipeline import carry_out
from rb_smooth.refusal import Refused, answering
from rb_smooth.sections import Sections
from rb_smooth.settings import gather


def main() -> int:
    options = _parse()
    command, rest = options.what[0], options.what[1:]
    if command == "list":
        print_recipes(rest or cookbook.datasets())
    elif command == "show":
        _show(*_target(rest), options)
    else:
        carry_out(_gathered(*_target(options.what), options), options)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rb_smooth.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", metavar="DATASET METHOD", help="or FILE.yaml, or list, or show …")
    parser.add_argument(
        "--seed", type=int, help="of initialisation, shuffling, augmentation, attacks' starts and noise"
    )
    parser.add_argument("--epochs", type=int, help="train this long; drops and stages move in proportion")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one value; repeatable"
    )
    parser.add_argument("--n-examples", type=int, help="test points to attack (the first ones)")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="torchvision's folder, as RobustBench's (default: data)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument(
        "--leaderboard", type=Path, default=Path("leaderboard"), help="where entries go (default: leaderboard)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    parser.add_argument("--fresh", action="store_true", help="forget what this run has done so far, and begin again")
    parser.add_argument("--replace", action="store_true", help="replace an entry of the same name made by another run")
    parser.add_argument("--no-submit", action="store_true", help="train and evaluate only")
    parser.add_argument("--plan", action="store_true", help="time three steps, say what is ahead, and stop")
    return parser.parse_args()


def _target(what: list[str]) -> tuple[str, str | None]:
    """(dataset, method), or (file, None)."""
    if len(what) == 1 and what[0].endswith((".yaml", ".yml")):
        return what[0], None
    if len(what) != 2:
        known = ", ".join(cookbook.datasets())
        raise Refused(
            f"expected DATASET METHOD, got {' '.join(what) or 'nothing'!r}; datasets: {known}; methods: `recipe list`"
        )
    return what[0], what[1]


def _show(target: str, method: str | None, options: argparse.Namespace) -> None:
    from rb_smooth import schema

    recipe = schema.check(*_gathered(target, method, options))
    console.print(f"# {recipe.dataset}/{recipe.title}")
    console.print(notation.dump(dict(recipe.sections)), end="")


def _gathered(target: str, method: str | None, options: argparse.Namespace) -> tuple[str, str, Sections]:
    return gather(target, method, _settings(options), options.epochs)


def _settings(options: argparse.Namespace) -> tuple[str, ...]:
    shorthands = {"train.seed": options.seed, "evaluate.n_examples": options.n_examples}
    return (*options.set, *(f"{key}={value}" for key, value in shorthands.items() if value is not None))


if __name__ == "__main__":
    sys.exit(answering(main)())
