"""What RobustBench's new-model issue asks for, of one entry, filled in: a folder to attach or to send.

    <Name>/README.md  issue.md  registry.py  evaluation.log  recipe.yaml  points.csv  SHA256SUMS
    <Name>/model_info/<dataset>/<threat>/<Name>.json      RobustBench's own fields, without our block
    <Name>/models/<dataset>/<threat>/<Name>.pt            the weights, where RobustBench's load_model looks for them

The issue also says what is not true of RobustBench's rules. Nothing here is sent anywhere, and it costs no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rb_smooth.config.yaml import dump_sections
from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.core.files import validate_name
from rb_smooth.core.formatting import eps_text, percent
from rb_smooth.evaluation.per_example import counts_by_attack
from rb_smooth.evaluation.score import attack_title
from rb_smooth.leaderboard.entries import Entry, read_per_example_results
from rb_smooth.leaderboard.metadata import architecture_title
from rb_smooth.leaderboard.reports.architecture_source import write_architecture_source

_CHECKSUMS_FILE = "SHA256SUMS"


def write_bundle(entry: Entry, out: Path) -> Path:
    """Make <out>/<Name>/, whole or not at all; a bundle that is there is replaced.

    Raises UserError if weights are missing or are not those that were measured, if points.csv is damaged, and if
    another thing lies where the bundle would.
    """
    for name in (entry.dataset, entry.threat, entry.name):  # they become paths, and words of registry.py
        validate_name(name)
    target = out / entry.name
    entry.measured_weights()
    if target.exists() and not (target / _CHECKSUMS_FILE).exists():
        raise UserError(f"expected {target} to be free or a bundle, got something else; move it away, or say --out")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{entry.name}.") as temporary:
        folder = Path(temporary) / "new"
        _write_bundle_files(entry, folder)
        if target.exists():
            target.rename(Path(temporary) / "old")
        folder.rename(target)
    return target


def robustbench_json(entry: Entry) -> dict[str, object]:
    """The entry's JSON in RobustBench's form: without our block, without empty values, architecture in its spelling."""
    kept = {key: value for key, value in entry.info.items() if key != "rb_smooth" and value is not None}
    return kept | {"architecture": architecture_title(entry)}


def _write_bundle_files(entry: Entry, folder: Path) -> None:
    place = Path(entry.dataset) / entry.threat
    weights = folder / "models" / place / f"{entry.name}.pt"
    texts = {
        "README.md": readme_text(entry),
        "issue.md": issue_text(entry),
        "registry.py": registry_module(entry, write_architecture_source(entry.own["model"])),
        "evaluation.log": evaluation_log(entry),
        "recipe.yaml": dump_sections(entry.own["recipe"]),
    }
    for name, text in texts.items():
        files.write_text(folder / name, text)
    files.write_json(folder / "model_info" / place / f"{entry.name}.json", robustbench_json(entry))
    _link_or_copy(entry.weights, weights)
    if entry.points.exists():
        _link_or_copy(entry.points, folder / "points.csv")
    listed = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in listed)
    files.write_text(folder / _CHECKSUMS_FILE, sums)


def _link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name, which costs no space; a copy where disks do not allow it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


_BOARDS = {("cifar10", "Linf"), ("cifar10", "L2"), ("cifar100", "Linf")}
"""RobustBench's, of those that we can measure for."""

_PLACEHOLDERS = {"authors": ("local entry", "not told"), "venue": ("local",), "link": ("",)}
"""What entries say of themselves when nobody said more."""

_LOSS_LABELS = {"clean": "misclassified unattacked"}


def readme_text(entry: Entry) -> str:
    where = f"model_dir='models', dataset={entry.dataset!r}, threat_model={entry.threat!r}"
    return (
        f"{entry.name}: what RobustBench's new-model issue asks for. Begin with issue.md; `sha256sum -c SHA256SUMS` "
        "checks the files.\n"
        "Here, once registry.py's entry is in RobustBench's table: "
        f"`robustbench.utils.load_model({entry.name!r}, {where})`.\n"
    )


def issue_text(entry: Entry) -> str:
    """Markdown, the issue's title first; fields as in RobustBench's template, and the data set, which it lacks."""
    info, score = entry.info, entry.own["score"]
    evaluation = f"{attack_title(score)}, version {score['version']}, {score['n']} points, seed {score['seed']}"
    proof = "evaluation.log, points.csv" if entry.points.exists() else "evaluation.log"
    fields = {
        "Architecture": architecture_title(entry),
        "Dataset": entry.dataset,
        "Threat Model": entry.threat,
        "eps": info["eps"],
        "Clean accuracy": f"{percent(score['clean'])} %",
        "Robust accuracy": f"{percent(score['autoattack'])} % ({attack_title(score)})",
        "Additional data": "true" if info["additional_data"] else "false",
        "Evaluation method": f"{evaluation}; {proof}",
        "Checkpoint and code": f"models/{entry.dataset}/{entry.threat}/{entry.name}.pt "
        f"(SHA-256 {entry.own.get('weights_sha256')}), registry.py",
    }
    gaps = rule_violations(entry)
    return "\n".join(
        [
            f"# [New Model] {entry.name}",
            "",
            "**Paper Information**",
            f"- Paper Title: {info['name']}",
            f"- Paper URL: {info['link'] or 'to be filled in'}",
            f"- Paper authors: {'to be filled in' if info['authors'] in _PLACEHOLDERS['authors'] else info['authors']}",
            "",
            "**Leaderboard Claim(s)**",
            "",
            *(f"- {name}: {value}" for name, value in fields.items()),
            "",
            "**Not as RobustBench's rules want it**",
            "",
            *([f"- {gap}" for gap in gaps] or ["- nothing that is known"]),
            "",
            "**Model Zoo**",
            "",
            "- [ ] I want to add my models to the Model Zoo",
            "- [ ] I use an architecture that is included among those here or in `timm` (if not: registry.py holds it)",
            "- [ ] I agree to release my model(s) under MIT license, or under a customized license (its URL: )",
            "",
        ]
    )


