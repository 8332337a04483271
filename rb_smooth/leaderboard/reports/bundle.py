"""Pack one entry as RobustBench's new-model issue asks for it: a folder to attach or to send.

    <Name>/README.md  issue.md  registry.py  evaluation.log  recipe.yaml  points.csv  SHA256SUMS
    <Name>/model_info/<dataset>/<threat>/<Name>.json      RobustBench's own fields, without our block
    <Name>/models/<dataset>/<threat>/<Name>.pt            the weights, where RobustBench's load_model looks for them

The issue lists which of RobustBench's rules the entry breaks. Nothing is sent anywhere. Needs no torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.formatting import percent
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, link_or_copy, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_title
from rb_smooth.leaderboard.reports.entry_report import attack_steps, facts_by_heading

_CHECKSUMS_FILE = "SHA256SUMS"


def write_bundle(entry: Entry, out: Path) -> Path:
    """Write <out>/<Name>/ atomically, in the place of an older bundle; returns that path.

    Raises UserError if the weights are missing or have another SHA-256 than the entry states, if points.csv is
    damaged, and if <out>/<Name> exists and is no bundle.
    """
    for name in (entry.dataset, entry.threat, entry.name):  # become paths and parts of registry.py
        validate_name(name)
    target = out / entry.name
    entry.measured_weights()
    if target.exists() and not (target / _CHECKSUMS_FILE).exists():
        raise UserError(
            f"expected {target} to be absent or a bundle, got something else; move it away, or choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{entry.name}.") as temporary:
        folder = Path(temporary) / "new"
        _write_bundle_files(entry, folder)
        if target.exists():
            target.rename(Path(temporary) / "old")
        folder.rename(target)
    return target


def robustbench_json(entry: Entry) -> dict[str, object]:
    """The entry's JSON as RobustBench has it: no `rb_smooth` block, no null values, architecture in its spelling."""
    fields = {key: value for key, value in entry.info.items() if key != "rb_smooth" and value is not None}
    return fields | {"architecture": architecture_title(entry)}


def _write_bundle_files(entry: Entry, folder: Path) -> None:
    files.write_text(folder / "README.md", readme_text(entry))
    files.write_text(folder / "issue.md", issue_text(entry))
    files.write_text(folder / "registry.py", registry_module(entry))
    files.write_text(folder / "evaluation.log", evaluation_log(entry))
    files.write_text(folder / "recipe.yaml", dump_sections(entry.own["recipe"]))
    files.write_json(folder / entry.path.relative_to(entry.leaderboard), robustbench_json(entry))
    link_or_copy(entry.weights, folder / _weights_path(entry))
    if entry.points.exists():
        link_or_copy(entry.points, folder / "points.csv")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths)
    files.write_text(folder / _CHECKSUMS_FILE, sums)


def _weights_path(entry: Entry) -> str:
    """Inside the bundle."""
    return entry.weights.relative_to(entry.leaderboard).as_posix()


_ROBUSTBENCH_BOARDS = {("cifar10", "Linf"), ("cifar10", "L2"), ("cifar100", "Linf")}
"""Those of RobustBench's boards that rb_smooth can evaluate for."""

_PLACEHOLDERS = {"authors": ("local entry", "not told"), "venue": ("local",), "link": ("",)}
"""Values of RobustBench's fields in an entry that was submitted without them."""


def readme_text(entry: Entry) -> str:
    where = f"model_dir='models', dataset={entry.dataset!r}, threat_model={entry.threat!r}"
    return (
        f"{entry.name}: what RobustBench's new-model issue asks for. Start with issue.md; `sha256sum -c SHA256SUMS` "
        "checks the files.\n"
        "In this folder, with registry.py's ENTRY in RobustBench's table: "
        f"`robustbench.utils.load_model({entry.name!r}, {where})`.\n"
    )


