"""Image folders: streamed training equals training in memory bit for bit, and only used images are decoded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from interruptions import stop_after
from PIL import Image
from tiers import mark_slow_except
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from rb_smooth.config.overrides import resolve_config
from rb_smooth.core.cli import run_cli
from rb_smooth.core.errors import Interrupted, UserError
from rb_smooth.data import datasets, image_folders, image_spec, images, prefetch
from rb_smooth.data.images import ImageFiles, Images, iterate_chunks
from rb_smooth.data.prefetch import Prefetcher, default_workers
from rb_smooth.data.splits import fingerprint, split
from rb_smooth.training import loop, validate
from rb_smooth.training.batches import BatchLoader
from rb_smooth.training.model_setup import build_network
from rb_smooth.training.run_folder import run as run_folder
from rb_smooth.training.run_folder.resume import load_state
from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.scoring import score_run

CPU = torch.device("cpu")
QUICK = ["data.name=folder", "data.validation=20", "data.batch_size=20", "objective.steps=1", "model.width=2"]
EPOCHS, ROWS = 2, 5  # of 100 training images

pytestmark = pytest.mark.usefixtures("no_curve_plots")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """120 + 40 random images of four classes."""
    root, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for part, each in (("train", 30), ("test", 10)):
        for label in "abcd":
            (root / part / label).mkdir(parents=True)
            for i in range(each):
                pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{i}.png")
    return root


@pytest.fixture
def own_root(root, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(root, tmp_path / "noise")


def read(root, **options):
    source = datasets.folder(root, root=str(root), **options)
    return split(source, validation=20, split_seed=0, select="validation").load()


def make_recipe(root, *settings):
    return validate.check_recipe(*resolve_config("digits", "at", [*QUICK, f"data.root={root}", *settings], EPOCHS))


def trained(recipe, data, path):
    run = Run(path)
    loop.train(recipe, run, data, CPU)
    return run


@pytest.fixture(scope="module")
def in_memory(root, tmp_path_factory):
    return trained(make_recipe(root), read(root, stream=False), tmp_path_factory.mktemp("runs") / "whole")


def equal_ends(one, other):
    for name in ("best", "last"):
        ours, theirs = one.load(name), other.load(name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.fixture
def prefetched(root):
    """A Prefetcher with one worker, closed after the test."""
    feed = Prefetcher(read(root, stream=True, workers=1).train)
    yield feed
    feed.close()


def children():
    """Child processes, without Python's resource tracker."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if "multiprocessing.resource_tracker" not in " ".join(each.cmdline())]


@pytest.mark.parametrize("workers", mark_slow_except([1], [0, 1, 2]))
def test_streamed_training_is_training_in_memory_bit_for_bit(root, tmp_path, in_memory, workers):
    streamed = read(root, stream=True, workers=workers)
    assert isinstance(streamed.train, ImageFiles)
    equal_ends(trained(make_recipe(root), streamed, tmp_path / "run"), in_memory)
    assert not children()


@pytest.mark.parametrize("batches", mark_slow_except([3], [1, 3, 7]))
def test_a_run_stopped_within_an_epoch_resumes_to_the_same_weights_with_other_workers(
    root, tmp_path, in_memory, monkeypatch, batches
):
    recipe, run = make_recipe(root), Run(tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, batches)
        loop.train(recipe, run, read(root, stream=True, workers=2), CPU)
    assert not children()
    loop.train(recipe, run, read(root, stream=True, workers=1), CPU)
    equal_ends(run, in_memory)


