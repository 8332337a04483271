"""The memory layout is channels_last unless a convolution would be wrong in it, and then the gradients are right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiers import mark_slow_except
from torch import nn

from rb_smooth.components import memory_format
from rb_smooth.components.memory_format import (
    Convolution,
    choose_memory_format,
    find_convolutions,
    instruction_set,
    is_wrong_in_channels_last,
)
from rb_smooth.components.models import Normalized
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.core.errors import UserError
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import model_setup, validate
from rb_smooth.training.trainer import Trainer

CPU = torch.device("cpu")
PLAIN, LAST = torch.contiguous_format, torch.channels_last


@pytest.fixture
def on(monkeypatch):
    """Pretend that oneDNN uses other instructions."""
    return lambda name: monkeypatch.setattr(memory_format, "instruction_set", lambda: name)


def strided_convolution(channels, kernel=1, stride=2, groups=1):
    return nn.Sequential(nn.Conv2d(channels, 8, kernel, stride=stride, groups=groups, bias=False))


@pytest.mark.parametrize(("kernel", "stride", "wrong"), [(1, 2, True), (1, 1, False), (3, 2, False), (3, 1, False)])
def test_on_avx2_strided_1x1_convolutions_of_few_channels_get_contiguous_layout(on, kernel, stride, wrong):
    on("AVX2")
    for channels in range(1, 17):
        expected = PLAIN if wrong and channels <= memory_format._MAX_AFFECTED_CHANNELS else LAST
        assert choose_memory_format(strided_convolution(channels, kernel, stride), (channels, 8, 8), CPU) is expected


def test_the_boundary_is_the_measured_one():
    """Every case measured wrong on AVX2 is classified wrong, and no ungrouped shape that was right at every size is."""
    measured = json.loads(Path(__file__).parents[1].joinpath("benchmarks/conv-layouts.json").read_text())
    assert measured["instruction_set"] == "AVX2"
    wrong = [each["case"] for each in measured["wrong"]]
    assert {(case["layout"], case["precision"], case["groups"]) for case in wrong} == {("channels_last", "fp32", 1)}
    shapes = {(case["channels"], case["kernel"], case["stride"]) for case in wrong}
    for channels in (*range(1, 17), 20, 26, 32):
        for kernel in (1, 3):
            for stride in (1, 2):
                shape = Convolution(channels, (kernel, kernel), (stride, stride), True)
                assert is_wrong_in_channels_last(shape, "AVX2") == ((channels, kernel, stride) in shapes)


def test_channels_count_by_group(on):
    on("AVX2")
    assert choose_memory_format(strided_convolution(16, groups=8), (16, 8, 8), CPU) is PLAIN
    assert choose_memory_format(strided_convolution(16), (16, 8, 8), CPU) is LAST


@pytest.mark.parametrize("instructions", ["SSE4.1", "AVX", "AVX-512"])
def test_other_x86_instructions_get_channels_last(on, instructions):
    on(instructions)
    assert choose_memory_format(strided_convolution(4), (4, 8, 8), CPU) is LAST


def test_an_untested_kind_of_cpu_gets_contiguous_layout_unless_the_user_decides(on):
    on("unknown")
    assert choose_memory_format(strided_convolution(16), (16, 8, 8), CPU) is PLAIN
    assert choose_memory_format(strided_convolution(16), (16, 8, 8), CPU, True) is LAST


def test_a_gpu_gets_channels_last(on):
    on("AVX2")
    assert choose_memory_format(strided_convolution(4), (4, 8, 8), torch.device("cuda")) is LAST
    assert choose_memory_format(strided_convolution(4), (4, 8, 8), torch.device("cuda"), False) is PLAIN


def test_channels_last_true_raises_an_error_where_a_kernel_is_wrong(on):
    on("AVX2")
    with pytest.raises(UserError, match=r"1x1 convolution of 4 input channels with stride 2x2; use auto"):
        choose_memory_format(strided_convolution(4), (4, 8, 8), CPU, True)
    assert choose_memory_format(strided_convolution(4), (4, 8, 8), CPU, False) is PLAIN
    assert choose_memory_format(strided_convolution(16), (16, 8, 8), CPU, True) is LAST


class Functional(nn.Module):
    """A convolution that is no module, optionally on an input that the network itself lays out."""

    def __init__(self, layout):
        super().__init__()
        self.weight, self.layout = nn.Parameter(torch.rand(8, 4, 1, 1)), layout

    def forward(self, x):
        return nn.functional.conv2d(x.to(memory_format=self.layout), self.weight, stride=2)


def test_functional_convolutions_count_too(on):
    on("AVX2")
    assert choose_memory_format(Functional(PLAIN), (4, 8, 8), CPU) is PLAIN
    assert find_convolutions(Functional(PLAIN), (4, 8, 8)) == [Convolution(4, (1, 1), (2, 2), False)]


def test_a_network_that_uses_channels_last_itself_raises_an_error_where_the_kernel_is_wrong(on):
    on("AVX2")
    for wish in ("auto", True, False):
        with pytest.raises(UserError, match="runs in channels_last"):
            choose_memory_format(Functional(LAST), (4, 8, 8), CPU, wish)
    on("AVX")
    assert choose_memory_format(Functional(LAST), (4, 8, 8), CPU) is LAST


@pytest.mark.parametrize("channels", [1, 3])
def test_inputs_of_either_layout_stay_contiguous_in_a_contiguous_network(channels):
    """Images of one channel, cut out of a batch of channels_last or made by indexing, may have its strides."""
    convs = nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), nn.Conv2d(2, 4, 1, stride=2))
    net = Normalized(convs, [0.0] * channels, [1.0] * channels)
    x = torch.rand(16, 8, 8, channels).permute(0, 3, 1, 2)
    seen = memory_format._Recorder()
    with torch.no_grad(), seen:
        net(x)
    assert [each.channels_last for each in seen.found] == [True, True]
    seen = memory_format._Recorder()
    with torch.no_grad(), seen:
        memory_format.lay_out(net, PLAIN)
        net(x)
    assert [each.channels_last for each in seen.found] == [False, False]


def test_finding_convolutions_does_not_change_the_network(net):
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    find_convolutions(net, (2, 6, 6))
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


LIMITS = ["SSE41", "AVX", "AVX2", "AVX512_CORE", "AVX512_CORE_AMX", "DEFAULT", "nonsense", None]
SAY = """
import json, torch
from rb_smooth.components.memory_format import choose_memory_format, instruction_set
net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 1, stride=2), torch.nn.Conv2d(8, 8, 3))
chosen = str(choose_memory_format(net, (4, 8, 8), torch.device("cpu")))
net(torch.rand(16, 4, 8, 8))  # with ONEDNN_VERBOSE, oneDNN says at its first use which instructions it uses
print(json.dumps([instruction_set(), chosen]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", mark_slow_except(["AVX2"], ["AVX2", "AVX512_CORE", None]))
def test_the_instruction_set_is_the_one_that_onednn_reports(limit):
    environment = {key: value for key, value in os.environ.items() if key != "ONEDNN_MAX_CPU_ISA"}
    environment |= {"ONEDNN_VERBOSE": "1"} | ({} if limit is None else {"ONEDNN_MAX_CPU_ISA": limit})
    done = subprocess.run([sys.executable, "-c", SAY], env=environment, capture_output=True, text=True, check=True)
    said = re.search(r"cpu,isa:(?:Intel )?(SSE4\.1|AVX-512|AVX10|AVX2|AVX)\b", done.stdout)
    assert said, done.stdout[:500]
    found, chosen = json.loads(done.stdout.splitlines()[-1])
    assert found == said[1].replace("AVX10", "AVX-512")
    assert chosen == str(PLAIN if found == "AVX2" else LAST)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_never_raises_the_instruction_set(monkeypatch, limit):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    cpu = instruction_set()
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    order = memory_format._X86
    assert order.index(instruction_set()) <= order.index(cpu)


@pytest.fixture(scope="module")
def data():
    return split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


def make_trainer(data, *settings):
    quick = ["data.validation=60", "objective.steps=1", "train.epochs=1", "schedule.drops=[]"]
    return Trainer(validate.check_recipe(*resolve_config("digits", "at", [*quick, *settings])), data, CPU)


@pytest.mark.parametrize(("width", "layout"), [(4, PLAIN), (16, LAST)])
def test_training_uses_the_layout_that_is_chosen(data, on, width, layout):
    on("AVX2")
    trained = make_trainer(data, f"model.width={width}")
    assert trained.layout is layout
    kernel = trained.model.net[1].conv2.weight
    assert kernel.is_contiguous(memory_format=layout)


def test_a_stored_true_means_auto_in_a_resumed_run(data, on):
    on("AVX2")
    recipe = validate.check_recipe(*resolve_config("digits", "at", ["model.width=4", "train.channels_last=true"]))
    assert Trainer(recipe, data, CPU, starts_training=False).layout is PLAIN
    with pytest.raises(UserError, match="use auto"):
        Trainer(recipe, data, CPU)


def test_recipes_do_not_list_the_key():
    assert "channels_last" not in resolve_config("digits", "at", [])[-1]["train"]


def test_the_compiler_may_not_choose_channels_last_where_the_layout_is_contiguous(net, monkeypatch):
    given = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: given.append(options) or model)
    model_setup.compile_and_wrap(net, CPU, True, PLAIN)
    model_setup.compile_and_wrap(net, CPU, True, LAST)
    assert given[0]["options"] == {"layout_optimization": False}
    assert "options" not in given[1]


@pytest.mark.parametrize("width", range(1, 13))
def test_gradients_of_the_whole_network_agree_with_float64_in_the_chosen_layout(width):
    """Within 1 %, on the instructions that this process uses; the fault of oneDNN is off by 7 % or more."""

    def gradients(model, dtype, layout):
        model = model.to(dtype).to(memory_format=layout).train()
        loss = nn.functional.cross_entropy(model(x.to(dtype).to(memory_format=layout)), y)
        return [each.double() for each in torch.autograd.grad(loss, list(model.parameters()))]

    def made():
        torch.manual_seed(0)
        return build_model("small_preactresnet", {"width": width}, (1, 8, 8), 10)

    torch.manual_seed(1)
    x, y = torch.rand(32, 1, 8, 8), torch.randint(10, (32,))
    exact = gradients(made(), torch.float64, PLAIN)
    found = gradients(made(), torch.float32, choose_memory_format(made(), (1, 8, 8), CPU))
    assert max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact)) < 0.01
