"""The cells of the papers' tables: each is a recipe that is valid, and trains in each of its stages."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from rb_smooth.components.models import wideresnet
from rb_smooth.config import resolver, yaml
from rb_smooth.config.listing import read_paper_results
from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.datasets import RawDataset
from rb_smooth.data.image_spec import known_image_spec
from rb_smooth.data.images import Images
from rb_smooth.data.splits import DataSplits
from rb_smooth.training import validate
from rb_smooth.training.batches import load_extra_images
from rb_smooth.training.trainer import Trainer

CPU = torch.device("cpu")
CELLS = [paper_result for dataset in resolver.list_datasets() for paper_result in read_paper_results(dataset)]


def tiny_data(dataset: str) -> DataSplits:
    """Random images of the data set's shape, each class twice."""
    shape, classes = known_image_spec(dataset, {})
    images = Images(
        torch.randint(0, 256, (2 * classes, *shape), dtype=torch.uint8), torch.arange(2 * classes) % classes
    )
    moments = (0.5,) * shape[0], (0.25,) * shape[0]
    return DataSplits(
        RawDataset(dataset, images, images, tuple(map(str, range(classes))), *moments), images, images[:4]
    )


def shrunk_recipe(paper_result, folder):
    """The cell's recipe with a small net, one attack step, two minibatches of 8, and a file of ours for FILE."""
    dataset, method = paper_result.recipe.split("/")
    large = "wrn34" in method
    settings = [*paper_result.settings, "objective.steps=1", "data.batch_size=8"]
    settings += ["model.depth=10", "model.width=1"] if large else ["model.name=small_preactresnet", "model.width=2"]
    if paper_result.needs:
        settings = [setting.replace("FILE", str(folder / "file")) for setting in settings]
        if "data.extra" in settings[1]:
            with (folder / "file").open("wb") as file:
                np.savez(file, image=np.zeros((9, 32, 32, 3), np.uint8), label=np.arange(9))
        else:
            torch.save({"state_dict": wideresnet(3, 10, depth=10, width=1).state_dict()}, folder / "file")
    dataset, method, sections = resolve_config(dataset, method, settings)
    stages = sections["optimizer"]
    for stage in stages if isinstance(stages, list) else [stages]:
        if "inner_steps" in stage:
            stage["inner_steps"] = 2  # so that two minibatches are an outer step
    return validate.check_recipe(dataset, method, sections)


@pytest.mark.parametrize(
    "cell", CELLS, ids=lambda paper_result: f"{paper_result.recipe} ({paper_result.column}; {paper_result.row})"
)
def test_a_cell_loads_and_runs_two_steps_in_each_of_its_stages(cell, tmp_path):
    recipe, data = shrunk_recipe(cell, tmp_path), tiny_data(cell.recipe.split("/")[0])
    if recipe.data.extra is not None:
        data = replace(
            data, extra=load_extra_images(recipe.data.extra, known_image_spec(cell.recipe.split("/")[0], {}), CPU)
        )
    state = Trainer(recipe, data, CPU)
    starts = {stage.from_epoch for stages in recipe.stages.values() for stage in stages}
    for start in sorted(starts):
        state.start_stage(start)
        before = [w.clone() for w in state.optimizer.deployed()]
        state.epoch, state.batch = start, 0
        for _ in range(2):
            state.run_batch(state.batch_order())
        assert state.sums.isfinite().all()
        assert all(p.isfinite().all() for p in state.model.parameters())
        gradients = [p.grad for p in state.model.parameters()]
        assert all(not torch.equal(w, b) for w, b, g in zip(state.optimizer.deployed(), before, gradients) if g.any())


def test_every_table_of_the_papers_is_there_whole():
    kanai = [paper_result for paper_result in CELLS if "Kanai" in paper_result.paper]
    assert Counter(paper_result.row for paper_result in kanai if "1" in paper_result.table) == dict.fromkeys(
        {c.row for c in kanai}, 4
    )
    assert Counter(paper_result.row for paper_result in kanai if "3" in paper_result.table) == dict.fromkeys(
        {c.row for c in kanai}, 6
    )
    assert len({paper_result.row for paper_result in kanai}) == 4
    assert len([paper_result for paper_result in kanai if paper_result.table == "2"]) == 5
    assert len([paper_result for paper_result in CELLS if "best and last" in paper_result.table]) == 12
    assert all(paper_result.provenance.startswith(("read", "inferred")) for paper_result in CELLS)


