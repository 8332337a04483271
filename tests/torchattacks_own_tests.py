"""A pytest plug-in under which torchattacks' own tests, which its sources have in code_coverage/, run beside us and
without network.

In the place of CIFAR-10 and of RobustBench's model `Standard` stand images made here, small ones as JSMA's time grows
with the square of the pixels, and a small network that is right on them.
"""

from __future__ import annotations

import socket

import torch

import rb_smooth
from rb_smooth.config.registry import build_model
from rb_smooth.core import robustbench as bridge


def no_network(*_: object) -> None:
    raise OSError("no network here")


socket.socket.connect = no_network  # type: ignore[method-assign,assignment]
torch.set_num_threads(1)
rb_smooth.register()
torch.manual_seed(0)
images = torch.rand(100, 3, 8, 8)
net = build_model("small_preactresnet", {"width": 4}, (3, 8, 8), 10, [0.5] * 3, [0.1] * 3).eval()
with torch.no_grad():
    labels = net(images).argmax(1)

robustbench = bridge.import_robustbench()
robustbench.utils.load_model = lambda *_, **__: net
robustbench.data.load_cifar10 = lambda n_examples, data_dir: (images[:n_examples], labels[:n_examples])
