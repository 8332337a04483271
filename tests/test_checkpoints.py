"""Initial weights: every accepted checkpoint format, and errors."""

from __future__ import annotations

import argparse
import json
import signal
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from run_program import run_program
from torch import nn

from rb_smooth import recipe
from rb_smooth.components import models
from rb_smooth.components.checkpoints import load_checkpoint
from rb_smooth.config.overrides import resolve_config
from rb_smooth.config.registry import build_model
from rb_smooth.core import errors, files
from rb_smooth.core.errors import UserError
from rb_smooth.data import datasets
from rb_smooth.data.splits import split
from rb_smooth.training import loop, trainer, validate
from rb_smooth.training.run_folder.run import Run

pytestmark = pytest.mark.usefixtures("no_curve_plots")


def small_model(classes=10, width=4, mean=0.25, std=0.5):
    return build_model("small_preactresnet", {"width": width}, (1, 8, 8), classes, (mean,), (std,))


def write_state(path, value):
    torch.save(value, path)
    return path


def equal_nets(one, other):
    ours, theirs = one.net.state_dict(), other.net.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_our_checkpoints_include_the_normalisation(tmp_path):
    there, here = small_model(mean=0.1, std=0.7), small_model()
    assert not equal_nets(there, here)
    load_checkpoint(here, write_state(tmp_path / "w.pt", there.state_dict()))
    assert equal_nets(there, here)
    assert (here.mean.item(), here.std.item()) == pytest.approx((0.1, 0.7))


def test_without_stored_normalisation_the_model_keeps_the_data_sets(tmp_path):
    there, here = small_model(mean=0.1, std=0.7), small_model()
    load_checkpoint(here, write_state(tmp_path / "w.pt", there.net.state_dict()))
    assert equal_nets(there, here)
    assert (here.mean.item(), here.std.item()) == (0.25, 0.5)


WRAPPERS = ["state_dict", "model_state_dict", "model", "net"]
PREFIXES = ["module.", "_orig_mod.", "model."]
PREFIXES += [one + other for one, other in permutations(PREFIXES, 2)]


@pytest.mark.parametrize("bare", [False, True], ids=["ours", "bare"])
@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        *((wrapper, "") for wrapper in WRAPPERS),
        *(("", prefix) for prefix in PREFIXES),
        ("state_dict", "module."),
        ("model", "_orig_mod."),
        ("net", "model."),
    ],
)
def test_wrappers_and_prefixes_are_stripped(tmp_path, wrapper, prefix, bare):
    there, here = small_model(mean=0.1), small_model()
    weights = (there.net if bare else there).state_dict()
    weights = {prefix + key: value for key, value in weights.items()}
    load_checkpoint(here, write_state(tmp_path / "w.pt", {wrapper: weights, "epoch": 7} if wrapper else weights))
    assert equal_nets(there, here)
    assert here.mean.item() == pytest.approx(0.25 if bare else 0.1)


def test_a_missing_file_raises_an_error(tmp_path):
    with pytest.raises(UserError, match=r"absent\.pt, got nothing there; correct train\.start"):
        load_checkpoint(small_model(), tmp_path / "absent.pt")


def test_another_networks_weights_raise_an_error_that_names_a_key(tmp_path):
    lacking = small_model().state_dict()
    del lacking["net.8.bias"]
    with pytest.raises(UserError, match=r"net\.8\.bias missing"):
        load_checkpoint(small_model(), write_state(tmp_path / "w.pt", lacking))
    more = small_model().net.state_dict() | {"9.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"9\.weight unexpected"):
        load_checkpoint(small_model(), write_state(tmp_path / "w.pt", more))
    with pytest.raises(UserError, match=r"w\.pt, got another model's"):
        load_checkpoint(small_model(), write_state(tmp_path / "w.pt", nn.Linear(2, 2).state_dict()))


def test_other_shapes_raise_an_error_that_names_both(tmp_path):
    model = small_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"net\.8\.weight of shape \(10, 16\) in .*got \(7, 16\)"):
        load_checkpoint(model, write_state(tmp_path / "w.pt", small_model(classes=7).state_dict()))
    with pytest.raises(UserError, match=r"0\.weight of shape \(4, 1, 3, 3\) in .*got \(5, 1, 3, 3\)"):
        load_checkpoint(model, write_state(tmp_path / "w.pt", small_model(width=5).net.state_dict()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("wrong", [torch.full((4,), torch.nan), torch.ones(4, dtype=torch.int64)])
def test_nonfinite_weights_raise_an_error(tmp_path, wrong):
    weights = small_model().net.state_dict() | {"1.bn1.bias": wrong}
    with pytest.raises(
        UserError, match=r"1\.bn1\.bias in .*(finite numbers, got 4 of 4 NaN|be torch.float32, got torch.int64)"
    ):
        load_checkpoint(small_model(), write_state(tmp_path / "w.pt", weights))


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": {"0.weight": torch.eye(3).to_sparse()}},
        {},
        [1, 2],
        torch.zeros(3),
        {"state_dict": {"0.weight": 3}},
        {"epoch": 3},
    ],
)
def test_a_file_without_state_dict_raises_an_error(tmp_path, value):
    with pytest.raises(UserError, match=r"state dict in .*w\.pt"):
        load_checkpoint(small_model(), write_state(tmp_path / "w.pt", value))


@pytest.mark.parametrize("wrappers", [["state_dict", "model"], ["model", "state_dict"]])
def test_wrappers_are_stripped_in_any_order(tmp_path, wrappers):
    there, here = small_model(), small_model()
    load_checkpoint(here, write_state(tmp_path / "w.pt", {wrappers[0]: {wrappers[1]: there.state_dict()}}))
    assert equal_nets(there, here)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint, but a page of text", b"junk"])
def test_a_file_that_is_not_a_checkpoint_raises_an_error(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pt"):
        load_checkpoint(small_model(), tmp_path / "w.pt")


def test_a_file_with_code_raises_an_error_and_executes_none(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(UserError, match="holds more than tensors"):
        load_checkpoint(
            small_model(), write_state(tmp_path / "w.pt", {"state_dict": small_model().state_dict(), "more": Evil()})
        )
    assert not (tmp_path / "ran").exists()


class Settings:
    """An object of a training script."""


def test_a_file_with_objects_beside_the_weights_names_them(tmp_path):
    path = write_state(tmp_path / "w.pt", {"state_dict": small_model().state_dict(), "args": Settings()})
    with pytest.raises(UserError, match=r"more than tensors \(.*Settings\).*the weights alone"):
        load_checkpoint(small_model(), path)


def recipe_from(path, *settings):
    return validate.check_recipe(*resolve_config("digits", "at", ["model.width=4", f"train.start={path}", *settings]))


@pytest.mark.parametrize("bare", [False, True], ids=["ours", "bare"])
def test_training_starts_from_these_weights(tmp_path, bare):
    there, source = small_model(mean=0.1), datasets.digits(tmp_path)
    path = write_state(tmp_path / "w.pt", (there.net if bare else there).state_dict())
    images = split(source, validation=200, split_seed=0, select="validation")
    state = trainer.Trainer(recipe_from(path), images, torch.device("cpu"))
    assert equal_nets(there, state.model)
    assert state.model.mean.item() == pytest.approx(source.normalisation[0][0] if bare else 0.1)


def test_weights_without_batch_counts_are_accepted(tmp_path):
    there, here = small_model(), small_model()
    weights = {k: v for k, v in there.net.state_dict().items() if "num_batches" not in k}
    load_checkpoint(here, write_state(tmp_path / "w.pt", weights))
    assert equal_nets(there, here)


def test_a_resumed_run_does_not_read_its_initial_weights_but_keeps_their_hash(tmp_path, monkeypatch):
    path = write_state(tmp_path / "w.pt", small_model().state_dict())
    settings = ("data.train_examples=128", "objective.steps=1", "train.epochs=2", "schedule.drops=[1]")
    recipe, run, cpu = recipe_from(path, *settings), Run(tmp_path / "run"), torch.device("cpu")
    source = datasets.digits(tmp_path)
    images = split(source, validation=200, split_seed=0, select="validation", train_examples=128)
    real = loop.end_epoch

    def interrupted(trainer, run):
        signal.raise_signal(signal.SIGINT)
        return real(trainer, run)

    with monkeypatch.context() as patched, pytest.raises(errors.Interrupted):
        patched.setattr(loop, "end_epoch", interrupted)
        loop.train(recipe, run, images, cpu)
    digest = files.sha256(path)
    path.unlink()
    assert run.progress == "begun"
    resolved = resolve_config("digits", "at", ["model.width=4", f"train.start={path}", *settings])
    loop.train(validate.check_recipe(*resolved, run.progress), run, images, cpu)
    assert json.loads((run.path / "training.json").read_text())["origins"]["start"] == digest
    assert run.progress == "trained"


def test_wrong_initial_weights_are_rejected(tmp_path):
    images = split(datasets.digits(tmp_path), validation=200, split_seed=0, select="validation")
    path = write_state(tmp_path / "w.pt", small_model(classes=7).state_dict())
    with pytest.raises(UserError, match=r"\(10, 16\) in .*got \(7, 16\)"):
        trainer.Trainer(recipe_from(path), images, torch.device("cpu"))
    with pytest.raises(UserError, match="got nothing there"):
        trainer.Trainer(recipe_from(tmp_path / "absent.pt"), images, torch.device("cpu"))
    recipe_from(write_state(tmp_path / "w.pt", small_model().state_dict()))


@pytest.mark.slow
def test_an_entry_with_initial_weights_is_marked_as_using_additional_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_state(tmp_path / "w.pt", small_model().state_dict())
    settings = ("model.width=4", "train.start=w.pt", "data.train_examples=128", "objective.steps=1")
    arguments = ["--epochs=1", "--n-examples=2", *(f"--set={setting}" for setting in settings)]
    assert run_program(recipe.main, "digits", "at", *arguments) == 0
    (entry,) = Path("leaderboard/model_info/digits/Linf").glob("*.json")
    assert json.loads(entry.read_text())["additional_data"] is True


def averaged_state(model):
    """As torch's AveragedModel saves itself."""
    return {"n_averaged": torch.tensor(7), **{f"module.{key}": value for key, value in model.state_dict().items()}}


def with_moments(model, mean, std):
    """A normalisation as others keep it, beside a bare network's weights."""
    moments = {mean: torch.full((1, 1, 1, 1), 0.25), std: torch.full((1, 1, 1, 1), 0.5)}
    inside = "model." if "." in mean else ""
    return moments | {inside + key: value for key, value in model.net.state_dict().items()}


@pytest.mark.parametrize("pair", [("mu", "sigma"), ("mean", "std"), ("normalize.mean", "normalize.std")])
def test_stored_normalisation_is_loaded(tmp_path, pair):
    here, there = small_model(), small_model()
    load_checkpoint(here, write_state(tmp_path / "w.pt", with_moments(there, *pair)))
    assert here.mean.flatten().tolist() == [0.25]
    assert here.std.flatten().tolist() == [0.5]
    assert all(torch.equal(a, b) for a, b in zip(here.net.parameters(), there.net.parameters()))


def test_averaged_and_compiled_models_and_safetensors_are_accepted(tmp_path):
    from safetensors.torch import save_file

    there = small_model()
    compiled = {f"_orig_mod.module.{key}": value for key, value in there.state_dict().items()}
    save_file(there.net.state_dict(), tmp_path / "w.safetensors")
    write_state(tmp_path / "averaged.pt", averaged_state(there))
    write_state(tmp_path / "compiled.pt", {"state_dict": compiled})
    for name in ("averaged.pt", "compiled.pt", "w.safetensors"):
        load_checkpoint(here := small_model(), tmp_path / name)
        assert all(torch.equal(a, b) for a, b in zip(here.net.parameters(), there.net.parameters())), name


def test_damaged_safetensors_raise_an_error(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(UserError, match=r"w\.safetensors"):
        load_checkpoint(small_model(), tmp_path / "w.safetensors")


@pytest.mark.parametrize("second", ["ema", "state_dict_ema", "teacher.weights"])
def test_several_state_dicts_are_named_and_a_key_selects_one(tmp_path, second):
    raw, ema = small_model(), small_model()
    outer, _, inner = second.partition(".")
    more = {outer: {inner: averaged_state(ema), "epoch": 3} if inner else averaged_state(ema)}
    path = write_state(
        tmp_path / "w.pt", more | {"state_dict": raw.state_dict(), "optimizer": {"state": {"0.x": raw.mean}}}
    )
    assert load_checkpoint(here := small_model(), path) == (second,)
    assert equal_nets(here, raw)
    assert load_checkpoint(here := small_model(), path, "mend it", second) == ()
    assert equal_nets(here, ema)
    with pytest.raises(UserError, match=rf"'net' in .*got state_dict, {second}; mend it"):
        load_checkpoint(small_model(), path, "mend it", "net")


def stored_forms(model) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts of libraries that wrap a network, by name; all with the normalisation of `model`."""
    net, moments = model.net.state_dict(), (model.mean, model.std)

    def wrapped(prefix: str, *names: str) -> dict[str, torch.Tensor]:
        return {prefix + key: value for key, value in net.items()} | dict(zip(names, moments, strict=True))

    robustness = wrapped("module.model.", "module.normalizer.new_mean", "module.normalizer.new_std")
    robustness |= wrapped(
        "module.attacker.model.", "module.attacker.normalize.new_mean", "module.attacker.normalize.new_std"
    )
    return {
        "Sequential(Normalize, net)": wrapped("1.", "0.mean", "0.std"),
        "normalizer": wrapped("model.", "normalizer.mean", "normalizer.std"),
        "MadryLab's robustness": robustness,
        "MAIR": wrapped("rmodel.1.", "rmodel.0.mean", "rmodel.0.std"),
        "Lightning": wrapped("network.backbone.", "network.mu", "network.sigma"),
    }


@pytest.mark.parametrize("form", stored_forms(small_model()))
def test_forms_of_other_libraries_are_read(tmp_path, form):
    there, here = small_model(mean=0.1, std=0.7), small_model()
    path = write_state(tmp_path / "w.pt", {"state_dict": stored_forms(there)[form], "epoch": 3})
    assert load_checkpoint(here, path) == ()
    assert equal_nets(here, there)
    assert (here.mean.item(), here.std.item()) == pytest.approx((0.1, 0.7))


def test_a_network_with_a_normalisation_of_its_own_reads_it(tmp_path):
    class Net(nn.Module):
        def __init__(self, mean):
            super().__init__()
            self.register_buffer("mu", torch.full((1, 1, 1, 1), mean))
            self.register_buffer("sigma", torch.ones(1, 1, 1, 1))
            self.layer = nn.Linear(3, 3)

    there, here = Net(0.3), models.Normalized(Net(0.0), [0.0], [1.0])
    load_checkpoint(here, write_state(tmp_path / "w.pt", there.state_dict()))
    assert here.net.mu.item() == pytest.approx(0.3)
    assert here.mean.item() == 0


def test_plain_data_beside_the_weights_is_read(tmp_path):
    there, here = small_model(), small_model()
    plain = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(0.5),
        "at": np.int64(3),
        "rng": np.random.RandomState(0).get_state(),
    }
    load_checkpoint(here, write_state(tmp_path / "w.pt", plain | {"state_dict": there.state_dict()}))
    assert equal_nets(here, there)


def test_a_torchscript_archive_is_named(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(UserError, match="got a TorchScript archive"):
        load_checkpoint(small_model(), tmp_path / "w.pt")


def test_a_normalisation_of_other_channels_raises_an_error(tmp_path):
    weights = with_moments(small_model(), "mu", "sigma") | {"mu": torch.rand(3)}
    with pytest.raises(UserError, match="normalisation of 1 channels"):
        load_checkpoint(small_model(), write_state(tmp_path / "w.pt", weights))