def test_a_cells_column_is_its_recipe():
    """The method's parts are those that the column names."""
    for paper_result in CELLS:
        method, column = paper_result.recipe.split("/")[1], paper_result.column
        base, *parts = resolver.split_method(method)
        expected = next((base for base in ("TRADES", "MART") if column.startswith(base)), "AT").lower()
        expected = "trades" if column.startswith("RST") else expected
        assert base == expected, paper_result
        assert ("+awp" in parts) == ("AWP" in column), paper_result
        assert ("+ensgd2" in parts) == ("2ndEnSGD" in column), paper_result
        assert ("+ensgd" in parts) == ("EnSGD" in column.replace("2ndEnSGD", "")), paper_result
        assert ("-l2" in parts) == ("L2" in paper_result.row), paper_result
        assert ("-wrn34" in parts) == ("WRN" in paper_result.row), paper_result
        assert ("-tuned" in parts) == ("tuned" in column), paper_result


@pytest.mark.slow
def test_second_order_entropy_sgd_is_set_as_the_first_order_one_everywhere():
    for dataset in resolver.list_datasets():
        for method in resolver.list_methods(dataset):
            if "+ensgd2" in resolver.split_method(method):
                second, first = (resolve_config(dataset, m)[2] for m in (method, method.replace("+ensgd2", "+ensgd")))
                as_first = yaml.parse_yaml(yaml.dump_sections(second).replace("entropy_sgd2", "entropy_sgd"), method)
                assert as_first == first, f"{dataset}/{method}"


def test_each_data_set_is_augmented_as_in_the_authors_code():
    black, turned = {"name": "crop", "border": "zero"}, {"name": "rotate", "degrees": 15}
    expected = {
        "cifar10": {"at": ("crop", "flip"), "trades": (black, "flip")},
        "cifar100": {"at": (black, "flip", turned), "trades": (black, "flip")},
        "svhn": {"at": (), "trades": ()},
    }
    for dataset, bases in expected.items():
        for base, augment in bases.items():
            assert resolved_sections(dataset, base).data.augment == augment


def stages(recipe, kind):
    return [(stage.from_epoch, stage.name, *stage.options.values()) for stage in recipe.stages[kind]]


def resolved_sections(dataset, method):
    return validate.check_recipe(*resolve_config(dataset, method))


