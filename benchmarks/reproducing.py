"""The tables of docs/reproducing.md: the papers' cells, from recipes/cells.yaml, and what was measured of them; and
README's table of the digits.

    python benchmarks/reproducing.py
    python benchmarks/reproducing.py --keep runs/digits/sweep-1f2e3d.json --as digits --images "scikit-learn's digits"

Measured is what benchmarks/*.json hold in the form in which a command of several runs (`recipe digits at at+awp
--seeds 0-4`) leaves it, with two keys more, which --keep adds on the machine that ran it:

    command, commit, versions     what was typed, with which code it was compared, with which packages
    machine                       {cpu, cores}: its kind, no name; the device stands with each run
    images                        on what, in words: "JPEG copies of CIFAR-10's images, not CIFAR-10"
    dataset, settings             "cifar10", and what stood behind --set
    groups                        one for each protocol, as `rb_smooth.training.sweep.comparison.compare_methods` makes
    them:
      protocol                    norm, eps, step_size, n, version, fingerprint, selected_on
      methods                     rows: method, title, seeds, and for clean, pgd20, autoattack, last_pgd20, gap (shares
                                  in [0, 1]) the mean, the std (None of one seed) and each seed's
      differences                 paired tests of AutoAttack accuracy: method, minus, seeds, mean, low, high, p, p_holm
    runs, failed                  every run's figures, device, seconds and commit; what failed, and why

Where a method has one seed only, the entries of leaderboard/ are compared point by point (`pointwise`). Below stands
what `tuning` left in benchmarks/tuning*.json.

A row belongs to a cell if data set, method and settings are the cell's. Settings that choose how the best epoch is
chosen, how it is attacked, or what is logged may differ: they are told with the figure.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import tuning
from learning_curves import logs_of, write_curves
from paper_tables import Record, anchor_link, overview_lines, paper_lines
from per_example_tests import entries_of, point_lines
from result_tables import CLAIMED_ON, claim_lines, figure_lines, group_lines, restrict_to, table_head, table_line
from speed import machine_kind

from rb_smooth.config.listing import all_paper_results
from rb_smooth.core import files
from rb_smooth.core.cli import run_cli
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import write_between
from rb_smooth.core.formatting import percent
from rb_smooth.leaderboard.entries import list_entries

HERE = Path(__file__).parent
PAGE, README = HERE.parent / "docs" / "reproducing.md", HERE.parent / "README.md"
BOARD = HERE.parent / "leaderboard"
EXPECTED = {"digits": "scikit-learn's digits", "cifar-jpeg": "JPEG copies of CIFAR-10's images, a small network"}
"""What is to be measured on any machine, by the file that will hold it."""

LEADERBOARD_KEY = ("folder-cifar10-jpeg", "Linf")
"""The board on which a model that was trained elsewhere stands beside ours."""

KEYS = {"command", "commit", "versions", "machine", "images", "dataset", "settings", "groups", "runs"}


def main() -> int:
    options = parse_options()
    if options.keep is not None:
        keep(options.keep, HERE / f"{options.name}.json", options.images)
    results = read_results(HERE)
    write_page(PAGE, results)
    if "digits" in results:
        write_between(README, {"digits": list(readme_lines(results["digits"]))})
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="SWEEP.json", help="put this among the results first")
    parser.add_argument("--as", dest="name", metavar="NAME", help="benchmarks/NAME.json")
    parser.add_argument("--images", help="on what it was trained and tested, in words")
    options = parser.parse_args()
    if len({each is None for each in (options.keep, options.name, options.images)}) == 2:
        raise UserError("expected --keep, --as and --images together, got only some; give all three")
    return options


def keep(sweep: Path, place: Path, images: str) -> None:
    """What a command of several runs left, with what it does not know of itself, and the curves of the four methods.

    Raises UserError if it is no such command's.
    """
    record = files.read_json(sweep)
    versions = {"python": platform.python_version(), **record.get("versions", {})}
    files.write_json(
        place, check_record({**record, "versions": versions, "machine": machine_kind(), "images": images}, sweep)
    )
    if curves := logs_of(record["runs"], sweep.parent):
        write_curves(curves, place.parent / "curves" / f"{place.stem}.csv")


def read_results(folder: Path) -> dict[str, Record]:
    """The results that are there, by the names of their files; other benchmarks' files hold no groups."""
    found = {path.stem: files.read_json(path) for path in sorted(folder.glob("*.json"))}
    return {name: check_record(record, folder / f"{name}.json") for name, record in found.items() if "groups" in record}


def check_record(record: Record, path: Path) -> Record:
    if missing := KEYS - record.keys():
        raise UserError(f"expected {', '.join(sorted(missing))} in {path}, got none; see benchmarks/reproducing.py")
    return record


def write_page(page: Path, results: Mapping[str, Record]) -> None:
    """Put the tables between their comments: the papers', what was measured, and what was tried on validation."""
    papers = groupby(all_paper_results(), lambda paper_result: paper_result.paper.split()[0].lower())
    blocks = {name: list(paper_lines(list(paper_results), results)) for name, paper_results in papers}
    blocks["table 1"] = list(overview_lines(all_paper_results(), results))
    blocks["measured"] = list(measured_lines(results))
    blocks["door"] = list(board_lines(BOARD, *LEADERBOARD_KEY))
    blocks["tried"] = list(tuning_lines(HERE))
    write_between(page, blocks)


def readme_lines(record: Record) -> Iterator[str]:
    """The methods that the papers' claims compare, on digits, and where the figures come from."""
    for group in record["groups"]:
        chosen = restrict_to(group, CLAIMED_ON)
        if chosen["methods"]:
            yield from figure_lines(chosen, record["runs"])
            yield from claim_lines(chosen)
    shown = [run for run in record["runs"] if run["method"] in CLAIMED_ON]
    yield f"{_commits(shown).capitalize()}; [every method](docs/reproducing.md#what-was-measured)."


def measured_lines(results: Mapping[str, Record]) -> Iterator[str]:
    """Of every file of results its tables, and where they come from; of one that is expected, that there is none."""
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
    """A board's entries, the most robust first, with the intervals of their shares."""
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
    """Of every file of `tuning` its table, and where it comes from."""
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
        yield from tuning.table(record)
        yield ""


def _provenance(record: Record) -> str:
    """Where it comes from; a bracket stays open for more."""
    machine = f"{record['machine']['cpu']}, {record['machine']['cores']} cores"
    return f"`{record['command']}`, {_commits(record.get('runs', [record]))} ({machine}"


def _commits(runs: Sequence[Record]) -> str:
    """Of the code that measured them; a command that went on later may have gone on with newer code."""
    measured_by = sorted({run["commit"][:7] for run in runs})
    return f"commit{'s' if len(measured_by) > 1 else ''} {', '.join(measured_by)}"


if __name__ == "__main__":
    sys.exit(run_cli(main)())
