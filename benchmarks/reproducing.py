"""Write the tables of docs/reproducing.md: the results in the papers' tables, and ours.

    python benchmarks/reproducing.py
    python benchmarks/reproducing.py --keep runs/digits/sweep-1f2e3d.json --as digits --images "scikit-learn's digits"

The papers' results are listed in recipes/cells.yaml. Ours are the benchmarks/*.json that a command of several runs
(`recipe digits at at+awp --seeds 0-4`) wrote, with two more keys, which --keep adds on the machine that ran it:

    command, commit, versions     the command line, the commit that compared the runs, the packages
    machine                       {cpu, cores}; each run has its device
    images                        a description: "JPEG copies of CIFAR-10's images, not CIFAR-10"
    dataset, settings             "cifar10", and the --set arguments
    groups                        one per protocol, by `rb_smooth.training.sweep.comparison.compare_methods`:
      protocol                    norm, eps, step_size, n, version, fingerprint, selected_on
      methods                     rows: method, title, seeds, and for clean, pgd20, autoattack, last_pgd20, gap (in
                                  [0, 1]) the mean, the std (None for one seed) and the value of each seed
      differences                 paired tests of AutoAttack accuracy: method, minus, seeds, mean, low, high, p, p_holm
    runs, failed                  figures, device, seconds and commit of every run; failures and their reasons

If a method has one seed only, entries of leaderboard/ are compared per example (`per_example_tests`). The results of
grid searches are read from benchmarks/tuning*.json, those of `cifar10_small` from benchmarks/cifar10-small/.

A row belongs to a result of a paper if data set, method and settings are equal. Settings of epoch selection, evaluation
and logging may differ and are shown with the figure.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from learning_curves import logs_of, write_curves
from paper_tables import Record, anchor_link, overview_lines, paper_lines
from per_example_tests import entries_of, point_lines
from result_tables import group_lines, table_head, table_line, tuning_table
from small_tables import small_lines
from speed import machine_kind

from rb_smooth.config.listing import all_paper_results
from rb_smooth.core import files
from rb_smooth.core.cli import run_cli
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import write_between
from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.entries import list_entries

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reproducing.md"
BOARD = HERE.parent / "leaderboard"
EXPECTED = {"digits": "scikit-learn's digits", "cifar-jpeg": "JPEG copies of CIFAR-10's images, a small network"}
"""Results that every version should have, by file name."""

LEADERBOARD_KEY = ("folder-cifar10-jpeg", "Linf")
"""The board that also has a model trained elsewhere."""

KEYS = {"command", "commit", "versions", "machine", "images", "dataset", "settings", "groups", "runs"}


def main() -> int:
    options = parse_options()
    if options.keep is not None:
        keep(options.keep, HERE / f"{options.name}.json", options.images)
    results = read_results(HERE)
    write_page(PAGE, results)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="SWEEP.json", help="store this file as a result first")
    parser.add_argument("--as", dest="name", metavar="NAME", help="benchmarks/NAME.json")
    parser.add_argument("--images", help="description of the images")
    options = parser.parse_args()
    if len({each is None for each in (options.keep, options.name, options.images)}) == 2:
        raise UserError("expected --keep, --as and --images together, got only some; give all three")
    return options


def keep(sweep: Path, place: Path, images: str) -> None:
    """Store a sweep's file with the machine and the description of its images, and the curves of the four methods.

    Raises UserError if the file is not that of a sweep.
    """
    record = files.read_json(sweep)
    versions = {"python": platform.python_version(), **record.get("versions", {})}
    files.write_json(
        place, check_record({**record, "versions": versions, "machine": machine_kind(), "images": images}, sweep)
    )
    if curves := logs_of(record["runs"], sweep.parent):
        write_curves(curves, place.parent / "curves" / f"{place.stem}.csv")


def read_results(folder: Path) -> dict[str, Record]:
    """Results by file name; files of other benchmarks have no groups."""
    found = {path.stem: files.read_json(path) for path in sorted(folder.glob("*.json"))}
    return {name: check_record(record, folder / f"{name}.json") for name, record in found.items() if "groups" in record}


def check_record(record: Record, path: Path) -> Record:
    if missing := KEYS - record.keys():
        raise UserError(f"expected {', '.join(sorted(missing))} in {path}, got none; see benchmarks/reproducing.py")
    return record


def write_page(page: Path, results: Mapping[str, Record]) -> None:
    """Write the tables between their markers: the papers', ours, and the grid searches."""
    papers = groupby(all_paper_results(), lambda paper_result: paper_result.paper.split()[0].lower())
    blocks = {name: list(paper_lines(list(paper_results), results)) for name, paper_results in papers}
    blocks["table 1"] = list(overview_lines(all_paper_results(), results))
    blocks["measured"] = list(measured_lines(results))
    blocks["door"] = list(board_lines(BOARD, *LEADERBOARD_KEY))
    blocks["tried"] = list(tuning_lines(HERE))
    blocks["small"] = list(small_lines(HERE / "cifar10-small"))
    write_between(page, blocks)


