"""Networks by name: RobustBench's architectures, their sizes, and unsupported image shapes."""

from __future__ import annotations

import pytest
import torch

from rb_smooth.components import models
from rb_smooth.config.registry import build_model
from rb_smooth.core import robustbench
from rb_smooth.core.errors import UserError


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_wrn_34_10_is_robustbenchs_with_46_million_parameters():
    with torch.device("meta"):
        ours, theirs = models.wideresnet(3, 10), robustbench.architectures("wide_resnet").WideResNet(34, 10, 10)
    assert [(key, p.shape) for key, p in ours.named_parameters()] == [
        (k, p.shape) for k, p in theirs.named_parameters()
    ]
    assert parameters(ours) == 46_160_474


def test_wrn_28_10_has_36_million_parameters_and_more_for_more_classes():
    with torch.device("meta"):
        ten, hundred = models.wideresnet(3, 10, depth=28), models.wideresnet(3, 100, depth=28, width=10)
    assert parameters(ten) == 36_479_194
    assert parameters(hundred) - parameters(ten) == 90 * (640 + 1)


def test_resnet18_is_robustbenchs():
    with torch.device("meta"):
        net = models.resnet18(3, 10)
    assert parameters(net) == 11_173_962
    assert type(net).__name__ == "ResNet"


@pytest.mark.parametrize("wrong", [{"depth": 27}, {"depth": 4}, {"depth": 10, "width": 0}])
def test_an_invalid_wide_resnet_raises_an_error(wrong):
    with pytest.raises(UserError, match=r"model wideresnet: expected depth .* and width"):
        build_model("wideresnet", wrong, (3, 32, 32), 10)


@pytest.mark.parametrize(("name", "options"), [("wideresnet", {"depth": 10, "width": 1}), ("resnet18", {})])
def test_nets_for_32_x_32_give_one_logit_per_class_and_reject_small_gray_images(name, options):
    net = build_model(name, options, (3, 32, 32), 7).eval()
    x = torch.rand(2, 3, 32, 32)
    assert net(x).shape == (2, 7)
    assert not torch.equal(net(x)[0], net(x)[1])
    with pytest.raises(UserError, match=rf"model '{name}' can take, got 1x8x8"):
        build_model(name, options, (1, 8, 8), 7)
