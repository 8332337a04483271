"""MkDocs hooks: add the API reference, and the files of the repository that pages link to.

On GitHub the pages link to files above docs/, such as benchmarks/gpu.json. The site holds copies of them below
`repository/`, and links are rewritten. Headings get the same anchors as on GitHub.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import rb_smooth
from rb_smooth import plugin

ROOT = Path(__file__).parents[1]
COPIES = "repository/"
PROJECT_PAGES = ["CONTRIBUTING.md", "CHANGELOG.md"]
GROUPS = {
    "Train, evaluate, rank": ["train", "evaluate", "audit", "submit", "compare", "load_model", "register", "recipes"],
    "Results": ["Run", "Score", "Audit", "Entry", "Comparison", "ExternalModel", "Threat", "UserError", "Interrupted"],
    "Parts for training loops": [
        *("AT", "TRADES", "MART", "Standard", "AWP", "EntropySGD", "EntropySGD2", "SGD", "EMA"),
        *("recalibrate", "Normalized"),
    ],
    "The other programs": [
        *("resolve_config", "RunOptions", "run_recipe", "RunResult", "compare_methods", "find_runs", "summarise"),
        *("verify", "reproduce", "render_table", "write_bundle", "write_page"),
    ],
}
ALIASES = {"Refused", "Outsider"}
"""Old names of UserError and ExternalModel."""

_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)|(!\[[^\]]*\])\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    config.mdx_configs.setdefault("toc", {})["slugify"] = github_anchor
    return config


def github_anchor(heading: str, separator: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_files(files: Files, config: Any) -> Files:
    """Add the reference, and each file above docs/ that a page links to, directly or through another."""
    pages = [ROOT / name for name in PROJECT_PAGES] + sorted((ROOT / "docs").glob("*.md"))
    copied: set[str] = set()
    while pages:
        page = pages.pop()
        path = page.relative_to(ROOT).as_posix()
        targets = {posixpath.join(posixpath.dirname(path), each) for each in _local_links(page.read_text())}
        for target in {posixpath.normpath(each) for each in targets} | ({path} & {*PROJECT_PAGES}):
            if target.startswith("docs/") or target in copied or not (ROOT / target).is_file():
                continue
            copied.add(target)
            files.append(File.generated(config, COPIES + target, abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                pages.append(ROOT / target)
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its links to the repository's files led to their copies in the site."""
    here = page.file.src_uri
    source = here.removeprefix(COPIES) if here.startswith(COPIES) else f"docs/{here}"

    def rewrite(link: re.Match[str]) -> str:
        text, target = (f"[{link[1]}]", link[2]) if link[2] else (link[3], link[4])
        if not _is_local(target):
            return link[0]
        path, _, anchor = target.partition("#")
        in_repository = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if (ROOT / in_repository).is_dir():
            return text.strip("[]")
        in_site = in_repository.removeprefix("docs/") if in_repository.startswith("docs/") else COPIES + in_repository
        return f"{text}({posixpath.relpath(in_site, posixpath.dirname(here) or '.')}{'#' + anchor if anchor else ''})"

    parts = _FENCED.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(rewrite, part) for part in parts)


def _is_local(target: str) -> bool:
    return not re.match(r"https?:|mailto:|#", target)


def _local_links(text: str) -> Iterator[str]:
    for part in _FENCED.split(text):
        if not part.startswith("```"):
            for link in _LINK.finditer(part):
                target = link[2] or link[4]
                if _is_local(target):
                    yield target.partition("#")[0]


def reference() -> str:
    """Markdown of the API reference: every public name of `rb_smooth` and of `rb_smooth.plugin`."""
    grouped = {name for names in GROUPS.values() for name in names}
    assert grouped == {*rb_smooth.__all__} - ALIASES, grouped ^ ({*rb_smooth.__all__} - ALIASES)
    lines = [
        "# Reference",
        "",
        "Every public name, from the code's docstrings. The [guide](api.md) shows them at work.",
        "",
    ]
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", *(f"::: rb_smooth.{_module(name)}.{name}\n" for name in names)]
    lines += ["## For methods of your own: `rb_smooth.plugin`", "", "[How to add a method](adding-a-method.md).", ""]
    for name in plugin.__all__:
        lines.append(f"::: rb_smooth.plugin.{name}\n")
    return "\n".join(lines)


def _module(name: str) -> str:
    """Module of the package that defines a public name."""
    return next(module for module, names in rb_smooth._PUBLIC_NAMES.items() if name in names)
