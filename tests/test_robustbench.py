"""All of RobustBench's API knows our entries, on its boards and on ours, beside its own published models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar10, write_cifar100, write_svhn
from fake_entries import add_weights, make_entry
from PIL import Image
from tiers import mark_slow_except

import rb_smooth
from rb_smooth.config.registry import build_model
from rb_smooth.config.schema import load_raw_dataset
from rb_smooth.core import files
from rb_smooth.core import robustbench as bridge
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard import entries

POINTS = 8
BOARDS = [
    *(("cifar10", "Linf"), ("cifar10", "L2"), ("cifar100", "Linf"), ("cifar100", "L2")),
    *(("svhn", "Linf"), ("svhn", "L2"), ("digits", "Linf"), ("digits", "L2"), ("folder-pets", "Linf")),
]
PUBLISHED = {
    "link": "https://arxiv.org/abs/2001.03994",
    "name": "Fast is better than free: Revisiting adversarial training",
    "authors": "Eric Wong, Leslie Rice, J. Zico Kolter",
    "additional_data": False,
    "number_forward_passes": 1,
    "dataset": "cifar10",
    "venue": "ICLR 2020",
    "architecture": "PreActResNet-18",
    "eps": "8/255",
    "clean_acc": "83.34",
    "reported": "46.06",
    "autoattack_acc": "43.21",
}
"""Wong2020Fast, as RobustBench's own folder model_info tells of it."""


@pytest.fixture(autouse=True)
def tables():
    """RobustBench's tables, as they are before; and so they are afterwards."""
    tables = bridge.import_robustbench().utils.all_models
    before = {key: {threat: dict(models) for threat, models in table.items()} for key, table in tables.items()}
    yield before
    for key, table in tables.items():
        table.clear()
        table.update(before.get(key, {}))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refused(*_):
        raise AssertionError("touched the network")

    monkeypatch.setattr("socket.socket.connect", refused)


@pytest.fixture
def short_benchmark(monkeypatch):
    """RobustBench's `benchmark` attacks as AutoAttack does, but gives up soon."""
    bridge.import_robustbench()
    import robustbench.eval as theirs

    class Soon(theirs.AutoAttack):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.apgd_targeted.n_target_classes = self.fab.n_target_classes = 2
            for attack in (self.apgd, self.apgd_targeted, self.fab, self.square):
                attack.n_iter, attack.n_queries = 3, 10

    monkeypatch.setattr(theirs, "AutoAttack", Soon)