def test_kanais_values_are_those_read_in_the_paper():
    """Learning rates, steps, gammas of AWP and warm-ups of their appendices E and F.2."""
    for dataset, lr, step_size in (("cifar10", 0.1, 2), ("cifar100", 0.1, 2), ("svhn", 0.01, 1)):
        recipe = resolved_sections(dataset, "at")
        assert recipe.stage("optimizer").options == {"lr": lr, "momentum": 0.9, "weight_decay": 5e-4}
        assert recipe.stage("schedule").options == {"drops": [100, 150], "factor": 0.1}
        assert recipe.threat == ("Linf", 8 / 255, step_size / 255)
        assert recipe.data.standardise
    assert stages(resolved_sections("cifar10", "at+awp"), "perturbation") == [(0, "awp", 0.01)]
    assert stages(resolved_sections("cifar10", "at+awp+ensgd"), "perturbation") == [(0, "awp", 0.005)]  # inferred
    assert stages(resolved_sections("cifar100", "at+awp"), "perturbation") == [(0, "awp", 0.01)]
    assert stages(resolved_sections("cifar100", "at+awp+ensgd"), "perturbation") == [(0, "awp", 0.007)]
    assert stages(resolved_sections("svhn", "at+awp"), "perturbation") == [(0, "none"), (5, "awp", 0.01)]
    assert stages(resolved_sections("svhn", "at+awp+ensgd"), "perturbation") == [(0, "none"), (5, "awp", 0.005)]
    assert [stage[:2] for stage in stages(resolved_sections("svhn", "at+ensgd"), "optimizer")] == [
        (0, "sgd"),
        (5, "entropy_sgd"),
    ]
    trades = resolved_sections("cifar10", "trades")
    assert trades.threat.step_size == 0.003
    assert not trades.data.standardise
    assert stages(resolved_sections("cifar10", "trades+awp"), "perturbation") == [(0, "none"), (10, "awp", 0.005)]
    plain = resolved_sections("cifar10", "trades+ensgd").stage("optimizer").options
    assert (plain["inner_steps"], plain["beta"]) == (20, 0.75)
    both = resolved_sections("cifar10", "trades+awp+ensgd")
    assert [stage.name for stage in both.stages["optimizer"]] == ["sgd", "entropy_sgd"]
    assert (both.stage("optimizer", 10).options["inner_steps"], both.stage("optimizer", 10).options["beta"]) == (
        30,
        0.3,
    )
    tuned = resolved_sections("cifar10", "trades+awp+ensgd-wrn34-tuned")
    assert [(stage.from_epoch, stage.name) for stage in tuned.stages["optimizer"]] == [
        (0, "sgd"),
        (10, "entropy_sgd"),
        (150, "sgd"),
    ]
    assert tuned.stage("optimizer", 10).options["beta"] == 0.75
    assert tuned.stage("perturbation", 10).name == "awp"


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "svhn", "digits"])
@pytest.mark.parametrize("method", ["at+ensgd", "at+awp+ensgd"])
def test_tuned_is_entropy_sgd_until_the_last_drop_then_the_bases_sgd(dataset, method):
    plain, tuned = resolved_sections(dataset, method), resolved_sections(dataset, f"{method}-tuned")
    *first, last = tuned.stages["optimizer"]
    assert tuple(first) == plain.stages["optimizer"]
    assert last.from_epoch == tuned.stage("schedule").options["drops"][-1]
    assert (last.name, last.options) == ("sgd", resolved_sections(dataset, "at").stage("optimizer").options)
    others = {key: value for key, value in tuned.sections.items() if key != "optimizer"}
    assert others == {key: value for key, value in plain.sections.items() if key != "optimizer"}


def test_the_mart_authors_values_are_those_read_in_their_scripts():
    for method, net, beta, lr, decay, drops, epochs in (
        ("mart-authors", "resnet18", 5.0, 0.01, 3.5e-3, [75, 90, 100], 120),
        ("mart-authors-wrn34", "wideresnet", 6.0, 0.1, 7e-4, [75], 90),
    ):
        recipe = resolved_sections("cifar10", method)
        assert recipe.method == method
        assert recipe.stage("model").name == net
        assert recipe.trained_threat == ("Linf", 0.031, 0.007)
        objective = recipe.stage("objective").options
        assert {key: objective[key] for key in ("steps", "beta", "bn_mode", "start")} == {
            "steps": 10,
            "beta": beta,
            "bn_mode": "eval",
            "start": "normal",
        }
        assert recipe.stage("optimizer").options == {"lr": lr, "momentum": 0.9, "weight_decay": decay}
        assert recipe.stage("schedule").options == {"drops": drops, "factor": 0.1}
        assert (recipe.train.epochs, recipe.data.batch_size) == (epochs, 128)
        assert recipe.data.augment == ({"name": "crop", "border": "zero"}, "flip")
        assert not recipe.data.standardise
        assert recipe.threat.eps == 8 / 255


def test_in_the_l2_ball_svhn_is_perturbed_from_the_first_epoch_and_cifar10_attacked_where_robustbench_ranks():
    assert stages(resolved_sections("svhn", "at+awp-l2"), "perturbation") == [(0, "awp", 0.01)]
    recipe = resolved_sections("cifar10", "at-l2")
    assert recipe.trained_threat == ("L2", 128 / 255, 15 / 255)
    assert recipe.threat == ("L2", 0.5, 15 / 255)