def measured_lines(results: Mapping[str, Record]) -> Iterator[str]:
    """Tables and provenance of every file of results; expected files that do not exist are named."""
    for name in [*EXPECTED, *(each for each in results if each not in EXPECTED)]:
        record = results.get(name)
        yield f"### {EXPECTED[name] if record is None else record['images']}"
        yield ""
        if record is None:
            yield "Not measured yet."
            yield ""
            continue
        devices = sorted({run["training"]["device"] for run in record["runs"]})
        yield f"{_provenance(record)}; device {', '.join(devices)}; {anchor_link(name)})."
        yield ""
        for group in record["groups"]:
            yield from group_lines(group, record["runs"])
        yield from point_lines(entries_of(record, BOARD))
        if (HERE / "curves" / f"{name}.csv").exists():
            yield f"![Robust accuracy by epoch and by seconds of training](figures/learning-curves-{name}.png)"
            yield ""


def board_lines(leaderboard: Path, dataset: str, threat: str) -> Iterator[str]:
    """Entries of a board, the most robust first, with intervals."""
    entries = sorted(list_entries(leaderboard, dataset, threat)[0], key=lambda entry: -entry.own["score"]["autoattack"])
    yield from table_head("entry", "trained", "points", "clean", "PGD-20", "AutoAttack", "95 % interval")
    for entry in entries:
        score = entry.own["score"]
        figures = [percent(score[key]) for key in ("clean", "pgd20", "autoattack")]
        low, high = map(percent, score["interval"])
        trained = "elsewhere" if "origin" in entry.own else "here"
        yield table_line(f"`{entry.name}`", trained, f"{score['n']:,}", *figures, f"{low} to {high}")
    yield ""


def tuning_lines(folder: Path) -> Iterator[str]:
    """Table and provenance of every grid search."""
    for path in sorted(folder.glob("tuning*.json")):
        record = files.read_json(path)
        yield f"{_provenance(record)}; {anchor_link(path.stem)})."
        yield ""
        yield (
            f"`{record['dataset']}`, {record['epochs']} epochs: PGD accuracy on {record['validation']} validation "
            "images, %, mean ± standard deviation over n seeds; differences are paired by seed, t-test, p corrected "
            "for this table (Holm); detectable as above:"
        )
        yield ""
        yield from tuning_table(record)
        yield ""


def _provenance(record: Record) -> str:
    """Provenance of a result; the bracket is left open."""
    machine = f"{record['machine']['cpu']}, {record['machine']['cores']} cores"
    return f"`{record['command']}`, {_commits(record.get('runs', [record]))} ({machine}"


def _commits(runs: Sequence[Record]) -> str:
    """Commits of the runs; a resumed command may have used a newer one."""
    measured_by = sorted({run["commit"][:7] for run in runs})
    return f"commit{'s' if len(measured_by) > 1 else ''} {', '.join(measured_by)}"


if __name__ == "__main__":
    sys.exit(run_cli(main)())