@pytest.fixture
def work_folder(tmp_path, monkeypatch):
    """An empty folder to work in, with data of all kinds in data/."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(Path("data"), monkeypatch)
    write_cifar100(Path("data"), monkeypatch)
    write_svhn(Path("data"), monkeypatch)
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog", "fox", "owl", "pig")):
            place = Path("data/pets", part, name)
            place.mkdir(parents=True)
            for shade in (0, 60):
                Image.new("RGB", (8, 8), (shade + 30 * label, 200 - shade, 40 * label)).save(place / f"{shade}.png")
    return tmp_path


def submit_entry(dataset, threat, name):
    """An entry of a small network with drawn weights, as the boards keep it."""
    section = {"name": "folder", "root": "data/pets", "label": "pets"} if "folder" in dataset else {"name": dataset}
    shape, classes = {"digits": ([1, 8, 8], 10), "folder-pets": ([3, 8, 8], 5)}.get(dataset, ([3, 32, 32], 10))
    classes = 100 if dataset == "cifar100" else classes
    net = build_model("small_preactresnet", {"width": 2}, tuple(shape), classes, [0.5] * shape[0], [0.25] * shape[0])
    entry = make_entry(
        Path("leaderboard"),
        name,
        dataset=dataset,
        recipe={"data": section},
        model={"name": "small_preactresnet", "options": {"width": 2}, "shape": shape, "classes": classes},
        threat={"norm": threat, "eps": 8 / 255, "step_size": 2 / 255},
    )
    return add_weights(entry, net.state_dict())


@pytest.mark.parametrize(("dataset", "threat"), mark_slow_except(BOARDS[:1], BOARDS, parameters=2))
def test_an_entry_of_any_board_is_loaded_measured_and_attacked_by_robustbench(
    dataset, threat, work_folder, short_benchmark, capsys
):
    entry = submit_entry(dataset, threat, "mine")
    assert rb_smooth.register(new_datasets=True) == ["mine"]
    import robustbench
    from robustbench.data import PREPROCESSINGS, load_clean_dataset
    from robustbench.model_zoo.enums import BenchmarkDataset

    board = {"dataset": dataset, "threat_model": threat}
    model = robustbench.load_model("mine", model_dir="leaderboard/models", **board)
    assert not model.training
    x, y = load_clean_dataset(BenchmarkDataset(dataset), POINTS, "data", PREPROCESSINGS[None])
    ours = rb_smooth.load_model("mine", **board)
    points = load_raw_dataset(entry.own["recipe"]["data"], Path("data")).test[:POINTS].load()
    assert torch.equal((x * 255).round(), points.x.float())
    assert torch.equal(y, points.y)
    with torch.no_grad():
        assert torch.equal(model(x), ours(x))
    clean = robustbench.utils.clean_accuracy(model, x, y)
    measured, robust = robustbench.benchmark(model, n_examples=POINTS, eps=8 / 255, batch_size=4, **board)
    assert measured == clean == ((ours(x).argmax(1) == y).sum() / POINTS).item()
    assert 0 <= robust <= clean
    assert f"Adversarial accuracy: {robust:.2%}" in capsys.readouterr().out


def test_what_robustbench_had_is_there_still_and_only_our_names_are_new(work_folder, tables):
    for dataset, threat in BOARDS:
        submit_entry(dataset, threat, f"mine_{dataset}_{threat}")
    assert rb_smooth.register() == [f"mine_{dataset}_{threat}" for dataset, threat in sorted(BOARDS[:4])]
    names = rb_smooth.register(new_datasets=True)
    assert len(names) == len(BOARDS) == len(set(names))
    assert rb_smooth.register(new_datasets=True) == names
    import robustbench
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    now = robustbench.utils.all_models
    for dataset, threats in tables.items():
        for threat, models in threats.items():
            assert models.items() <= now[dataset][threat].items()
            new = now[dataset][threat].keys() - models.keys()
            assert new == {f"mine_{d}_{t}" for d, t in BOARDS if (d, t) == (dataset.value, threat.value)}
    assert set(now[BenchmarkDataset("cifar100")][ThreatModel.L2]) == {"mine_cifar100_L2"}  # a board that it lacks
    assert [member.value for member in BenchmarkDataset] == ["cifar10", "cifar100", "imagenet"]


def test_a_name_that_robustbench_has_given_is_refused_and_its_model_kept(work_folder, tables):
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    entry = submit_entry("cifar10", "Linf", "Wong2020Fast")
    with pytest.raises(UserError, match=f"got Wong2020Fast in {entry.path}; delete that file"):
        rb_smooth.register()
    theirs = tables[BenchmarkDataset.cifar_10][ThreatModel.Linf]["Wong2020Fast"]
    assert bridge.zoo_table("cifar10", "Linf")["Wong2020Fast"] is theirs
    threat = rb_smooth.Threat("Linf", 8 / 255, 2 / 255)
    theirs = rb_smooth.Outsider(entry.weights, "resnet18", {}, {"name": "cifar10"}, threat, name="Wong2020Fast")
    with pytest.raises(UserError, match="got Wong2020Fast; choose another --name"):
        rb_smooth.submit(theirs)


@pytest.mark.parametrize("prefix", mark_slow_except([""], ["", "module."]))
def test_a_published_model_is_loaded_and_benchmarked_from_its_file_beside_ours(prefix, work_folder, short_benchmark):
    submit_entry("cifar10", "Linf", "mine")
    rb_smooth.register()
    import robustbench

    net = bridge.zoo_network("cifar10", "Linf", "Wong2020Fast")
    state = {prefix + key: value for key, value in net.state_dict().items()}
    files.save_tensors(Path("models/cifar10/Linf/Wong2020Fast.pt"), {"state_dict": state} if prefix else state)
    model = robustbench.load_model("Wong2020Fast", dataset="cifar10", threat_model="Linf")
    x, y = robustbench.data.load_cifar10(10, "data")
    with torch.no_grad():
        found = net.eval()(x).argmax(1)
        assert torch.equal(model(x).argmax(1), found)
    clean = (found == y).sum().item() / 10
    assert robustbench.utils.clean_accuracy(model, x, y) == clean
    assert robustbench.benchmark(model, n_examples=10, eps=8 / 255)[0] == clean


@pytest.fixture
def board_with_published(work_folder, monkeypatch):
    """Inside a board that holds our entry, and RobustBench's own JSON of one of its models: their figures in turn."""
    entry = submit_entry("cifar10", "Linf", "mine")
    entry.info["name"] = "<b>ours</b>"
    files.write_json(entry.path, entry.info)
    files.write_json(entry.path.with_name("Wong2020Fast.json"), PUBLISHED)
    monkeypatch.chdir("leaderboard")
    assert rb_smooth.register(".") == ["mine"]
    return ["50.00", "43.21"]


