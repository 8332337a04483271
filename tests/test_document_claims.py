"""The text of README.md and docs/*.md agrees with the code: links, files, commands, quoted messages, and figures."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from check_commands import check_call
from document_sandbox import ROOT
from test_documents import PAGES

from rb_smooth.components import flops
from rb_smooth.config.overrides import resolve_config
from rb_smooth.core import files
from rb_smooth.data import datasets
from rb_smooth.data.splits import split
from rb_smooth.evaluation import autoattack
from rb_smooth.training import trainer, validate
from rb_smooth.training.run_folder import run

PROSE = {page: re.sub(r"<!-- run:.*?-->|^```.*?^```$", "", text, flags=re.M | re.S) for page, text in PAGES.items()}
"""The pages without their code blocks."""


def quoted(page: str) -> list[str]:
    """Texts between backticks, on one line or over two."""
    return [" ".join(each[1].split()) for each in re.findall(r"(`+)(.+?)(?<!`)\1(?!`)", PROSE[page], re.DOTALL)]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_link_targets_exist(page):
    named = dict(re.findall(r"^\[(\w+)\]: (\S+)$", PROSE[page], re.MULTILINE))
    assert {*re.findall(r"\]\[(\w+)\]", PROSE[page])} == named.keys()
    for target in [*re.findall(r"\]\(([^)]+)\)", PROSE[page]), *named.values()]:
        path, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def test_the_readme_is_short():
    assert PAGES["README.md"].count("\n") <= 150


def test_the_readme_links_the_index_and_the_index_every_page():
    assert "](docs/index.md)" in PAGES["README.md"]
    for page in PAGES.keys() - {"README.md", "docs/index.md"}:
        assert re.search(rf"\]\({page.removeprefix('docs/')}[#)]", PAGES["docs/index.md"]), page


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/adding-a-method.md"])  # it creates files
def test_named_files_exist(page):
    for name in quoted(page):
        if re.fullmatch(r"(rb_smooth|tests|benchmarks|examples|docs|recipes)/[\w./+-]+", name):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_are_valid(page):
    for command in quoted(page):
        if found := re.match(r"python -m (rb_smooth\.\w+)( (?!--help)[^…]+(?<!\.yaml)$)?", command):
            assert find_spec(found[1]), command
            if found[2]:
                check_call(shlex.split(command))
        elif command.startswith("make "):
            check_call(command.split())
        elif settings := re.findall(r"--set ('[^']+'|\S+=\S+)", command):
            validate.check_recipe(
                *resolve_config("cifar10", "trades", [each.strip("'") for each in settings]), "trained"
            )


def test_examples_in_help_texts_are_valid():
    example = re.compile(r"^    (python -m rb_smooth\.\w+ \S.*?)(?:  .*)?$", re.MULTILINE)
    documented = [ast.get_docstring(ast.parse(path.read_text())) or "" for path in (ROOT / "rb_smooth").rglob("*.py")]
    examples = [each for text in documented for each in example.findall(text)]
    assert len(examples) > 30
    for each in examples:
        if ".yaml" not in each and "[DATASET]" not in each:
            check_call(shlex.split(each))


def messages() -> Iterator[str]:
    """Every string in the package, with … for the parts that are filled in."""
    for path in (ROOT / "rb_smooth").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_quoted_messages_exist_in_the_package():
    written = [*messages()]
    quotes = [each for page in PAGES for each in quoted(page) if re.match(r"expected \w|(collapsed|diverging): ", each)]
    quotes += [each for page in PAGES for each in quoted(page) if each.startswith("catastrophic overfitting: ")]
    assert len(quotes) > 10
    for quote in quotes:
        if quote != "expected …, got …; do …":  # the general form
            assert any(quote.rstrip("… ") in message for message in written), quote


def test_the_run_folder_on_the_page_is_that_of_its_command():
    resolved = resolve_config("cifar10", "at", ["optimizer.lr=0.05", "train.seed=1"])
    assert f"`{run.run_path(Path('runs'), resolved).path}`" in PAGES["docs/training.md"]


def row(page: str, first: str) -> int:
    """The integer in the table row of `page` whose first cell starts with `first`."""
    (found,) = re.findall(rf"^\| {re.escape(first)}.*\| ([\d,]+) \|$", PAGES[page], re.MULTILINE)
    return int(found.replace(",", ""))


def test_the_pages_passes_of_autoattack_are_those_of_the_code():
    def passes(version: str) -> int:
        return sum(
            autoattack.FORWARD_PASSES[name] + autoattack.BACKWARD_PASSES[name] for name in autoattack.VERSIONS[version]
        )

    assert row("docs/performance.md", "AutoAttack") == passes("standard")
    assert row("docs/performance.md", "`evaluate.version=quick`") == passes("quick")


@pytest.mark.parametrize("method", ["standard", "at", "trades", "mart", "at+awp", "trades+awp", "at+ensgd"])
def test_the_pages_passes_of_a_training_step_are_counted(method):
    recipe = validate.check_recipe(*resolve_config("digits", method, ["model.width=8"]))
    source = datasets.digits(Path("unused"))
    images = split(source, validation=60, split_seed=0, select="validation", train_examples=128)
    trained = trainer.Trainer(recipe, images, torch.device("cpu"))
    order = trained.batch_order()
    flop = flops.count_flops(lambda: trained.run_batch(order))
    forward = flops.forward_flops(trained.model, images.shape) * recipe.data.batch_size
    expected = row("docs/performance.md", f"`{method}`")
    assert flop / forward == pytest.approx(expected, rel=0.02)  # the first layer's images need no gradient in training


def test_the_pages_effects_on_digits_are_those_of_the_results():
    page = " ".join(PAGES["docs/reproducing.md"].split())
    found = files.read_json(ROOT / "benchmarks/digits.json")["groups"]
    mean = {row["method"]: 100 * row["autoattack"]["mean"] for group in found for row in group["methods"]}
    linf = [row for row in found[0]["methods"] if row["method"] != "standard"]
    low, high = (end(100 * row["autoattack"]["mean"] for row in linf) for end in (min, max))
    assert f"from {mean['standard']:.1f} % to between {low:.1f} and {high:.1f} %" in page
    wholes = ["at{}", "trades{}", "mart{}", "at{}-l2"]  # any base, with room for its parts
    lost = [mean[each.format(awp)] - mean[each.format(f"{awp}+ensgd")] for each in wholes for awp in ("", "+awp")]
    assert f"in all eight pairs the mean is lower, by {min(lost):.1f} to {max(lost):.1f} points" in page
    pairs = [(each.format(f"+awp{rest}"), each.format(rest)) for each in wholes for rest in ("", "+ensgd")]
    worst, *gained = sorted(mean[method] - mean[minus] for method, minus in pairs)
    assert f"in seven of eight pairs the mean is higher, by {min(gained):.1f} to {max(gained):.1f} points" in page
    assert abs(worst) < 0.28  # one test image


def test_the_pages_speeds_are_those_of_the_results():
    page = " ".join(PAGES["docs/performance.md"].split())
    gpu = files.read_json(ROOT / "benchmarks/gpu.json")["speed preactresnet18 128"]["methods"]["at"]
    graphs, compiled, authors = (1e3 * gpu["step_s"][form]["median"] for form in ("graphs", "ours", "authors"))
    assert f"takes {graphs:.1f} ms in graphs, {compiled:.1f} ms compiled only" in page
    assert f"The first one, with compiling: {gpu['warm_up_s']['graphs']:.0f} s" in page
    assert f"{graphs:.1f} ms, {authors / graphs:.1f} times less than the authors' way" in page
    measured = files.read_json(ROOT / "benchmarks/precision.json")
    nets = [net["over fp32 NCHW"] for net in measured["step"].values()]
    forms = [{name: each["median"] for name, each in net.items()} for net in nets]
    last = sorted(each["fp32 channels_last"] for each in forms)
    assert f"takes {forms[-1]['bf16 channels_last']:.2f} of fp32's time" in page
    assert f"{last[0]:.2f} to {last[-1]:.2f} of the time in fp32" in page
    found = [each["bf16 channels_last minus fp32 NCHW"]["pgd20"] for each in measured["accuracy"].values()]
    alone, both = ([round(100 * each[end]) for end in ("low", "high")] for each in found)
    assert f"−{-alone[0]} to +{alone[1]} points with AWP, −{-both[0]} to +{both[1]} with both" in page
    speed = files.read_json(ROOT / "benchmarks/speed.json")
    (workers,) = speed["attack"]["figures"]
    (arithmetic,) = speed["optimizer"]["figures"]
    assert f"is {workers['median']:.1f} times as fast as pyautoattack called directly" in page
    assert f"{arithmetic['median']:.2f} % of a step of `at`" in page
    steps = files.read_json(ROOT / "benchmarks/gpu.json")["speed preactresnet18 128"]["methods"]
    with_awp, with_both = (steps[method]["step_s"]["graphs"]["median"] for method in ("at+awp", "at+awp+ensgd"))
    for each in (page, PAGES["docs/gpu.md"]):
        assert f"{100 * (with_both / with_awp - 1):.0f} % to `at+awp`" in each
