"""The page built from files: comparable groups, damaged files, charts, panels, equal output for equal input."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_entries import add_points, make_entry
from PIL import Image

from rb_smooth.core import files
from rb_smooth.core.colours import COLOURS, METHODS
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.page import charts, details, reference_models, render, scatter, server
from rb_smooth.leaderboard.reports.board import read_boards
from rb_smooth.leaderboard.reports.rows import safe_link

LOG = """epoch,lr,loss,train_robust,val_clean,val_robust,best,seconds
0,0.1,2.1,0.30,0.60,0.35,True,60.0
1,0.1,1.4,0.45,0.75,0.50,True,60.0
2,0.01,1.1,0.60,0.80,0.45,False,60.0
"""


def with_examples(entry, k=3):
    x = np.arange(k * 3 * 8 * 8, dtype=np.uint8).reshape(k, 3, 8, 8)
    numbers = {name: np.arange(k) + place for place, name in enumerate(details.FIELDS)}
    files.write_arrays(entry.examples, numbers | {"x": x, "x_adv": (x / 255).astype(np.float32)})
    return x


def full_entry(folder, name="full", n=10, **changed):
    """An entry with all companion files."""
    entry = make_entry(folder, name, n=n, autoattack=0.5, clean=0.8, interval=[0.24, 0.76], **changed)
    add_points(entry, [True] * 5 + [False] * 5, [True] * 8 + [False] * 2)
    with_examples(entry)
    files.write_text(entry.curves, LOG)
    return entry


def board_of(folder, key="cifar10-Linf"):
    found, _ = read_boards(folder)
    return next(board for board in found if board.key == key)


def row_of(board, name):
    return next(row for row in board.rows if row.name == name)


def group_of(board, row):
    return next(group for group in board.groups if row in group.rows)


def test_an_official_entry_is_ranked_among_the_published_of_its_eps(tmp_path):
    make_entry(tmp_path, "mine", autoattack=0.5055, interval=[0.4957, 0.5153])
    board = board_of(tmp_path)
    mine = row_of(board, "mine")
    group = group_of(board, mine)
    assert mine.rank == 1 + sum(row.best_known > 0.5055 for row in group.rows)
    assert {row.eps for row in group.rows} == {"8/255"}
    assert group.rows[0].name == "Bartoldson2024Adversarial_WRN-94-16"
    assert [row.best_known for row in group.rows] == sorted((row.best_known for row in group.rows), reverse=True)
    apart = next(g for g in board.groups if g.rows[0].eps == "0.031")
    assert apart.why == "Not ranked with those above: eps: 0.031 and 8/255"
    assert group_of(board, row_of(board, "Zhang2019Theoretically")) is apart


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": "quick"}, "attack: quick and AutoAttack"),
        ({"official": False}, "test points: 10000 (SHA-256 ffffffffffff…) and the official 10000"),
        (
            {"whole": False, "n": 500},
            "test points: 500 (SHA-256 ffffffffffff…) and the official 10000",
        ),
        ({"threat": {"norm": "Linf", "eps": 0.07, "step_size": 0.01}}, "eps: 0.07 and 8/255"),
    ],
)
def test_incomparable_entries_are_in_a_group_of_their_own_with_the_reason(tmp_path, changed, why):
    make_entry(tmp_path, "mine", **changed)
    board = board_of(tmp_path)
    last = board.groups[-1]
    assert [row.name for row in last.rows] == ["mine"]
    assert last.rows[0].rank is None
    assert last.why == f"Not ranked with those above: {why}"
    assert last.why in reference_models.headline(board)
    assert last.why in reference_models.rank_sentence(last.rows[0], board)


def test_an_entry_of_the_smaller_eps_is_ranked_among_the_published_of_that_eps(tmp_path):
    make_entry(tmp_path, "mine", threat={"norm": "Linf", "eps": 0.031, "step_size": 0.01})
    board = board_of(tmp_path)
    group = group_of(board, row_of(board, "mine"))
    assert (group.rows[0].eps, len(group.rows)) == ("0.031", 7)


def test_a_board_without_published_models_ranks_within_equal_protocols(tmp_path):
    for name, changed in {
        "b": {"autoattack": 0.6},
        "a": {"autoattack": 0.6},
        "c": {},
        "few": {"n": 100, "whole": False, "autoattack": 0.9},
    }.items():
        make_entry(tmp_path, name, dataset="digits", official=False, **changed)
    first, second = board_of(tmp_path, "digits-Linf").groups
    assert [(row.rank, row.name) for row in first.rows] == [(1, "a"), (1, "b"), (3, "c")]
    assert [(row.rank, row.name) for row in second.rows] == [(None, "few")]
    assert second.why.startswith("Not ranked with those above: test points: 100 (SHA-256")


def test_quick_is_never_called_autoattack(tmp_path):
    make_entry(tmp_path, "mine", dataset="digits", official=False, version="quick")
    board = board_of(tmp_path, "digits-Linf")
    assert board.figure == "Robust accuracy"
    assert "not AutoAttack" in reference_models.headline(board)
    assert board_of(tmp_path).figure == "Best known robust accuracy"


def test_rank_range_from_the_interval_and_reference_models_of_the_same_family(tmp_path):
    make_entry(tmp_path, "mine", autoattack=0.5055, interval=[0.45, 0.56])
    board = board_of(tmp_path)
    mine = row_of(board, "mine")
    group = group_of(board, mine)
    others = [row.best_known for row in group.rows if row is not mine]
    best, worst = (1 + sum(other > end for other in others) for end in (0.56, 0.45))
    assert f"({best} to {worst} by its 95 % interval)" in reference_models.rank_sentence(mine, board)
    marks = dict(reference_models.model_references(mine, group))
    kin = marks["best other ResNet-18 without extra data"]
    assert kin.architecture in ("ResNet-18", "PreActResNet-18")
    assert not kin.extra_data
    assert marks["next above"].best_known > mine.best_known >= marks["next below"].best_known


def test_the_headline_prefers_models_not_marked_unreliable(tmp_path):
    make_entry(tmp_path, "sound", autoattack=0.5)
    make_entry(tmp_path, "doubtful", autoattack=0.6, metadata={"unreliable": True})
    assert reference_models.headline(board_of(tmp_path)).startswith("Our best, sound, keeps 50.00 %")


def test_invalid_entries_are_listed_and_the_others_are_shown(tmp_path):
    mine = make_entry(tmp_path, "mine")
    for number, damage in enumerate(("{", "[]", '{"rb_smooth": {"score": []}}')):
        (mine.path.parent / f"stray{number}.json").write_text(damage)
    make_entry(tmp_path, "nan", autoattack=float("nan"))
    make_entry(tmp_path, "many", clean=5.0)
    make_entry(tmp_path, "odd", attacks=["none"])
    moved = make_entry(tmp_path, "moved", threat={"norm": "L2", "eps": 8 / 255, "step_size": 0.01})
    moved.path.rename(mine.path.parent / "moved.json")
    text = render.render_page(tmp_path)
    for name in ("stray0", "stray1", "stray2", "nan", "many", "odd", "moved"):
        assert f"{name}.json" in text[text.index('id="complaints"') :]
        assert f'data-key="cifar10-Linf-{name}"' not in text
    assert 'data-key="cifar10-Linf-mine"' in text


def test_damaged_companion_files_are_listed_and_the_entry_is_shown(tmp_path):
    entry = full_entry(tmp_path)
    for path in (entry.points, entry.curves, entry.examples):
        path.write_text("nonsense")
    text = render.render_page(tmp_path)
    complaints = text[text.index('id="complaints"') :]
    for path in (entry.points, entry.curves, entry.examples):
        assert str(path) in complaints
    assert 'data-key="cifar10-Linf-full"' in text


def test_internal_links_resolve_and_ids_are_unique(tmp_path):
    full_entry(tmp_path)
    for name in ("a b", "a_b", "A_B"):  # equal but for the number that is appended
        full_entry(tmp_path, name)
    ids, links = [], set()

    class Reader(HTMLParser):
        def handle_starttag(self, _, attributes):
            for name, value in attributes:
                if name == "id":
                    ids.append(value)
                links.update(re.findall(r"url\(#([^)]+)\)", value or ""))
                if name in ("href", "aria-labelledby", "data-copies") and (name != "href" or value.startswith("#")):
                    links.add(value.removeprefix("#"))

    Reader().feed(render.render_page(tmp_path))
    assert len(ids) == len(set(ids))
    assert links <= set(ids)
    assert len(links) > 150


def test_output_is_reproducible_across_processes_without_torch_and_matplotlib(tmp_path):
    full_entry(tmp_path)
    code = (
        "import sys; from pathlib import Path; import rb_smooth.leaderboard.page.render as b\n"
        "import rb_smooth.leaderboard.page.server\n"
        f"b.write_page(Path({str(tmp_path)!r})); assert not {{'torch', 'matplotlib'}} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONHASHSEED": "7", "PATH": ""})
    there = hashlib.sha256((tmp_path / "index.html").read_bytes()).hexdigest()
    assert hashlib.sha256(render.write_page(tmp_path).read_bytes()).hexdigest() == there


def test_only_http_links_are_kept():
    for link in ("https://arxiv.org/abs/1706.06083", "http://a.b/c"):
        assert safe_link(link) == link
    for link in ("javascript:alert(1)", " https://a.b", "data:text/html,x", "https://a.b\njavascript:x", None, 3, ""):
        assert safe_link(link) == ""


def test_every_model_is_a_labelled_point_inside_the_chart(tmp_path):
    make_entry(tmp_path, "mine", autoattack=0.5, interval=[0.49, 0.51])
    board = board_of(tmp_path)
    chart = scatter.scatter_chart(board)
    svg = render._environment().get_template("charts.svg.j2").module.show_chart(chart)
    assert svg.count('class="point"') == len(board.rows)
    assert (
        "<title>mine: 80.00 % clean, 50.00 % robust, 95 % interval 49.00 to 51.00; ResNet-18, ours, rank "
        f"{row_of(board, 'mine').rank}</title>"
    ) in svg
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    places = re.findall(r'<use [^>]*\bx="([\d.]+)" y="([\d.]+)"', svg)
    assert len(places) == len(board.rows)
    assert all(0 < float(x) < width and 0 < float(y) < height for x, y in places)
    assert chart.is_clipped  # some published models have a robust accuracy near 0
    assert not re.search(r"<style|fill=|stroke=|#[0-9a-f]{6}\b", svg)  # colours come from the page's style


def test_gallery_images_equal_the_arrays(tmp_path):
    entry = full_entry(tmp_path)
    x = with_examples(entry, 12)
    pairs = details.read_pairs(entry.examples)
    assert len(pairs) == details.MAX_PAIRS
    for pair, image in zip(pairs, x):
        for uri in (pair.clean, pair.adversarial):
            png = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
            assert np.array_equal(np.asarray(png).transpose(2, 0, 1), image)
    assert (pairs[1].index, pairs[1].label, pairs[1].adversarial_prediction) == (1, "class 2", "class 4")


@pytest.mark.parametrize("spoilt", ["x", "x_adv", "label"])
def test_arrays_of_other_shapes_raise(tmp_path, spoilt):
    entry = full_entry(tmp_path)
    arrays = files.read_arrays(entry.examples)
    files.write_arrays(entry.examples, arrays | {spoilt: arrays[spoilt][:1]})
    with pytest.raises(UserError, match="other shapes"):
        details.read_pairs(entry.examples)


def test_details_of_a_large_board_are_in_files_beside_the_page(tmp_path, monkeypatch, capsys):
    entry = full_entry(tmp_path)
    make_entry(tmp_path, "a b")
    details_folder = tmp_path / "index-details"
    small = render.write_page(tmp_path).read_bytes()
    assert b"data:image/png" in small
    assert not details_folder.exists()
    monkeypatch.setattr(render, "MAX_PAGE_BYTES", 100)
    entry.curves.write_text("nonsense")
    (entry.path.parent / "stray.json").write_text("{")
    capsys.readouterr()
    text = render.write_page(tmp_path).read_text()
    assert "data:image/png" not in text
    assert text.count("<dialog") == 1
    assert capsys.readouterr().err.count("stray.json") == 1
    assert str(entry.curves) in text[text.index('id="complaints"') :]
    links = set(re.findall(r'href="(index-details/[^"]+)"', text))
    assert len(links) == text.count('data-key="c')
    assert all((tmp_path / link).exists() for link in links)
    assert {path.name for path in details_folder.iterdir()} - {Path(link).name for link in links} == {"page.css"}
    shown = (details_folder / "cifar10-Linf-full.html").read_text()
    assert shown.count("data:image/png") == 6
    assert 'href="../index.html#cifar10-Linf"' in shown
    script = re.search(r"<script>(?!document)(.*?)</script>", shown, re.S)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in shown

    make_entry(tmp_path, "a b").path.unlink()
    render.write_page(tmp_path)
    assert not (details_folder / "cifar10-Linf-a_b.html").exists()
    assert not list(tmp_path.glob(".index-details.*"))
    monkeypatch.undo()
    render.write_page(tmp_path)
    assert not details_folder.exists()


def test_a_foreign_folder_is_not_replaced_and_a_failed_page_changes_nothing(tmp_path, monkeypatch):
    full_entry(tmp_path)
    monkeypatch.setattr(render, "MAX_PAGE_BYTES", 100)
    (tmp_path / "index-details").mkdir()
    (tmp_path / "index-details" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="index-details to be absent or the page's details"):
        render.write_page(tmp_path)
    assert (tmp_path / "index-details" / "mine.txt").read_text() == "x"
    (tmp_path / "index-details" / "mine.txt").unlink()
    (tmp_path / "index-details").rmdir()
    render.write_page(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "index-details").iterdir()}
    monkeypatch.setattr(render, "_read_details", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render.write_page(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "index-details").iterdir()} == before
    assert not list(tmp_path.glob(".index-details.*"))


def test_details_are_equal_from_one_process_and_from_two(tmp_path, monkeypatch):
    full_entry(tmp_path)
    monkeypatch.setattr(render, "MAX_PAGE_BYTES", 100)
    found = []
    for models_per_process in (10_000, 200):
        monkeypatch.setattr(render, "_MODELS_PER_PROCESS", models_per_process)
        monkeypatch.setattr(render, "usable_cores", lambda: 2)
        page = render.write_page(tmp_path)
        folder = tmp_path / "index-details"
        found.append({path.name: path.read_bytes() for path in (page, *folder.iterdir())})
    assert found[0] == found[1]


def test_panel_has_broken_points_by_attack_and_robust_accuracy_by_class(tmp_path):
    found = details.read_details(full_entry(tmp_path))
    assert [(step.attack, step.broken) for step in found.steps] == [("unattacked", 2), ("apgd-ce", 3), ("apgd-t", 0)]
    assert [(each.name, each.n, each.robust) for each in found.classes] == [("cat", 10, 0.5)]
    facts = {name: value for section in found.facts.values() for name, value in section.items()}
    assert facts["epochs"] == "3, best 2"
    assert facts["training"] == "1.5 h"
    assert "eps: 8/255" in found.recipe


def test_shown_commands_quote_any_name(tmp_path):
    entry = full_entry(tmp_path, "a; b 'c'")
    files.write_text(entry.weights, "their content is not read")
    found = details.read_details(entry)
    assert "verify 'a; b '\"'\"'c'\"'\"'' --dataset cifar10" in found.commands
    compile(found.loading, "shown", "exec")
    assert str(tmp_path.parent) not in found.loading + found.commands  # a published page shows no local paths


def test_an_empty_leaderboard_has_the_published_models(tmp_path):
    text = render.render_page(tmp_path / "nowhere")
    assert "99 published models; none of ours is on this board yet." in text
    assert "78fcc9e48a" in text
    assert "2025-03-31" in text


def test_the_server_serves_only_the_page_and_only_locally(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("first")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "index-details").mkdir()
    for name in ("a+b~2.html", "page.css", "other"):
        (tmp_path / "index-details" / name).write_text(name)
    with server.make_server(page, 0) as running:
        host, port = running.server_address[:2]
        assert host == "127.0.0.1"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        page.write_text("second")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert answer.read() == b"second"
        for name in ("a+b~2.html", "page.css"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/index-details/{name}") as answer:
                assert answer.read() == name.encode()
        for name in ("secret", "index-details/other", "index-details/", "index-details/../secret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}")
        with pytest.raises(UserError, match=f"expected a free port, got {port}"):
            server.make_server(page, port)
        running.shutdown()


def test_ctrl_c_ends_serving(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(server, "write_page", lambda leaderboard: leaderboard / "index.html")
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.setattr(server.ThreadingHTTPServer, "serve_forever", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    server.serve(tmp_path, 0)
    assert len(opened) == 1
    assert opened[0].startswith("http://127.0.0.1:")
    server.serve(tmp_path, 0, open_browser=False)
    assert len(opened) == 1


def test_the_security_policy_allows_only_the_two_inline_scripts(tmp_path):
    text = render.render_page(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts]
    assert re.findall(r"sha256-([^']+)'", policy) == digests
    assert len(digests) == 2
    assert not re.search(r"""(?:src|url\()=?["']?(?:https?:)?//""", text)


# ---- what a reader sees


def seeds_of(folder, method, values, **more):
    return [
        make_entry(folder, f"{method}_resnet18_s{seed}", autoattack=value, own={"method": method}, **more)
        for seed, value in enumerate(values)
    ]


def table_row(text, key, attribute="data-key"):
    """The cells' text of one row of the page, by its key."""
    (row,) = re.findall(rf'<tr [^>]*{attribute}="{re.escape(key)}".*?</tr>', text, re.S)
    cells = re.findall(r"<t[dh] .*?</t[dh]>", row, re.S)
    return [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in cells], row


def test_seeds_of_one_method_are_one_row_with_mean_and_deviation_that_folds_out(tmp_path):
    values = [0.50, 0.52, 0.51]
    seeds_of(tmp_path, "at", values)
    seeds_of(tmp_path, "at+awp", [0.53])
    board = board_of(tmp_path)
    seeds = next(each for each in board.groups[0].methods if len(each.rows) > 1)
    assert (round(seeds.mean, 6), round(seeds.std_of("best_known"), 6)) == (0.51, 0.01)
    assert [row.name for row in seeds.rows] == ["at_resnet18_s1", "at_resnet18_s2", "at_resnet18_s0"]
    text = render.render_page(tmp_path)
    cells, row = table_row(text, "cifar10-Linf-at_resnet18_s1", "data-seeds")
    ranks = [each.rank for each in seeds.rows]
    assert cells[0] == f"{ranks[0]} to {ranks[-1]}"
    assert "3 seeds" in cells[1]
    assert cells[4] == "51.00 ± 1.00"
    assert 'aria-expanded="false"' in row
    assert text.count('data-in="cifar10-Linf-at_resnet18_s1"') == 3
    assert "One of 3 seeds of AT: 51.00 ± 1.00 % on average." in text
    assert "very uncertain" not in text
    assert text.count('class="mine" data-seeds=') == 1  # a method with one seed is a row as any other
    order = [seeds.rows[0].name for seeds in board.groups[0].methods]
    assert order.index("at+awp_resnet18_s0") < order.index("at_resnet18_s1")


def test_the_best_method_is_that_of_the_best_mean_not_of_the_best_seed(tmp_path):
    seeds_of(tmp_path, "at", [0.50, 0.60], official=False)
    seeds_of(tmp_path, "at+awp", [0.57, 0.58], official=False)
    said = reference_models.headline(board_of(tmp_path))
    assert said.startswith("Our best, AT+AWP, keeps 57.50 ± 0.71 % of test points right under AutoAttack (mean ±")
    assert "of 2 seeds): ranks 2 to 3 of 4 models." in said
    text = render.render_page(tmp_path)
    assert text.count("± of two seeds is very uncertain</span>") == 2
    assert text.count("The ± of two seeds is very uncertain.") == 4


def test_the_number_and_the_bar_of_the_column_that_ranks_are_marked(tmp_path):
    make_entry(tmp_path, "mine")
    text = render.render_page(tmp_path)
    heads = re.findall(r"<th scope=\"col\" role=\"columnheader\".*?>(.*?)</th>", text)[:7]
    assert heads[2:5] == ["Standard accuracy", "AutoAttack accuracy", "Best known robust accuracy"]
    for key in ("cifar10-Linf-mine", "cifar10-Linf-Amini2024MeanSparse_S-WRN-94-16"):
        _, row = table_row(text, key)
        marked = [
            place for place, cell in enumerate(re.findall(r"<t[dh] .*?</t[dh]>", row, re.S)) if 'class="bar"' in cell
        ]
        assert marked == [4]
        assert 'class="number"' in re.findall(r"<t[dh] .*?</t[dh]>", row, re.S)[4]


def test_a_board_with_one_figure_has_one_column_and_no_venue(tmp_path):
    make_entry(tmp_path, "mine", dataset="digits")
    text = render.render_page(tmp_path)
    board = text[text.index('id="digits-Linf:models"') :]
    heads = re.findall(r"<th scope=\"col\" role=\"columnheader\".*?>(.*?)</th>", board)
    assert heads == ["Rank", "Method", "Standard accuracy", "AutoAttack accuracy", "Architecture"]


def test_doubts_and_extra_data_are_marked_only_where_true(tmp_path):
    make_entry(tmp_path, "plain")
    make_entry(tmp_path, "marked", metadata={"additional_data": True, "unreliable": True}, selected_on="test")
    text = render.render_page(tmp_path)
    marks = ("extra data", "unreliable", "selected on test")
    assert not [mark for mark in marks if mark in " ".join(table_row(text, "cifar10-Linf-plain")[0])]
    assert [mark for mark in marks if mark in " ".join(table_row(text, "cifar10-Linf-marked")[0])] == list(marks)


def test_an_upper_bound_is_said_once_in_a_row(tmp_path):
    make_entry(tmp_path, "mine", version="quick")
    cells, row = table_row(render.render_page(tmp_path), "cifar10-Linf-mine")
    assert row.count("≤") == 1
    assert cells[3] == ""  # it has no accuracy under AutoAttack
    assert cells[4].startswith("≤ 50.00")
    assert "upper bound" not in row


def test_external_models_have_a_mark_of_their_own(tmp_path):
    make_entry(tmp_path, "theirs", own={"origin": {"checkpoint": "net.pt", "sha256": "ab"}})
    text = render.render_page(tmp_path)
    cells, row = table_row(text, "cifar10-Linf-theirs")
    assert "external" in cells[1]
    assert "ours" not in cells[1]
    assert 'class="mine"' not in row
    (mark,) = (
        point for point in scatter.scatter_chart(board_of(tmp_path)).points if point.key == "cifar10-Linf-theirs"
    )
    assert (mark.shape, mark.css) == ("square", "external")
    assert reference_models.headline(board_of(tmp_path)).startswith("99 published models and 1 external model; none of")


def test_loading_is_shown_only_where_the_weights_are(tmp_path):
    entry = make_entry(tmp_path, "mine")
    assert (details.read_details(entry).loading, "reproduce" in details.read_details(entry).commands) == ("", True)
    assert "load_model(&#39;mine&#39;" not in render.render_page(tmp_path)
    files.write_text(entry.weights, "their content is not read")
    assert "verify" in details.read_details(entry).commands
    assert "load_model(&#39;mine&#39;" in render.render_page(tmp_path)


def test_classes_have_their_names(tmp_path):
    full_entry(tmp_path)
    text = render.render_page(tmp_path)
    assert "<span>cat<span" in text
    assert "image 1: bird<br>predicted cat; attacked, deer" in text


def test_the_page_opens_on_the_board_with_most_entries_of_ours(tmp_path):
    origin = {"origin": {"checkpoint": "net.pt", "sha256": "ab"}}
    for number in range(3):
        make_entry(tmp_path, f"theirs{number}", dataset="svhn", own=origin)
    assert 'class="board current" id="svhn-Linf"' in render.render_page(tmp_path)
    make_entry(tmp_path, "mine", dataset="digits")
    assert 'class="board current" id="digits-Linf"' in render.render_page(tmp_path)
    assert 'class="board current" id="cifar10-Linf"' in render.render_page(tmp_path / "none")


def test_the_first_and_the_best_of_ours_are_labelled_inside_the_chart(tmp_path):
    make_entry(tmp_path, "mine", autoattack=0.53, interval=[0.52, 0.54])
    chart = scatter.scatter_chart(board_of(tmp_path))
    assert [text for *_, text, _ in chart.labels] == ["first: Bartoldson2024Adversarial_WRN-94-16", "best of ours: AT"]
    assert all(chart.x.start <= left and right <= chart.x.end for left, right in map(scatter._span, chart.labels))
    make_entry(tmp_path, "mine", dataset="digits")
    make_entry(tmp_path, "other", dataset="digits", autoattack=0.6)
    ours = scatter.scatter_chart(board_of(tmp_path, "digits-Linf"))
    assert [text for *_, text, _ in ours.labels] == ["first, ours: AT"]


def test_a_method_has_its_colour_on_every_board_and_in_the_style(tmp_path):
    for dataset in ("digits", "svhn"):
        for method in ("at+awp", *(["trades"] if dataset == "svhn" else [])):
            seeds_of(tmp_path, method, [0.5, 0.6], dataset=dataset)
    for key in ("digits-Linf", "svhn-Linf"):
        board = board_of(tmp_path, key)
        classes = scatter.method_classes(board)
        awp = {classes[row.key] for row in board.ours if row.name.startswith("at+awp")}
        assert awp == {f"ours method-{METHODS.index('at+awp')}"}
    style = (render._FOLDER / "page.css").read_text()
    for index, colour in enumerate(COLOURS):
        assert f".method-{index} {{ --mark: {colour}; }}" in style
    legend = dict(scatter.method_legend(board_of(tmp_path, "svhn-Linf")))
    assert sorted(legend.values()) == ["AT+AWP (2 seeds)", "TRADES (2 seeds)"]


@pytest.mark.parametrize("values", [[0.99, 0.995], [0.0, 0.01], [0.5], [0.2, 0.9], []])
def test_axes_of_accuracies_stay_between_0_and_100_percent_and_say_where_they_start(values):
    axis = charts.accuracy_axis(values, 0, 100)
    assert axis.high - axis.low >= 0.06 - 1e-9
    assert axis.low >= -0.0201
    assert axis.high <= 1.0201
    assert all(0 <= tick <= 1 for tick, _ in axis.ticks)
    assert all(axis.low < value < axis.high for value in values)
    chart = charts.Chart("", charts.Axis(0, 1, 0, 1, []), axis, "", "", [])
    assert (chart.axis_note == "") == (axis.low <= 0)
