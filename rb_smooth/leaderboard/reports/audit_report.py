"""The report of an audit: report.md, report.html, audit.json, points.csv and examples.npz in one folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rb_smooth.core import files
from rb_smooth.core.environment import git_commit
from rb_smooth.core.formatting import duration, eps_text, percent
from rb_smooth.core.robustbench import package_versions
from rb_smooth.evaluation.per_example import verify_examples
from rb_smooth.evaluation.sequential_audit import Audit
from rb_smooth.leaderboard.page.details import read_pairs

_FOLDER = Path(__file__).parent


def write_report(audit: Audit, folder: Path, subject: Mapping[str, str], class_names: Sequence[str] = ()) -> None:
    """Write the files of the report, each atomically. subject: what was audited, name -> value."""
    files.write_arrays(folder / "examples.npz", vars(audit.examples))
    files.write_text(folder / "points.csv", _points_csv(audit))
    values = _values(audit, subject)
    files.write_json(folder / "audit.json", values)
    for name in ("report.md", "report.html"):
        environment = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=name.endswith(".html"),
            finalize=(lambda value: " ".join(str(value).split())) if name.endswith(".md") else None,  # no new headings
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(percent=percent, duration=duration, eps_text=eps_text)
        text = environment.get_template(f"{name}.j2").render(
            audit=audit, subject=subject, values=values, pairs=read_pairs(folder / "examples.npz", class_names)
        )
        files.write_text(folder / name, text)


def _values(audit: Audit, subject: Mapping[str, str]) -> dict[str, Any]:
    """The audit as JSON values."""
    return {
        "verdict": "refuted" if audit.refuted else "consistent",
        "sentence": str(audit),
        "subject": dict(subject),
        "claimed": audit.claimed,
        "threat": audit.threat._asdict(),
        "clean": audit.clean,
        "test points": audit.n_test,
        "looks": list(audit.looks),
        "seed": audit.seed,
        "steps": [step._asdict() for step in audit.steps],
        "checks": [check._asdict() for check in audit.checks],
        "examples": verify_examples(audit.examples, audit.threat).found,
        "warnings": list(audit.warnings),
        "commit": git_commit(),
        "versions": package_versions(),
    }


def _points_csv(audit: Audit) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "broken_by"])
    writer.writerows(zip(audit.sample, audit.broken_by, strict=True))
    return text.getvalue()