@pytest.mark.slow
def test_a_streamed_run_can_be_resumed_in_memory(root, tmp_path, in_memory, monkeypatch):
    recipe, run = make_recipe(root), Run(tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        stop_after(patched, 3)
        loop.train(recipe, run, read(root, stream=True, workers=1), CPU)
    loop.train(recipe, run, read(root, stream=False), CPU)
    equal_ends(run, in_memory)
    assert run.path.joinpath("training.json").read_text().count('"files"') == 1


@pytest.mark.slow
def test_minibatches_in_any_order_are_equal_and_a_single_one_starts_no_process(root, request):
    recipe = make_recipe(root)
    plain, streamed = (BatchLoader(recipe, read(root, stream=stream, workers=2)) for stream in (False, True))
    order = plain.order(0)
    expected = [plain.draw(order, batch, batch) for batch in range(ROWS)]
    request.addfinalizer(streamed.close)
    for batch in (4, 0, 1, 2, 2, 1, 3, 4, 0):
        x, y = streamed.draw(order, batch, batch)
        assert torch.equal(x, expected[batch][0])
        assert torch.equal(y, expected[batch][1])
    assert not children()  # the last one was alone
    streamed.draw(order, 1, 1)
    assert len(children()) == 2
    streamed.close()
    assert not children()


@pytest.mark.slow
def test_prefetching_does_not_change_the_random_state(prefetched):
    order = torch.arange(100).view(5, 20)
    before = torch.get_rng_state()
    for row in range(3):
        prefetched.take(order, row)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def decoded(monkeypatch):
    """The file names of each decoding call, in order."""
    calls, real = [], ImageFiles.decode

    def counted(files, *each):
        calls.append(list(files.names))
        return real(files, *each)

    monkeypatch.setattr(ImageFiles, "decode", counted)
    return calls


def test_streamed_training_decodes_one_minibatch_at_a_time(root, tmp_path, decoded):
    streamed = read(root, stream=True, workers=0)
    fingerprint(streamed.train, streamed.validation)
    assert not decoded
    trained(make_recipe(root), streamed, tmp_path / "run")
    statistics, *rest = map(len, decoded)
    assert statistics == 120  # channel means and standard deviations, of at most 10,000 images
    assert rest[:ROWS] == [20] * ROWS
    assert max(rest) == 100  # the images on which FGSM and PGD are compared; at most 128


def test_a_run_decodes_only_the_images_that_it_uses_once_each(root, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(datasets, "_STATISTICS_SAMPLE", 30)
    recipe, run = make_recipe(root, "data.train_examples=40", "evaluate.n_examples=6"), Run(tmp_path / "run")
    source = datasets.folder(root, root=str(root), stream=False)
    data = split(source, validation=20, split_seed=0, select="validation", train_examples=40)
    assert not decoded
    loop.train(recipe, run, data, CPU)
    used = {*data.train.names, *data.validation.names}
    assert sorted(map(len, decoded)) == [20, 30, 40]  # validation, channel statistics, training
    assert {name for call in decoded if len(call) != 30 for name in call} == used
    decoded.clear()
    score_run(recipe, run, data, build_network(recipe, data), CPU)
    assert decoded == [list(source.test.names[:6])]


def test_streamed_points_are_scored_as_those_in_memory(root, in_memory):
    recipe, scores = make_recipe(root, "evaluate.n_examples=6"), []
    for stream in (True, False):
        data = read(root, stream=stream, workers=0)
        score_run(recipe, in_memory, data, build_network(recipe, data), CPU)
        scores.append(in_memory.score)
    for key in ("fingerprint", "clean", "pgd20", "autoattack", "last", "n", "whole"):
        assert scores[0][key] == scores[1][key]


def test_indexing_image_files_gives_image_files_with_the_same_pixels(root):
    whole, files = (read(root, stream=stream).train for stream in (False, True))
    for index in (slice(3, 9), np.array([5, 1]), torch.tensor([7, 7, 0])):
        assert isinstance(files[index], ImageFiles)
        assert torch.equal(files[index].load().x, whole[index].x)
        assert torch.equal(files[index].y, whole[index].y)
    (pixels,) = files[:1].load().x
    with Image.open(files.root / os.fsdecode(files.names[0])) as image:
        assert np.array_equal(pixels.permute(1, 2, 0), image)
    assert files.shape == whole.shape == (3, 8, 8)
    assert [len(part) for part in iterate_chunks(files[:25], 10)] == [10, 10, 5]
    assert all(part.x.dtype == torch.uint8 for part in iterate_chunks(files[:25], 10))


def test_the_fingerprint_of_files_depends_on_names_sizes_and_labels(own_root):
    def known():
        streamed = read(own_root, stream=True)
        return fingerprint(streamed.train, streamed.validation)

    before = known()
    assert known() == before
    assert before != fingerprint(read(own_root, stream=True).train)
    victim = own_root / "train" / "a" / "3.png"
    victim.write_bytes(victim.read_bytes() + b"\0")
    assert known() != before
    victim.rename(victim.with_name("33.png"))
    changed = known()
    victim.with_name("33.png").rename(own_root / "train" / "b" / "33.png")
    assert known() != changed


def test_a_folder_larger_than_the_limit_is_streamed(root, monkeypatch):
    assert isinstance(read(root).train, Images)
    monkeypatch.setattr(datasets, "_MAX_IN_MEMORY_BYTES", 160 * 8 * 8 * 3)
    assert isinstance(read(root).train, Images)
    monkeypatch.setattr(datasets, "_MAX_IN_MEMORY_BYTES", 160 * 8 * 8 * 3 - 1)
    streamed = read(root)
    assert isinstance(streamed.train, ImageFiles)
    assert isinstance(streamed.test, ImageFiles)
    assert isinstance(read(root, stream=False).train, Images)


def test_channel_statistics_are_equal_streamed_and_in_memory(root, monkeypatch):
    source = datasets.folder(root, root=str(root))
    pixels = source.train.load().x.double() / 255
    mean, std = source.normalisation
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(pixels.transpose(0, 1).flatten(1).std(1).tolist(), rel=1e-12)
    monkeypatch.setattr(datasets, "_STATISTICS_SAMPLE", 30)
    some = [datasets.folder(root, root=str(root), stream=stream).normalisation for stream in (True, False)]
    assert some[0] == some[1] != source.normalisation


def test_stream_and_workers_do_not_change_the_run(root, tmp_path):
    def recipe(*settings):
        return resolve_config("digits", "at", [*QUICK, f"data.root={root}", *settings])

    plain, streamed = recipe(), recipe("data.stream=true", "data.workers=3")
    assert plain.config_hash == streamed.config_hash != recipe("data.image_size=8").config_hash
    run = run_folder.run_path(tmp_path, plain)
    run.begin(plain)
    run.begin(streamed)  # is not refused
    assert run.header["data"]["stream"] is True
    with pytest.raises(UserError, match=r"data\.batch_size"):
        run.begin(recipe("data.batch_size=30"))


@pytest.mark.parametrize("workers", mark_slow_except([0], [0, 1]))
def test_an_image_damaged_during_training_is_named_in_one_line(own_root, tmp_path, workers, capsys, monkeypatch):
    recipe, run, streamed = make_recipe(own_root), Run(tmp_path / "run"), read(own_root, stream=True, workers=workers)
    victim = os.fsdecode(streamed.train.names[BatchLoader(recipe, streamed).order(1).train[3][5]])
    content = (own_root / "train" / victim).read_bytes()
    real = loop.save_state
    monkeypatch.setattr(
        loop, "save_state", lambda *saved: (real(*saved), (own_root / "train" / victim).write_bytes(content[:70]))
    )
    assert run_cli(lambda: loop.train(recipe, run, streamed, CPU))() == 2
    said = capsys.readouterr().err
    assert victim in said
    assert said.count("\n") == 1
    assert "restore it, or for a new run delete it" in said
    assert load_state(run.path)[0]["position"][0] == 1
    assert not children()


@pytest.mark.slow
def test_a_killed_worker_is_reported_in_one_line(prefetched, capsys):
    def work():
        order = torch.arange(100).view(5, 20)
        prefetched.take(order, 0)
        prefetched.take(order, 1)
        children()[0].kill()
        time.sleep(0.3)
        for row in range(2, 5):
            prefetched.take(order, row)

    assert run_cli(work)() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "data.workers" in said


def test_images_of_another_size_are_detected_from_their_headers(own_root, monkeypatch):
    Image.new("RGB", (9, 8)).save(own_root / "train" / "c" / "wide.png")
    monkeypatch.setattr(ImageFiles, "decode", None)
    with pytest.raises(UserError, match=r"got \(8, 8\) and \(8, 9\) \(.*wide\.png\); use --set data\.image_size=32"):
        read(own_root, stream=True)


def test_an_image_that_changed_its_size_raises_an_error_when_decoded(own_root):
    streamed = read(own_root, stream=True)
    Image.new("RGB", (9, 8)).save(own_root / "train" / os.fsdecode(streamed.train.names[4]))
    with pytest.raises(UserError, match="of one size"):
        streamed.train[3:6].load()


def test_resizing_is_equal_streamed_and_in_memory(root):
    small = [read(root, stream=stream, image_size=5).train for stream in (True, False)]
    assert torch.equal(small[0].load().x, small[1].x)
    assert small[0].shape == (3, 5, 5)


@pytest.mark.slow
def test_workers_ignore_sigint_and_end_after_sigterm_with_a_delay(prefetched, monkeypatch):
    """The signals reach the whole process group; training stops its workers itself."""
    monkeypatch.setattr(prefetch, "_STOP_TIMEOUT_S", 2)
    order = torch.arange(100).view(10, 10)
    prefetched.take(order, 0)
    prefetched.take(order, 1)
    (worker,) = children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        worker.send_signal(number)
        time.sleep(0.1)
    for row in range(2, 10):
        prefetched.take(order, row)
    assert children() == [worker]
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        time.sleep(300)  # cut short by the news


@pytest.mark.slow
def test_a_spawned_worker_does_not_import_attack_libraries():
    code = (
        "import sys; import rb_smooth.data.prefetch;"
        "assert not {'torchattacks', 'robustbench', 'torchvision', 'pyautoattack'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_number_of_workers_leaves_one_core():
    assert 0 <= default_workers() <= 8
    assert default_workers() < os.cpu_count()


def test_options_of_a_wrong_type_raise_an_error_that_names_them(root):
    for setting, name in (("data.stream=maybe", "stream"), ("data.workers=two", "workers")):
        with pytest.raises(UserError, match=rf"data folder: {name}"):
            make_recipe(root, setting)
    with pytest.raises(ValueError, match="workers"):
        read(root, workers=-1)


def test_every_kind_of_damaged_image_is_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for damaged in (b"", b"rubbish", whole[:50], whole[: len(whole) // 2], whole[:19] + b"\1" + whole[20:]):
        (tmp_path / "a.png").write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.png"), images.open_image(str(tmp_path / "a.png")) as image:
            image.load()


def test_hidden_folders_are_no_classes_and_skipped_files_are_named(own_root, capsys):
    before = datasets.folder(Path("data"), root=str(own_root), label="own")
    for place in (own_root / "train", own_root / "test"):
        (place / ".ipynb_checkpoints").mkdir()
        (place / "a" / "drawing.gif").write_bytes(b"GIF89a")
        (place / "a" / "._0.png").write_bytes(b"of a Mac")
    after = datasets.folder(Path("data"), root=str(own_root), label="own")
    assert after.classes == before.classes
    assert list(after.train.names) == list(before.train.names)
    assert image_spec.known_image_spec("folder", {"root": str(own_root)}).classes == len(before.classes)
    shown = capsys.readouterr().out
    assert "classes; skipped 1 .gif, 1 hidden files, 1 hidden folders" in " ".join(shown.split())


def test_a_listing_equals_torchvisions(root):
    expected = ImageFolder(str(root / "train"))
    listing = image_folders.list_images(root / "train")
    assert [str(root / "train" / name) for name in listing.names] == [path for path, _ in expected.samples]
    assert listing.labels == expected.targets
    assert list(listing.classes) == expected.classes
    assert image_folders.EXTENSIONS == IMG_EXTENSIONS


def one_image(tmp_path, image: Image.Image, name: str) -> ImageFiles:
    image.save(tmp_path / name)
    names = np.array([name.encode()])
    return ImageFiles(tmp_path, names, torch.zeros(1, dtype=torch.int64), (3, *image.size[::-1]), False, 0)


def test_images_of_16_bits_are_scaled(tmp_path):
    levels = (np.arange(64).reshape(8, 8) * 1040).astype(np.uint16)
    decoded = one_image(tmp_path, Image.fromarray(levels), "deep.png").load().x
    assert torch.equal(decoded[0, 0], torch.from_numpy(np.round(levels / 257).astype(np.uint8)))
    assert torch.equal(decoded[0, 0], decoded[0, 2])


def test_images_of_32_bits_are_refused_by_name(tmp_path):
    files = one_image(tmp_path, Image.fromarray(np.random.rand(8, 8).astype(np.float32)), "deep.tiff")
    with pytest.raises(UserError, match=r"deep\.tiff, got 32 \(mode F\)"):
        files.load()


def test_a_constant_channel_is_refused():
    x = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    x[:, 1] = 7
    with pytest.raises(UserError, match="channel 1 constant in 20"):
        datasets._channel_statistics(Images(x, torch.zeros(20, dtype=torch.int64)))