def issue_text(entry: Entry) -> str:
    """Markdown, the issue's title first; fields as in RobustBench's template, and the data set, which it lacks."""
    info, score = entry.info, entry.own["score"]
    evaluation = f"{attack_title(score)}, version {score['version']}, {score['n']} points, seed {score['seed']}"
    evidence = "evaluation.log, points.csv" if entry.points.exists() else "evaluation.log"
    authors = "to be filled in" if info["authors"] in _PLACEHOLDERS["authors"] else info["authors"]
    claims = {
        "Architecture": architecture_title(entry),
        "Dataset": entry.dataset,
        "Threat Model": entry.threat,
        "eps": info["eps"],
        "Clean accuracy": f"{percent(score['clean'])} %",
        "Robust accuracy": f"{percent(score['autoattack'])} % ({attack_title(score)})",
        "Additional data": "true" if info["additional_data"] else "false",
        "Evaluation method": f"{evaluation}; {evidence}",
        "Checkpoint and code": f"{_weights_path(entry)} (SHA-256 {entry.own.get('weights_sha256')}), registry.py",
    }
    violations = rule_violations(entry)
    return _join_lines(
        [
            f"# [New Model] {entry.name}",
            "",
            "**Paper Information**",
            f"- Paper Title: {info['name']}",
            f"- Paper URL: {info['link'] or 'to be filled in'}",
            f"- Paper authors: {authors}",
            "",
            "**Leaderboard Claim(s)**",
            "",
            *(f"- {name}: {value}" for name, value in claims.items()),
            "",
            "**Rules of RobustBench that this entry breaks**",
            "",
            *([f"- {violation}" for violation in violations] or ["- none known"]),
            "",
            "**Model Zoo**",
            "",
            "- [ ] I want to add my models to the Model Zoo",
            "- [ ] I use an architecture that is included among those here or in `timm` (if not: registry.py names the "
            "class and builds it)",
            "- [ ] I agree to release my model(s) under MIT license, or under a customized license (its URL: )",
            "",
        ]
    )


def rule_violations(entry: Entry) -> list[str]:
    """One sentence for each of RobustBench's rules that the entry breaks; fields left to fill in come last."""
    score = entry.own["score"]
    found = []
    if (entry.dataset, entry.threat) not in _ROBUSTBENCH_BOARDS:
        found.append(f"RobustBench has no board {entry.dataset} {entry.threat}.")
    if score["version"] != "standard":
        found.append(f"The robust accuracy is an {attack_title(score)}: AutoAttack's standard version was not run.")
    if not score["official"]:
        found.append("The test points do not come from the official, checksummed files, or are in another order.")
    if not score["whole"]:
        found.append(f"{score['n']} test points were attacked, not the whole test set (10,000 for CIFAR).")
    if score.get("selected_on") == "test":
        found.append("The epoch was selected on the test set.")
    unreliable = [check for check in score.get("checks", []) if check["verdict"] == "unreliable"]
    found += [f"Unreliable: {check['name']}: {check['found']}" for check in unreliable]
    if entry.info.get("unreliable") and not unreliable:
        found.append("The entry is marked as unreliable.")
    if not score.get("checks"):
        found.append("No checks (gradients, determinism, forward cost) are recorded.")
    found += [f"AutoAttack warned: {warning}" for warning in score.get("warnings", [])]
    blank = [field for field, values in _PLACEHOLDERS.items() if entry.info[field] in values]
    if blank:
        found.append(f"To be filled in, here and in model_info: {', '.join(blank)}; and a name <Author><Year><Word>.")
    return found


def registry_module(entry: Entry) -> str:
    """Python source: `build()` makes the untrained network with rb_smooth, `ENTRY` is for RobustBench's table."""
    model = entry.own["model"]
    package = entry.packages.get(f"model.{model['name']}", "rb_smooth.components.models")
    arguments = (model["name"], model.get("options", {}), tuple(model["shape"]), model["classes"])
    record = {"gdrive_id": f"to be filled in once {_weights_path(entry)} is uploaded"}
    return (
        f'"""{entry.name} for RobustBench: architecture and entry in model_zoo ({entry.dataset} {entry.threat})."""\n\n'
        "from rb_smooth.config.registry import build_model\n\n\n"
        "def build():\n"
        f"    # {model['name']!r} of {package!r}, behind the normalisation of its inputs\n"
        f"    return build_model{arguments!r}\n\n\n"
        f"ENTRY = ({entry.name!r}, {{**{record!r}, 'model': build}})\n"
    )


def evaluation_log(entry: Entry) -> str:
    """Accuracies, protocol, attacks, checks and versions, one `key: value` per line."""
    score, results = entry.own["score"], read_per_example_results(entry)
    facts = {name: value for named in facts_by_heading(entry).values() for name, value in named.items()}
    lines = [f"entry: {entry.name}", *(f"{name}: {value}" for name, value in facts.items())]
    lines.append(f"broken points counted from: {'accuracies' if results is None else 'points.csv'}")
    for step in attack_steps(score, results):
        took = "" if step.seconds is None else f" ({step.seconds:.1f} s)"
        lines.append(f"{step.attack}: {step.broken} points broken, accuracy {percent(step.accuracy)} %{took}")
    lines += [f"warning: {warning}" for warning in score.get("warnings", [])] or ["warnings: none"]
    checks: list[dict[str, Any]] = score.get("checks", [])
    lines += [f"check {check['name']}: {check['verdict']}; {check['found']}" for check in checks] or ["checks: none"]
    return _join_lines([*lines, ""])


def _join_lines(lines: Sequence[str]) -> str:
    """The lines as text. A line break within one, of a title or a name, becomes a space: it could make a heading."""
    return "\n".join(" ".join(line.split()) for line in lines)
