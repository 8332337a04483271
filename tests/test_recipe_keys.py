"""Every key of a recipe has a unit, a default, a meaning and a source; docs/recipes.md equals the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from run_program import run_program

from rb_smooth import recipe
from rb_smooth.components.torch_optimizers import torch_optimizer_names
from rb_smooth.config import registry, yaml
from rb_smooth.config.reference import print_keys, select_groups, write_keys
from rb_smooth.config.schema import Data, Evaluate, Extra, Train
from rb_smooth.config.sections import SECTIONS
from rb_smooth.core.console import console
from rb_smooth.core.errors import UserError

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
KEY_GROUPS = {each.title: each for topic in (*SECTIONS, "optimizer.torch") for each in select_groups(topic)}
SECTION_CLASSES = {"data": Data, "data.extra": Extra, "train": Train, "evaluate": Evaluate}
METHODS = sorted(KEY_GROUPS.keys() - SECTION_CLASSES)
RANGES = [
    (title, key.name, sign, float(bound))
    for title in METHODS
    for key in KEY_GROUPS[title].keys
    for sign, bound in re.findall(r"([<>]=?) ([\d.]+)", key.values)
]
NEEDED = {"drops": [1], "root": "nowhere", "id": "resnet18"}
POSITIONAL = {"optimizer": ([torch.zeros(1, requires_grad=True)],), "model": (3, 10), "data": (Path("nowhere"),)}


def kind_and_name(title):
    """("augmentation", "crop") of data.augment.crop."""
    kind, _, name = title.replace("data.augment.", "augmentation.").partition(".")
    return kind, name


def listed_keys(*topics):
    with console.capture() as capture:
        print_keys(topics)
    return " ".join(capture.get().split())


def test_the_page_equals_the_code(tmp_path):
    copy = tmp_path / "recipes.md"
    copy.write_text(PAGE.read_text())
    write_keys(copy)
    assert copy.read_text() == PAGE.read_text()


def test_no_path_on_the_page_is_taken_for_a_tag():
    prose = re.sub(r"^```.*?^```|`[^`\n]*`|<!--.*?-->", "", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"<\w", prose)


@pytest.mark.parametrize("title", KEY_GROUPS)
def test_each_key_has_unit_or_choices_default_meaning_and_source(title):
    group = KEY_GROUPS[title]
    assert group.what
    assert group.source or title in SECTION_CLASSES
    for key in group.keys:
        assert key.values not in ("", "integer", "number", "text", "list"), key
        assert all(key), key


def test_every_component_and_option_is_documented():
    kinds = {*SECTIONS, "augmentation"} - {"train", "evaluate"}
    assert {kind_and_name(title) for title in METHODS} == {
        (kind, name) for kind in kinds for name in registry.component_names(kind)
    } | {("optimizer", name) for name in torch_optimizer_names()}
    for title, group in KEY_GROUPS.items():
        keys = (
            SECTION_CLASSES[title].model_fields
            if title in SECTION_CLASSES
            else registry.configurable_options(*kind_and_name(title))
        )
        assert [key.name for key in group.keys] == list(keys)


@pytest.mark.parametrize("title", METHODS)
def test_a_default_reads_back_as_the_value_in_the_code(title):
    for key in KEY_GROUPS[title].keys:
        default = registry.configurable_options(*kind_and_name(title))[key.name].default
        read = yaml.parse_yaml(key.default, title)
        read = tuple(read) if isinstance(read, list) else read
        assert {"none": None, "required": registry.inspect.Parameter.empty}.get(read, read) == default


@pytest.mark.parametrize(("title", "key", "sign", "bound"), RANGES)
def test_values_outside_the_documented_range_are_rejected_and_inside_accepted(title, key, sign, bound):
    kind, name = kind_and_name(title)
    options = registry.configurable_options(kind, name)
    whole = options[key].annotation in (int, int | None)
    step = (1 if whole else 0.01) * (1 if ">" in sign else -1)
    inside, outside = (bound, bound - step) if "=" in sign else (bound + step, bound)
    needed = {each: NEEDED[each] for each, option in options.items() if option.default is option.empty}

    def refused(value):
        number = int(value) if whole else value
        try:
            registry.build_component(kind, name, needed | {key: number}, *POSITIONAL.get(kind, ()))
        except UserError as error:
            return key in str(error)
        return False

    assert refused(outside)
    assert not refused(inside)


def test_ranges_are_found_in_the_documentation():
    assert len(RANGES) > 40
    assert ("averaging.ema", "decay", "<", 1.0) in RANGES


def test_a_key_documented_as_anothers_has_the_same_text():
    mart, at = ({key.name: key for key in KEY_GROUPS[f"objective.{name}"].keys} for name in ("mart", "at"))
    assert mart["eps"] == at["eps"]
    assert mart["bn_mode"] != at["bn_mode"]


def test_limits_of_annotated_and_optional_types_are_shown():
    values = {key.name: key.values for title in ("train", "evaluate", "data.extra") for key in KEY_GROUPS[title].keys}
    assert values["recalibrate"] == "minibatches, >= 0, <= 10000"
    assert values["scaled_from"] == "epochs, > 0"
    assert values["seed"] == "integer, >= 0"
    assert values["share"] == "share, in whole images, > 0, < 1"
    assert values["compile"] == "`true`, `false`, `auto`, `reduce-overhead`"


def test_a_topic_is_a_section_a_part_a_method_or_a_key():
    assert [each.title for each in select_groups("train")] == ["train"]
    assert [each.title for each in select_groups("objective.at")] == ["objective.at"]
    assert [each.title for each in select_groups("data.augment")] == [
        *("data", "data.augment.crop", "data.augment.flip", "data.augment.rotate")
    ]
    for topic, titles in {
        "objective.beta": ["objective.mart", "objective.trades"],
        "objective.mart.beta": ["objective.mart"],
        "data.extra.share": ["data.extra"],
        "train.epochs": ["train"],
    }.items():
        found = select_groups(topic)
        assert [each.title for each in found] == titles
        assert {key.name for each in found for key in each.keys} == {topic.rpartition(".")[2]}


@pytest.mark.parametrize(
    ("topic", "nearest"),
    [("optimiser", "'optimizer'"), ("objective.att", "'objective.at'"), ("train.epoch", "'train.epochs'")],
)
def test_a_misspelt_topic_is_rejected_with_the_nearest_name(topic, nearest):
    with pytest.raises(UserError, match=f"did you mean {nearest}"):
        select_groups(topic)


def test_another_packages_method_is_shown_with_its_package_and_left_out_of_the_page(package_site, tmp_path):
    package_site.add_sample()
    shown = listed_keys("perturbation")
    assert "perturbation.sam (from rb-smooth-sam 0.1): A context" in shown
    assert re.search(r"rho +number, >= 0 +0.05 +Radius of the ball +ours", shown)
    test_the_page_equals_the_code(tmp_path)


def test_undocumented_fields_are_empty(package_site):
    made = (
        'class Plain:\n    """Plain.\n\n    rho: radius.\n    """\n    def __init__(self, *, rho: float = 1.0): ...\n'
    )
    package_site.add("plain", methods={"perturbation.plain": "plain_one:Plain"}, files={"plain_one.py": made})
    (group,) = select_groups("perturbation.plain")
    assert (group.what, group.source) == ("Plain.", "")
    assert group.keys == (("rho", "number", "1.0", "Radius", ""),)


def test_a_broken_package_is_named_and_the_others_are_shown(package_site):
    files = {"broken_one.py": "raise RuntimeError('no such library')\n"}
    package_site.add("broken", methods={"perturbation.broken": "broken_one:Broken"}, files=files)
    shown = listed_keys("perturbation")
    assert "got RuntimeError (no such library)" in shown
    assert "perturbation.awp: Context manager" in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["keys", "train.epochs"], 0, "Passes over the training images"),
        (["keys", "train", "--write", "recipes.md"], 2, "expected an option of python -m rb_smooth.recipe"),
    ],
)
def test_the_program_prints_keys_and_rejects_other_options(words, code, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_program(recipe.main, *words) == code
    printed = capsys.readouterr()
    assert said in " ".join((printed.out + printed.err).split())