def rule_violations(entry: Entry) -> list[str]:
    """In what the entry is not what RobustBench's board wants; the submitter's own blanks last."""
    score = entry.own["score"]
    found = []
    if (entry.dataset, entry.threat) not in _BOARDS:
        found.append(f"RobustBench has no board {entry.dataset} {entry.threat}.")
    if score["version"] != "standard":
        found.append(f"The robust accuracy is an {attack_title(score)}: AutoAttack's standard version was not run.")
    if not score["official"]:
        found.append("The test points do not come from the official, checksummed files, or are not in their order.")
    if not score["whole"]:
        found.append(f"{score['n']} test points were attacked, not the whole test set (10,000 for CIFAR).")
    if score.get("selected_on") == "test":
        found.append("The epoch was chosen on the test set.")
    checks = [check for check in score.get("checks", []) if check["verdict"] == "unreliable"]
    found += [f"Unreliable: {check['name']}: {check['found']}" for check in checks]
    if entry.info.get("unreliable") and not checks:
        found.append("The entry is marked as unreliable.")
    if not score.get("checks"):
        found.append("No checks (gradients, determinism, forward cost) are recorded.")
    found += [f"AutoAttack warned: {warning}" for warning in score.get("warnings", [])]
    blank = [field for field, values in _PLACEHOLDERS.items() if entry.info[field] in values]
    if blank:
        found.append(f"To be filled in, here and in model_info: {', '.join(blank)}; and a name <Author><Year><Word>.")
    return found


def registry_module(entry: Entry, architecture: str) -> str:
    """A module: the architecture, and `ENTRY` for RobustBench's table."""
    folder = f"models/{entry.dataset}/{entry.threat}/{entry.name}.pt"
    return (
        f'"""{entry.name} for RobustBench: architecture and entry in model_zoo ({entry.dataset} {entry.threat})."""\n\n'
        f"{architecture}\n\n"
        f"ENTRY = (\n"
        f"    {entry.name!r},\n"
        f"    {{\n"
        f'        "model": build,\n'
        f'        "gdrive_id": "to be filled in once {folder} is uploaded",\n'
        f"    }},\n"
        f")\n"
    )


def evaluation_log(entry: Entry) -> str:
    """What was done, with what, and what it found: one `key: value` a line."""
    score = entry.own["score"]
    low, high = score["interval"]
    threat = score["threat"]
    lines = [
        f"entry: {entry.name}",
        f"weights: SHA-256 {entry.own.get('weights_sha256')}",
        f"test points: {score['n']}, fingerprint {score['fingerprint']}, official {score['official']}, "
        f"whole test set {score['whole']}",
        f"threat: {threat['norm']}, eps {eps_text(threat['eps'])}",
        f"protocol: version {score['version']}, seed {score['seed']}, batch size {score.get('batch_size')}, "
        f"{score.get('backend')}",
        f"clean accuracy: {percent(score['clean'])} %",
        f"PGD-20 accuracy: {percent(score['pgd20'])} %",
    ]
    for name, attack in score["attacks"].items():
        lines.append(f"robust accuracy after {name}: {percent(attack['robust'])} % ({attack['seconds']:.1f} s)")
    span = f"95 % interval {percent(low)} to {percent(high)}"
    lines.append(f"{attack_title(score)}: {percent(score['autoattack'])} % ({span})")
    lines += _broken_counts(entry)
    lines += [f"warning: {warning}" for warning in score.get("warnings", [])] or ["warnings: none"]
    checks: list[dict[str, Any]] = score.get("checks", [])
    lines += [f"check {check['name']}: {check['verdict']}; {check['found']}" for check in checks] or ["checks: none"]
    lines += [f"{name}: {version}" for name, version in entry.own["versions"].items()]
    return "\n".join([*lines, f"commit: {score.get('commit', entry.own.get('commit'))}", ""])


def _broken_counts(entry: Entry) -> list[str]:
    found = read_per_example_results(entry)
    if found is None:
        return ["points: not kept, point by point"]
    return [
        f"points {_LOSS_LABELS.get(name, f'broken by {name}')}: {count}"
        for name, count in counts_by_attack(found).items()
    ]
