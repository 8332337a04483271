"""RobustBench's own tests, which its wheel installs as the package `tests`, run beside us and without network.

    python tests/robustbenchs_tests.py

In the place of what they download stand images made here and, for each published model, a checkpoint of its
architecture that answers class 0. Of the models that they go through, the published ones are three that a CPU takes in
seconds, and ours are all: four entries of a board made for this. Not run: ImageNet, whose images are not to be had.
The last line is JSON: which passed, failed or were skipped, with the reason.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import tempfile
import types
import unittest
from pathlib import Path

import torch
from fake_entries import make_entry
from torch import Tensor, nn

import rb_smooth
from rb_smooth.config.registry import build_model
from rb_smooth.core import files, formatting, robustbench
from rb_smooth.data.images import Images
from rb_smooth.evaluation.accuracy import measure_accuracy

MODULES = ("tests.test_clean_acc", "tests.test_eval", "tests.test_utils")
SHAPE, IMAGES = (3, 32, 32), 100
CLASSES = {"cifar10": 10, "cifar100": 100}
PUBLISHED = {
    ("cifar10", "Linf"): "Wong2020Fast",
    ("cifar10", "L2"): "Rice2020Overfitting",
    ("cifar100", "Linf"): "Rice2020Overfitting",
}


def biased_to_class_0(net: nn.Module, x: Tensor, share: float) -> nn.Module:
    """`net`, which from now on answers class 0 on this share of the images."""
    with torch.no_grad():
        logits = net.eval()(x)
        *_, bias = net.parameters()
        bias[0] += (logits[:, 1:].amax(1) - logits[:, 0]).quantile(share)
    return net


def make_board(dataset: str) -> Images:
    """In the current folder our entries of this data set, and RobustBench's JSON of its published models. Returns the
    test images, on which their accuracies differ.
    """
    x = torch.randint(256, (IMAGES, *SHAPE), dtype=torch.uint8)
    model = {"name": "small_preactresnet", "options": {"width": 2}, "shape": [*SHAPE], "classes": CLASSES[dataset]}
    nets = {
        threat: biased_to_class_0(build_model(model["name"], model["options"], SHAPE, model["classes"]), x / 255, share)
        for threat, share in (("Linf", 0.9), ("L2", 0.97))
    }
    with torch.no_grad():
        y = nets["Linf"](x / 255).argmax(1)
    y[::20] = (y[::20] + 1) % model["classes"]
    test = Images(x, y)
    for threat, net in nets.items():
        ball, clean = {"norm": threat, "eps": 8 / 255, "step_size": 2 / 255}, measure_accuracy(net, test)
        entry = make_entry(Path(), f"ours_{dataset}_{threat}", dataset=dataset, model=model, threat=ball, clean=clean)
        files.save_tensors(entry.weights, net.state_dict())
    for (of, threat), name in PUBLISHED.items():
        if of == dataset:
            told = {"clean_acc": formatting.percent((y == 0).float().mean().item())}
            files.write_json(Path("model_info", dataset, threat, f"{name}.json"), told)
    return test


def stand_in_checkpoint(gdrive_id: str, path: Path) -> None:
    """What a download would put at `path`, <models>/<dataset>/<threat>/<name>.pt."""
    dataset, threat, name = path.parts[-3], path.parts[-2], path.stem
    net = robustbench.zoo_network(dataset, threat, name)
    *_, bias = net.parameters()
    with torch.no_grad():
        bias[0] += 1e6
    torch.save({"state_dict": net.state_dict()}, path)


def no_network(*_: object) -> None:
    raise OSError("no network here")


def load_tests(tests: dict[str, Images]) -> unittest.TestSuite:
    """RobustBench's tests, with these images in the place of its data sets."""
    from robustbench import data, utils
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    def loader(images: Images):  # type: ignore[no-untyped-def]
        return lambda n, *_: (images.x[:n] / 255, images.y[:n])

    for name, images in tests.items():
        data._clean_dataset_loaders[BenchmarkDataset(name)] = loader(images)
    utils.download_gdrive_new = stand_in_checkpoint
    if importlib.util.find_spec("distutils") is None:  # which they import, and Python 3.12 has no more
        sys.modules["distutils"], sys.modules["distutils.util"] = (types.ModuleType(name) for name in ("a", "b"))
        sys.modules["distutils.util"].strtobool = bool  # type: ignore[attr-defined]
    suite = unittest.defaultTestLoader.loadTestsFromNames(MODULES)
    sys.modules["tests.test_clean_acc"].model_dicts = {  # type: ignore[attr-defined]
        BenchmarkDataset(dataset): {
            ThreatModel(threat): {
                name: model
                for name, model in robustbench.zoo_table(dataset, threat).items()
                if name in (f"ours_{dataset}_{threat}", PUBLISHED.get((dataset, threat)))
            }
            for threat in ("Linf", "L2")
        }
        for dataset in CLASSES
    }
    return suite


class RecordingResult(unittest.TestResult):
    """Which tests passed, too."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.passed.append(test.id())


def main() -> int:
    socket.socket.connect = no_network  # type: ignore[method-assign,assignment]
    os.environ["RUN_SLOW"] = "1"  # read as they are imported
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tests = {dataset: make_board(dataset) for dataset in CLASSES}
        rb_smooth.register(".")
        result = RecordingResult()
        load_tests(tests).run(result)
        os.chdir("/")
    failed = {test.id(): told.splitlines()[-1] for test, told in (*result.errors, *result.failures)}
    skipped = {test.id(): reason for test, reason in result.skipped}
    print(json.dumps({"passed": result.passed, "failed": failed, "skipped": skipped}))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
