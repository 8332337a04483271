"""The network in the forms that training sees: compiled it learns the very same, and it may lie in another layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_snapshots import equal_snapshots, snapshot
from tiers import mark_slow_except
from torch._dynamo.utils import counters

from rb_smooth.components import flops
from rb_smooth.config import schema as declaration
from rb_smooth.config.overrides import resolve_config
from rb_smooth.data.datasets import digits
from rb_smooth.data.splits import split
from rb_smooth.training import cost, loop, model_setup, validate
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.trainer import Trainer

CPU = torch.device("cpu")
QUICK = ["data.validation=60", "objective.steps=2", "model.width=2", "train.epochs=1", "schedule.drops=[]"]
WIDE = ["model.width=8"]
"""So wide that every convolution is right in channels_last on every CPU (test_memory_format.py)."""

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def data():
    return split(digits(Path("unused")), validation=60, split_seed=0, select="validation", train_examples=200)


def after_three_steps(data, method, *settings, device=CPU):
    trainer = Trainer(validate.check_recipe(*resolve_config("digits", method, [*QUICK, *settings])), data, device)
    order = trainer.batch_order()
    for _ in range(3):
        trainer.run_batch(order)
    return trainer


@pytest.fixture
def traced(monkeypatch):
    """Compiled as far as autograd's two programs, without the minutes of a C++ compiler."""
    monkeypatch.setattr(model_setup, "_COMPILER", "aot_eager")
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize(
    ("method", "programs"), mark_slow_except([("at+awp+ensgd", 2)], [("at+awp+ensgd", 2), ("trades", 3)], parameters=2)
)
def test_compiled_training_is_the_same_and_compiles_once_for_crafting_and_once_for_training(
    data, traced, method, programs
):
    """TRADES crafts against the prediction for clean images, one program more."""
    eager, compiled = (after_three_steps(data, method, f"train.compile={wish}") for wish in ("false", "true"))
    assert compiled.compiled
    assert not eager.compiled
    for one, other in zip(eager.model.state_dict().values(), compiled.model.state_dict().values()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert eager.model.state_dict().keys() == compiled.model.state_dict().keys()
    assert counters["stats"]["unique_graphs"] == programs
    assert not counters["graph_break"]


def test_evaluation_stays_eager(data, traced):
    trainer = after_three_steps(data, "at", "train.compile=true")
    before = counters["stats"]["unique_graphs"]
    with trainer.evaluation_model() as model, torch.no_grad():
        assert type(model).__name__ == "Normalized"
        for size in (3, 5, 7):
            model(torch.rand(size, 1, 8, 8))
    assert counters["stats"]["unique_graphs"] == before


def test_where_compiling_fails_training_says_so_and_goes_on_without(data, traced, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError("no compiler here")

    monkeypatch.setattr(model_setup, "_COMPILER", broken)
    eager = after_three_steps(data, "at+ensgd", "train.compile=false")
    failed = after_three_steps(data, "at+ensgd", "train.compile=true")
    assert not failed.compiled
    assert capsys.readouterr().out.count("torch.compile failed") == 1
    for one, other in zip(eager.model.state_dict().values(), failed.model.state_dict().values()):
        assert torch.equal(one, other)


def test_another_error_of_a_compiled_network_is_not_hidden(data, traced, monkeypatch):
    trainer = after_three_steps(data, "at", "train.compile=true")
    monkeypatch.setattr(trainer.objective, "craft", lambda *_: torch.zeros(3, 4))
    with pytest.raises((RuntimeError, IndexError)):
        trainer.run_batch(trainer.batch_order())


def test_in_another_layout_the_weights_are_the_same_numbers_and_leave_in_the_usual_one(data, tmp_path):
    plain, last = (
        after_three_steps(data, "at+awp+ensgd", f"train.channels_last={wish}", *WIDE) for wish in ("false", "true")
    )
    kernels = [p for p in last.model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    for one, other in zip(plain.optimizer.deployed(), last.optimizer.deployed()):
        assert (one - other).norm() < 0.05 * one.norm() + 1e-3  # signs of gradients near zero may fall otherwise
    recipe = validate.check_recipe(*resolve_config("digits", "at+wa", [*QUICK, *WIDE, "train.channels_last=true"]))
    run = Run(tmp_path / "run")
    loop.train(recipe, run, data, CPU)
    assert all(value.is_contiguous() for name in ("best", "last") for value in run.load(name).values())


def test_cost_estimate_neither_compiles_nor_synchronises_batchnorm(data):
    wishes = ["train.compile=true", "train.sync_bn=true"]
    recipe = validate.check_recipe(*resolve_config("digits", "at", [*QUICK, *wishes]))
    scratch = cost._scratch_trainer(recipe, data, model_setup.build_network(recipe, data), CPU, 4)
    assert not scratch.compiled
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in scratch.model.modules())


def test_cost_estimate_uses_the_precision_of_the_whole_minibatch(data, monkeypatch):
    recipe = validate.check_recipe(*resolve_config("digits", "at", QUICK))
    network = model_setup.build_network(recipe, data)
    flop = flops.forward_flops(network, data.shape)
    monkeypatch.setattr(model_setup, "computes_in_bf16", lambda device: True)
    monkeypatch.setattr(flops, "_LARGE_FLOPS", flop * recipe.data.batch_size)
    assert cost._scratch_trainer(recipe, data, network, CPU, 4).precision == "bf16"


def test_next_run_can_use_the_threads_that_a_small_network_left_idle(data, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(flops, "THREADS", 2)
    monkeypatch.setattr(cost, "_WORTH_WORKERS_FLOP", 0)
    recipe = validate.check_recipe(*resolve_config("digits", "at", QUICK))
    network = model_setup.build_network(recipe, data)
    try:
        for _ in range(2):
            assert cost.choose_attack_workers(recipe, data, network) == 2
            assert torch.get_num_threads() == 1
        monkeypatch.setattr(flops, "_LARGE_FLOPS", 1)
        assert cost.choose_attack_workers(recipe, data, network) == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_where_it_pays_and_compiled_on_gpus(net, native, monkeypatch):
    monkeypatch.setattr(model_setup, "computes_in_bf16", lambda device: native)
    monkeypatch.setattr(flops, "_LARGE_FLOPS", 10 * flops.forward_flops(net, (2, 6, 6)))
    auto, gpu = declaration.Train(epochs=1), torch.device("cuda")
    assert model_setup.choose_compute_config(auto, net, (2, 6, 6), 9, CPU) == ("fp32", False)
    assert model_setup.choose_compute_config(auto, net, (2, 6, 6), 10, CPU) == ("bf16" if native else "fp32", False)
    assert model_setup.choose_compute_config(auto, net, (2, 6, 6), 1, gpu) == (
        "bf16" if native else "fp32",
        "reduce-overhead",
    )
    asked = declaration.Train(epochs=1, precision="fp32", compile="reduce-overhead")
    for device in (CPU, gpu):
        assert model_setup.choose_compute_config(asked, net, (2, 6, 6), 10, device) == ("fp32", "reduce-overhead")


def test_a_torch_that_cannot_tell_is_taken_for_one_without_bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert model_setup.computes_in_bf16(CPU)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not model_setup.computes_in_bf16(CPU)


def test_a_session_computes_in_the_form_that_is_chosen(data, monkeypatch):
    monkeypatch.setattr(model_setup, "computes_in_bf16", lambda device: True)
    monkeypatch.setattr(flops, "_LARGE_FLOPS", 1)
    trainer = after_three_steps(data, "at", *WIDE)
    assert trainer.precision == "bf16"
    kernel = trainer.model.net[1].conv2.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()


def test_flops_are_two_per_multiplication_of_convolutions_and_matrices_and_counting_leaves_no_trace(net):
    before = snapshot(net)
    assert flops.forward_flops(net, (2, 6, 6)) == 2 * (4 * 2 * 9 * 36 + 4 * 36 * 5)
    assert equal_snapshots(before, snapshot(net))


class Overwriting(torch.nn.Module):
    """Its outputs lie where its last ones lay, as a CUDA graph's do."""

    def __init__(self, net):
        super().__init__()
        self.net, self.place = net, None

    def forward(self, x):
        logits = self.net(x)
        self.place = logits if self.place is None else self.place.copy_(logits)
        return self.place


def test_outputs_in_cuda_graphs_outlast_the_next_pass(net, batch):
    x, graphed = batch[0], Overwriting(net.eval())
    with torch.no_grad():
        lost, kept = graphed(x), model_setup.CloneOutputs(graphed)(x)
        graphed(1 - x)
        assert not torch.equal(lost, net(x))
        assert torch.equal(kept, net(x))


@pytest.mark.parametrize(("wish", "mode"), [(True, None), ("reduce-overhead", "reduce-overhead")])
def test_the_way_of_compiling_reaches_the_compiler(net, monkeypatch, wish, mode):
    modes = []
    monkeypatch.setattr(torch, "compile", lambda model, *, mode, **_: modes.append(mode) or model)
    trained = model_setup.compile_and_wrap(net, CPU, wish)
    assert modes == [mode]
    assert isinstance(trained, model_setup.CloneOutputs) == (mode is not None)
    assert list(trained.parameters()) == list(net.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("wish", ["true", "reduce-overhead"])
@pytest.mark.parametrize("method", ["at+awp+ensgd", "trades+awp", "mart"])
def test_on_a_gpu_each_way_of_compiling_trains_alike(data, method, wish):
    fixed = ("train.precision=fp32", "train.channels_last=false")
    torch._dynamo.reset()
    eager, compiled = (
        after_three_steps(data, method, *fixed, f"train.compile={each}", device=torch.device("cuda"))
        for each in ("false", wish)
    )
    assert compiled.compiled
    for one, other in zip(eager.optimizer.deployed(), compiled.optimizer.deployed()):
        assert (one - other).norm() < 0.05 * one.norm() + 1e-3  # signs of gradients near zero may fall otherwise


@pytest.mark.parametrize(("name", "number"), [("cuda", 3), ("cuda:1", 1)])
def test_a_gpu_without_a_number_is_the_current_one(monkeypatch, name, number):
    """torch.cuda.set_device takes no device without one."""
    chosen = []
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert validate.resolve_device(name) == torch.device("cuda", number)
    assert chosen == [torch.device("cuda", number)]