def test_available_models_are_listed_with_ours_among_them(board_with_published, capsys):
    from robustbench.utils import list_available_models

    list_available_models(dataset="cifar10", threat_model="Linf")
    rows = re.findall(r"\*\*(\d)\*\*.*?<sup>\*\*(\w+)\*\*.*<sub>([\d.]+)%</sub> \|", capsys.readouterr().out)
    assert rows == [("1", "mine", board_with_published[0]), ("2", "Wong2020Fast", board_with_published[1])]


def test_the_latex_and_bibtex_of_a_board_have_our_entries(board_with_published):
    from robustbench.utils import get_leaderboard_bibtex, get_leaderboard_latex

    first, second = get_leaderboard_latex("cifar10", "Linf").splitlines()
    assert first == r"1 &\citet{mine} & 80.00 & 50.00 & N & RN-18 & local & mine\\"
    assert second == r"2 &\citet{Wong2020Fast} & 83.34 & 43.21 & N & PreActRN-18 & ICLR 2020 & Wong2020Fast\\"
    found, text = get_leaderboard_bibtex("cifar10", "Linf")
    assert len(found) == 2
    assert "@article{mine,\n\ttitle\t= {<b>ours</b>}" in text


def test_the_html_of_a_board_is_made_though_the_wheel_lacks_its_template(board_with_published):
    from robustbench.leaderboard.template import generate_leaderboard

    page = generate_leaderboard("cifar10", "Linf")
    assert page.index(board_with_published[0]) < page.index("PreActResNet-18") < page.index("ICLR 2020")
    assert page.index("ours") < page.index(f'<a href="{PUBLISHED["link"]}">') < page.index(board_with_published[1])
    if not (Path(robustbench_folder()) / "leaderboard" / "leaderboard.html.j2").exists():  # then it is ours
        assert "&lt;b&gt;ours" in page
        assert page.count("<tr>") == 3


def robustbench_folder():
    return Path(bridge.import_robustbench().__file__).parent


def test_figures_that_benchmark_writes_into_the_board_leave_our_entry_readable(
    work_folder, short_benchmark, monkeypatch, capsys
):
    entry = submit_entry("cifar10", "Linf", "mine")
    monkeypatch.chdir("leaderboard")
    rb_smooth.register(".")
    import robustbench

    model = robustbench.load_model("mine", model_dir="models")
    clean, robust = robustbench.benchmark(
        model, n_examples=10, eps=8 / 255, data_dir="../data", to_disk=True, model_name="mine"
    )
    written = json.loads(Path("model_info/cifar10/Linf/mine.json").read_text())
    assert (written["clean_acc"], written["autoattack_acc"]) == tuple(
        str(round(100 * each, 2)) for each in (clean, robust)
    )
    (found,), complaints = entries.list_entries(Path())
    assert not complaints
    assert found.own == entry.own
