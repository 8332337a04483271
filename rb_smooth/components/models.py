"""Networks: RobustBench's architectures and published models, timm's, and a small one; and `Normalized` around them.

A recipe names one of the public functions here. Inputs are pixels in [0, 1], so eps means the same for every model.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rb_smooth.components import ranges
from rb_smooth.core import robustbench as bridge
from rb_smooth.core.errors import UserError, first_line


class Normalized(nn.Module):
    """net((x - mean) / std), for images (B, C, H, W) in [0, 1].

    mean, std:    one number per channel; buffers, saved in checkpoints.
    plain_inputs: whether to pass images to the net in contiguous memory layout (`memory_format`). One-channel images
                  can have channels_last strides, which `contiguous` keeps and the whole network would adopt.

    The attribute is `net` because RobustBench's loader renames keys that contain `model.`.
    """

    mean: Tensor
    std: Tensor
    plain_inputs = False

    def __init__(self, net: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        return self.net(x.reshape(-1).view(x.shape) if self.plain_inputs else x)

    def check_fits(self, name: str, shape: tuple[int, int, int], classes: int) -> None:
        """Raises UserError unless two blank images of `shape` (C, H, W) give logits (2, classes), in eval mode.

        For images of an unsupported size some nets raise, others return rows for more images.
        """
        training = self.training
        try:
            with torch.no_grad():
                got = tuple(self.eval()(torch.zeros(2, *shape)).shape)
            problem = "" if got == (2, classes) else f"logits of shape {got} for 2 images"
        except (RuntimeError, AssertionError) as error:  # timm asserts the image size
            problem = first_line(error)
        finally:
            self.train(training)
        if problem:
            size = "x".join(map(str, shape))
            raise UserError(
                f"expected images that model {name!r} can take, got {size} images of {classes} classes ({problem}); "
                "set model.name=small_preactresnet, or resize with data.image_size=32"
            )


def preactresnet18(channels: int, classes: int) -> nn.Module:
    """PreAct ResNet-18 for 32 x 32 images, BatchNorm before the last layer: 11.2 M parameters. Source: RobustBench's;
    the AWP authors' default; inferred for Kanai et al., who name ResNet-18.
    """
    resnet = bridge.architectures("resnet")
    return resnet.PreActResNet(resnet.PreActBlockV2, [2, 2, 2, 2], num_classes=classes, bn_before_fc=True)


def resnet18(channels: int, classes: int) -> nn.Module:
    """ResNet-18 for 32 x 32 images, BatchNorm after each convolution: 11.2 M parameters. Source: RobustBench's."""
    resnet = bridge.architectures("resnet")
    return resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2], num_classes=classes)


def wideresnet(channels: int, classes: int, *, depth: int = 34, width: int = 10) -> nn.Module:
    """Wide ResNet for 32 x 32 images: WRN-34-10 has 46.2 M parameters, WRN-28-10 36.5 M. Source: RobustBench's.

    depth (10, 16, 22, 28, 34, … 1000): layers, 6 n + 4. Source: both papers.
    width (>= 1): factor on 16, 32, 64 channels. Source: both papers.
    """
    if not 10 <= depth <= 1000 or depth % 6 != 4 or width < 1:
        raise ValueError(f"expected depth 10, 16, 22, 28, 34, … 1000 and width >= 1, got {depth} and {width}")
    return bridge.architectures("wide_resnet").WideResNet(depth=depth, num_classes=classes, widen_factor=width)


def small_preactresnet(channels: int, classes: int, *, width: int = 16) -> nn.Module:
    """Three pre-activation blocks of width, 2 width, 4 width channels, for images of at least 4 x 4. Source: ours.

    width (channels, >= 1): width of the first block; 16: about 78 thousand parameters, 26: about 0.2 M. Source: ours.
    """
    ranges.at_least(1, width=width)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        _PreActBlock(width, width, stride=1),
        _PreActBlock(width, 2 * width, stride=2),
        _PreActBlock(2 * width, 4 * width, stride=2),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def robustbench(
    channels: int,
    classes: int,
    *,
    id: str,
    threat: Literal["Linf", "L2", "corruptions"] = "Linf",
    zoo_dir: str = "models",
) -> nn.Module:
    """A published model of RobustBench's zoo, with its own normalisation; training starts from its weights. Source:
    RobustBench.

    id (RobustBench model name): a CIFAR-10 model, or with 100 classes a CIFAR-100 model. Source: RobustBench.
    threat: threat model of the zoo's table. Source: RobustBench.
    zoo_dir (a folder): folder of the weights, `<zoo_dir>/<dataset>/<threat>/<id>.pt`, which only training reads.
        Source: RobustBench's default.
    """
    return bridge.zoo_network(bridge.zoo_dataset(classes), threat, id)


def timm(channels: int, classes: int, *, id: str) -> nn.Module:
    """A timm network, randomly initialised; some accept one image size only. Source: timm.

    id (timm model name): one of timm.list_models(). Source: timm.
    """
    import timm as library  # installed with RobustBench

    if not library.is_model(id):
        raise ValueError(f"expected id from timm.list_models(), got {id!r}")
    network: nn.Module = library.create_model(id, num_classes=classes, in_chans=channels)
    return network


class _PreActBlock(nn.Module):
    """Pre-activation residual block: He et al., "Identity Mappings in Deep …", arXiv 1603.05027."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut
