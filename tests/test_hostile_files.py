"""Input files that would hang or fill memory: pipes, devices, folders, zip bombs, cycles, networks of any size."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch

from rb_smooth import recipe
from rb_smooth.components import checkpoints
from rb_smooth.config import registry, yaml
from rb_smooth.config.sections import read_sections, recipe_description
from rb_smooth.core import crashes, files, input_files
from rb_smooth.core.cli import run_cli
from rb_smooth.core.errors import UserError
from rb_smooth.core.worker_pool import catch_stop_signals
from rb_smooth.data import extra_images
from rb_smooth.data.image_spec import ImageSpec
from rb_smooth.data.images import open_image
from rb_smooth.evaluation.per_example import parse_points_csv
from rb_smooth.leaderboard.entries import read_entry
from rb_smooth.training.run_folder.log import read_log
from rb_smooth.training.run_folder.run import Run

SPEC = ImageSpec((1, 8, 8), 10)


def opens_image(path):
    with open_image(str(path)) as image:
        return image.size


READERS = {
    "x.json": files.read_json,
    "grid.npz": files.read_arrays,
    "best.pt": files.load_tensors,
    "hashed.bin": files.sha256,
    "weights.pt": lambda path: checkpoints.read_checkpoint(path, "correct it"),
    "weights.safetensors": lambda path: checkpoints.read_checkpoint(path, "correct it"),
    "extra.npz": lambda path: extra_images.check_extra(path, SPEC, labelled=True),
    "images.npz": extra_images.read_images,
    "labels.npz": extra_images.read_labels,
    "image.png": opens_image,
    "mine.yaml": read_sections,
    "described.yaml": recipe_description,
    "recipe.yaml": lambda path: Run(path.parent).header,
    "log.csv": read_log,
    "points.csv": lambda path: parse_points_csv(path, {"n": 1, "autoattack": 0.0}),
    "entry.json": read_entry,
}


def in_time(call):
    """What `call` raises; a reader that waits for ever fails this test, and not the suite."""
    raised = []

    def guarded():
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    assert raised, "it was accepted"
    return raised[0]


def refused(call, message):
    error = in_time(call)
    assert isinstance(error, UserError), repr(error)
    assert message in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_every_reader_takes_regular_files_only(name, kind, tmp_path):
    path = tmp_path / "digits/Linf" / name
    path.parent.mkdir(parents=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    refused(lambda: READERS[name](path), "recipe in" if name == "recipe.yaml" else kind)


def test_a_pipe_in_place_of_a_crash_trace_is_no_trace(tmp_path):
    os.mkfifo(tmp_path / "crash.txt")
    assert crashes.read_signal(tmp_path / "crash.txt") is None


def test_a_text_of_any_size_is_not_read(tmp_path):
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)
    refused(lambda: files.read_json(tmp_path / "huge.json"), "expected text")


def test_json_nested_without_end_is_a_users_error(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    refused(lambda: files.read_json(tmp_path / "deep.json"), "expected JSON")


def zip_of_zeros(path, member, size):
    """A deflated archive whose header claims `size` bytes, of which few are there: reading fails, hence is late."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(1000))
    raw = bytearray(content.getvalue())
    place = raw.rindex(b"PK\x01\x02") + 24
    raw[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["best.pt", "weights.pt", "grid.npz", "extra.npz", "images.npz"])
def test_an_archive_that_claims_more_than_its_file_can_hold_is_refused_unread(name, tmp_path):
    zip_of_zeros(tmp_path / name, "image.npy", 2**32 - 1)
    refused(lambda: READERS[name](tmp_path / name), "4294967295 bytes in ")


def npz_with_header(path, shape, content=b"0123"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", header.getvalue() + content)


@pytest.mark.parametrize("name", ["grid.npz", "extra.npz", "images.npz"])
@pytest.mark.parametrize("shape", [(2**27, 8, 8, 1), (10**15, 8, 8, 1), (-1, 8, 8, 1)])
def test_an_array_larger_than_its_part_of_the_file_is_refused(name, shape, tmp_path):
    npz_with_header(tmp_path / name, shape)
    refused(lambda: READERS[name](tmp_path / name), "image.npy of shape")


def test_arrays_that_deflate_well_are_read(tmp_path):
    files.write_arrays(tmp_path / "zeros.npz", {"zeros": np.zeros(10**6, np.uint8)})
    assert files.read_arrays(tmp_path / "zeros.npz")["zeros"].shape == (10**6,)


def test_a_stored_archive_may_be_as_large_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(input_files, "_SMALL_BYTES", 0)
    np.savez(tmp_path / "extra.npz", image=np.zeros((1000, 8, 8, 1), np.uint8), label=np.zeros(1000, np.int64))
    extra_images.check_extra(tmp_path / "extra.npz", SPEC, labelled=True)
    assert extra_images.read_images(tmp_path / "extra.npz").shape == (1000, 1, 8, 8)
    np.savez_compressed(tmp_path / "bomb.npz", image=np.zeros((10**6, 8, 8, 1), np.uint8))
    refused(lambda: extra_images.check_extra(tmp_path / "bomb.npz", SPEC, labelled=False), "bytes in")


def cyclic(kind):
    inside = {} if kind != "list" else []
    if kind == "list":
        inside.append(inside)
        return {"model": inside}
    inside["model" if kind == "wrapper" else "x"] = inside
    return inside


@pytest.mark.parametrize("kind", ["wrapper", "dict", "list"])
def test_a_checkpoint_that_contains_itself_is_refused(kind, tmp_path):
    torch.save(cyclic(kind), tmp_path / "weights.pt")
    refused(lambda: READERS["weights.pt"](tmp_path / "weights.pt"), "holds itself")


def test_a_checkpoint_nested_deeply_is_refused_and_one_that_repeats_values_is_read(tmp_path):
    deep, wide = torch.zeros(1), [torch.zeros(1)]
    for _ in range(100):
        deep = {"model": deep}
    for _ in range(40):
        wide = [wide, wide]  # 2**40 paths, 41 lists
    torch.save(deep, tmp_path / "weights.pt")
    torch.save(wide, tmp_path / "best.pt")
    refused(lambda: READERS["weights.pt"](tmp_path / "weights.pt"), "more than 50 levels")
    assert len(files.load_tensors(tmp_path / "best.pt")) == 2


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    torch.save({"mean": torch.zeros(1).expand(10**11), "std": torch.ones(1)}, tmp_path / "weights.pt")
    refused(lambda: READERS["weights.pt"](tmp_path / "weights.pt"), "larger than the file")
    torch.save({"mean": torch.zeros(1).expand(1, 3, 1, 1)}, tmp_path / "best.pt")
    assert files.load_tensors(tmp_path / "best.pt")["mean"].shape == (1, 3, 1, 1)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("small_preactresnet", {"width": 10**8}, "at most 5e+09 parameters"),
        ("small_preactresnet", {"width": 20_000}, "at most 5e+09 parameters"),
        ("small_preactresnet", {"width": 10**9}, "at most 5e+09 parameters"),
        ("wideresnet", {"width": 10**8}, "at most 5e+09 parameters"),
        ("wideresnet", {"depth": 6 * 10**8 + 4}, "expected depth"),
    ],
)
def test_a_network_that_fits_no_memory_is_refused_before_it_is_built(model, options, message, monkeypatch):
    real = registry.construct_component

    def checked(*arguments, **injected):
        assert torch.empty(0).is_meta, "memory was taken"
        return real(*arguments, **injected)

    monkeypatch.setattr(registry, "construct_component", checked)
    refused(lambda: registry.build_model(model, options, (3, 32, 32), 10), message)


def test_counting_parameters_changes_no_random_number():
    registry._count_parameters.cache_clear()
    torch.manual_seed(0)
    counted = registry.build_model("small_preactresnet", {"width": 4}, (1, 8, 8), 10).state_dict()
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_count_parameters", lambda *_: 0)
        plain = registry.build_model("small_preactresnet", {"width": 4}, (1, 8, 8), 10).state_dict()
    assert all(torch.equal(counted[key], plain[key]) for key in plain)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "20 aliases"),
        ("[" * 100_000, "50 levels"),
        ("{a: " * 60 + "1" + "}" * 60, "50 levels"),
        ("&a [*a]", "Circular"),
        ("x: &a {y: *a}", "Circular"),
        ("a" * 2_000_000, "2000000 characters"),
    ],
)
def test_yaml_that_grows_without_end_is_refused(text, message):
    refused(lambda: yaml.parse_yaml(text, "mine.yaml"), message)


def test_yaml_with_a_few_aliases_is_read():
    assert yaml.parse_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}", "it") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize(
    "number",
    ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EFBIG", "EMFILE", "ENFILE", "EIO", "ESTALE", "ELOOP", "ENXIO"],
)
def test_an_error_of_the_disk_is_one_line_with_its_fix(number, capsys):
    code = getattr(errno, number)

    def main():
        raise OSError(code, os.strerror(code), "runs/best.pt")

    assert run_cli(main)() == 2
    assert capsys.readouterr().err.startswith(f"rb_smooth: expected to use runs/best.pt, got '{os.strerror(code)}'; ")


def test_a_link_to_itself_is_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.yaml").symlink_to("mine.yaml")
    monkeypatch.setattr("sys.argv", ["recipe", "show", str(tmp_path / "mine.yaml")])
    assert run_cli(recipe.main)() == 2
    complained = capsys.readouterr().err
    assert complained.count("\n") == 1
    assert "correct the link" in complained


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_is_a_stop_request_unless_it_is_ignored_from_the_start(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    went_on = []

    def main():
        with catch_stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            went_on.append(len(stop))
        signal.raise_signal(signal.SIGHUP)
        went_on.append("to the end")

    try:
        assert run_cli(main)() == (0 if ignored else 130)
        assert went_on == ([0, "to the end"] if ignored else [1])
        assert signal.getsignal(signal.SIGHUP) is (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_run_under_nohup_goes_on_when_the_terminal_closes(tmp_path):
    settings = ("data.train_examples=256", "objective.steps=1", "model.width=2", "evaluate.batch_size=8")
    command = ["digits", "at", "--epochs=6", "--n-examples=8", *(f"--set={setting}" for setting in settings)]
    process = subprocess.Popen(
        ["nohup", sys.executable, "-u", "-m", "rb_smooth.recipe", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            process.send_signal(signal.SIGHUP)
            break
    _, err = process.communicate()
    assert process.returncode == 0, err
