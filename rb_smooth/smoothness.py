"""python -m rb_smooth.smoothness RUN|NAME …: measure the smoothness of the loss around trained weights.

    python -m rb_smooth.smoothness at-s0 at-l2-s0 standard-s0       three networks, each under three losses
    python -m rb_smooth.smoothness at-s0 --weights first,best,last  checkpoints of one run
    python -m rb_smooth.smoothness plot runs/smoothness.json        tables and picture of stored measurements

Networks are runs (a folder, or a name below --runs) or leaderboard entries. Each is measured under the standard loss
and under the adversarial losses in an L2 and in an Linf ball: Lipschitz constant of the gradient (attacks recomputed at
each point), displacement of the attacks, top eigenvalue and trace of the Hessian (attacks fixed), and eps-sharpness.
Each measurement is stored in --out at once: repeat an interrupted command to resume it. Runs of several seeds give
confidence intervals.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from rb_smooth.analysis.smoothness.plot import draw_gradients
from rb_smooth.analysis.smoothness.records import LOSSES, Record, append_record, is_same_measurement, read_records
from rb_smooth.analysis.smoothness.tables import report_lines
from rb_smooth.core import robustbench
from rb_smooth.core.cli import make_parser, run_cli
from rb_smooth.core.console import console, log_info
from rb_smooth.core.environment import git_commit
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.core.numbers import parse_number, real_number, seed_number, whole_number


def main() -> int:
    options = _parse()
    if options.what[0] == "plot":
        if len(options.what) != 2:
            raise UserError(f"expected one file to plot, got {len(options.what) - 1}; use plot FILE.json")
        path = Path(options.what[1])
        _show(read_records(path), path)
        return 0
    if options.out.suffix != ".json":
        raise UserError(f"expected --out to end in .json, got {options.out}; correct it")
    _show(_measure(options), options.out)
    return 0


def _parse() -> argparse.Namespace:
    parser = make_parser("smoothness", __doc__)
    add = parser.add_argument
    add("what", nargs="+", metavar="RUN|NAME", help="networks to measure; or: plot FILE.json")
    add("--weights", default="best", metavar="first,best,last", help="checkpoints (default: best)")
    add("--under", default=",".join(LOSSES), metavar=",".join(LOSSES), help="losses (default: all three)")
    add("--eps", action="append", default=[], type=_eps, metavar="L2=0.5", help="radius (default: the recipes')")
    add("--n", type=whole_number(1), default=128, help="number of training images, the first ones (default: 128)")
    add("--steps", type=whole_number(1, 10_000), default=20, help="PGD steps (default: 20)")
    add("--step", type=real_number(1e-9, 1000), default=0.2, help="PGD step size / eps (default: 0.2)")
    add("--radii", default="1e-4,1e-3,1e-2", type=_radii, help="distances from w / ||w|| (default: 1e-4,1e-3,1e-2)")
    add(
        "--directions",
        type=whole_number(1, 1000),
        default=4,
        help="random directions, besides the gradient (default: 4)",
    )
    add("--products", type=whole_number(1), default=100, help="most Hessian products per eigenvalue (default: 100)")
    add("--signs", type=whole_number(2), default=16, help="random vectors for the trace (default: 16)")
    add(
        "--sharpness-radius",
        type=real_number(1e-9, 1000),
        default=5e-3,
        help="radius of the sharpness / ||w|| (default: 0.005)",
    )
    add("--seed", type=seed_number, default=0, help="seed of PGD's starts and of directions (default: 0)")
    add("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    add("--leaderboard", type=Path, default=Path("leaderboard"), help="folder of the entries (default: leaderboard)")
    add("--data-dir", type=Path, default=Path("data"), help="torchvision's data folder (default: data)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    add("--out", type=Path, help="file of measurements, the pictures beside it (default: smoothness.json in --runs)")
    options = parser.parse_args()
    options.out = options.out or options.runs / "smoothness.json"
    return options


def _measure(options: argparse.Namespace) -> list[Record]:
    """The records of all networks, checkpoints and losses in `options`; measure those not stored in --out."""
    from rb_smooth.analysis.smoothness.metrics import (
        SmoothnessSettings,
        record_key,
        smoothness_metrics,
        threats_by_loss,
    )
    from rb_smooth.analysis.trained_model import find_trained_model
    from rb_smooth.training.validate import resolve_device

    settings = SmoothnessSettings(**{field.name: getattr(options, field.name) for field in fields(SmoothnessSettings)})
    wanted, device = options.under.split(","), resolve_device(options.device)
    if unknown := [loss for loss in wanted if loss not in LOSSES]:
        raise UserError(f"expected losses, {did_you_mean(unknown[0], LOSSES)}")
    where = {"runs": options.runs, "leaderboard": options.leaderboard, "data_dir": options.data_dir}
    trained_models = [find_trained_model(what, **where) for what in dict.fromkeys(options.what)]
    tasks = []
    for trained_model in trained_models:
        threats = threats_by_loss(trained_model, settings.step, dict(options.eps))
        for checkpoint in options.weights.split(","):
            trained_model.load(checkpoint)  # reports missing weights before hours of work
            tasks += [(trained_model, checkpoint, loss, threats[loss]) for loss in wanted]
    stored = read_records(options.out) if options.out.exists() else []
    records = []
    for trained_model, checkpoint, loss, threat in tasks:
        key = record_key(trained_model, checkpoint, loss, threat, settings)
        record = next((each for each in stored if is_same_measurement(each, key)), None)
        if record is None:
            log_info(f"{trained_model.name}, {checkpoint}, under the {loss} loss …")
            record = {**key, "found": smoothness_metrics(trained_model, checkpoint, threat, settings, device)}
            append_record(options.out, record, {"versions": robustbench.package_versions(), "commit": git_commit()})
        records.append(record)
    return records


def _show(records: list[Record], path: Path) -> None:
    for each in report_lines(records):
        console.print(each, soft_wrap=isinstance(each, str))
    pictures = draw_gradients(records, path.with_suffix(""))
    console.print(f"measurements: {path}; picture: {pictures[0]}, .svg")


def _radii(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({parse_number(each, 1e-9, 1000) for each in text.split(",")}))
    except ValueError:
        raise UserError(f"expected --radii such as 1e-3,1e-2, got {text!r}; correct it") from None


def _eps(text: str) -> tuple[str, float]:
    """Norm and radius of `L2=0.5` or `Linf=8/255`."""
    from rb_smooth.evaluation.radii import parse_radii

    norm, _, value = text.partition("=")
    if norm not in ("L2", "Linf"):
        raise UserError(f"expected --eps such as L2=0.5 or Linf=8/255, got {text!r}; correct it")
    return norm, parse_radii(value)[0]


if __name__ == "__main__":
    sys.exit(run_cli(main)())
