"""A log is read back as it was written, or refused by line; its curves are one whole picture, however long it is."""

from __future__ import annotations

import pytest
from fake_logs import log_rows, write_run
from matplotlib.image import imread

from rb_smooth.core.colours import COLOURS, METHODS, method_colours
from rb_smooth.core.errors import UserError
from rb_smooth.training.run_folder import reporting
from rb_smooth.training.run_folder.curves import draw_curves
from rb_smooth.training.run_folder.log import best_row, read_log
from rb_smooth.training.run_folder.reporting import RunReporter
from rb_smooth.training.run_folder.run import Run


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_log_reads_back_as_it_was_written(tmp_path):
    written = log_rows(4, clamped=lambda epoch: None if epoch < 2 else 0.25)
    assert read_log(write_run(tmp_path / "run", written).path / "log.csv") == written


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda text: "", 1),
        (lambda text: "a,b\n1,2\n", 1),
        (lambda text: text.replace("val_clean", "val_c"), 1),
        (lambda text: text[:-1], 4),  # an end in the middle of the last number
        (lambda text: text[: text.rindex(",")] + "\n", 4),
        (lambda text: text.replace("\n1,", "\n2,"), 3),  # an epoch is missing
        (lambda text: text.replace("2.0", "two"), 2),
        (lambda text: text.replace("2.0", ""), 2),
        (lambda text: text.replace("False", "0"), 4),
        (lambda text: text.replace("0.1", '"0.1', 1), 4),
        (lambda text: text.splitlines()[0] + "\n", 1),
    ],
)
def test_a_damaged_log_is_refused_by_file_and_line(tmp_path, damage, line):
    path = write_run(tmp_path / "run", log_rows()).path / "log.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=rf"log\.csv, got .* in line {line}; restore it"):
        read_log(path)


def test_a_log_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "log.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match=r"expected a run's log in|got a folder"):
            read_log(path)


def test_the_best_row_is_of_the_last_epoch_that_was_better_than_all_before():
    assert best_row(log_rows(5, best=3))["epoch"] == 3


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_a_run_of_any_length_becomes_a_whole_picture(tmp_path, epochs):
    draw_curves({"run": log_rows(epochs, best=0)}, tmp_path / "curves.png")
    height, width, _ = imread(tmp_path / "curves.png").shape
    assert (width, height) == (1080, 1110)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_left_column_counts_epochs_from_one_and_the_right_the_seconds_trained(tmp_path, drawn_figures):
    draw_curves({"run": log_rows(3)}, tmp_path / "curves.png")
    left, right = (
        next(line for line in panel.lines if len(line.get_xdata()) == 3) for panel in drawn_figures[0].axes[:2]
    )
    assert list(left.get_xdata()) == [1, 2, 3]
    assert list(right.get_xdata()) == [10, 20, 30]
    assert list(left.get_ydata()) == list(right.get_ydata()) == [0.6, 0.61, 0.62]
    assert [panel.get_xlabel() for panel in drawn_figures[0].axes[-2:]] == ["epoch", "training time (s)"]


def test_a_star_marks_the_best_epoch_in_every_panel_of_accuracies(tmp_path, drawn_figures):
    draw_curves({"run": log_rows(3, best=1)}, tmp_path / "curves.png")
    stars = [
        line.get_xydata().tolist()
        for panel in drawn_figures[0].axes
        for line in panel.lines
        if line.get_marker() == "*"
    ]
    assert stars == [[[2, 0.61]], [[20, 0.61]], [[2, 0.5]], [[20, 0.5]]]


def test_what_a_log_has_is_drawn_and_nothing_else_is_named(tmp_path, drawn_figures):
    draw_curves({"run": log_rows()}, tmp_path / "curves.png")
    assert labels(drawn_figures[0]) == ["training minibatches (at w' + v)", "validation", "best epoch"]
    more = dict.fromkeys(("val_w_clean", "val_w_robust", "test_robust", "train_clean"), lambda epoch: 0.4)
    draw_curves({"run": log_rows(**more)}, tmp_path / "curves.png")
    assert labels(drawn_figures[1]) == [
        *("training minibatches (at w' + v)", "training (deployed weights)"),
        *("validation, w not averaged", "validation", "test", "best epoch"),
    ]
    assert [len(panel.lines) for panel in drawn_figures[1].axes[:4]] == [4, 4, 5, 5]  # and a star each


def test_runs_are_compared_at_their_deployed_weights_where_the_log_has_them(tmp_path, drawn_figures):
    """Accuracy on the minibatches is at EntropySGD's chain, and at SGD's deployed weights."""
    log = log_rows(train_pgd20=lambda epoch: 0.7)
    draw_curves({"one": log, "other": log_rows(train_pgd20=lambda epoch: 0.8)}, tmp_path / "curves.png")
    draw_curves({"alone": log}, tmp_path / "curves.png")
    drawn = [{line.get_ydata()[0] for line in figure.axes[2].lines} for figure in drawn_figures]
    assert drawn[0] >= {0.7, 0.8}
    assert 0.3 not in drawn[0]
    assert drawn[1] >= {0.3, 0.7}
    assert "training (deployed weights)" in labels(drawn_figures[0])
    assert not any("minibatches" in label for label in labels(drawn_figures[0]))


def test_a_curve_joins_the_epochs_that_have_its_figure(tmp_path, drawn_figures):
    log = log_rows(4, test_robust=lambda epoch: 0.4 if epoch % 2 else None)
    draw_curves({"run": log}, tmp_path / "curves.png")
    (drawn,) = [line.get_xydata() for line in drawn_figures[0].axes[2].lines if line.get_linestyle() == "--"]
    assert drawn.tolist() == [[2, 0.4], [4, 0.4]]


def test_each_run_of_several_has_one_colour_and_kinds_keep_their_lines(tmp_path, drawn_figures):
    draw_curves({"one": log_rows(3), "other": log_rows(5)}, tmp_path / "curves.png")
    lines = [line for line in drawn_figures[0].axes[2].lines if line.get_marker() != "*"]
    assert [(line.get_color(), line.get_linestyle()) for line in lines] == [
        *((COLOURS[0], "-."), (COLOURS[0], "-")),
        *((COLOURS[1], "-."), (COLOURS[1], "-")),
    ]
    assert labels(drawn_figures[0])[-2:] == ["one", "other"]


def test_learning_rates_of_stages_far_apart_share_a_logarithmic_axis(tmp_path, drawn_figures):
    log = log_rows(3)
    draw_curves({"run": log}, tmp_path / "curves.png")
    log[0]["lr"], log[2]["lr"] = 1.0, 0.0
    draw_curves({"run": log}, tmp_path / "curves.png")
    assert [figure.axes[-1].get_yscale() for figure in drawn_figures] == ["linear", "log"]


def test_more_runs_than_colours_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected at most 7 runs"):
        draw_curves({str(each): log_rows() for each in range(8)}, tmp_path / "curves.png")


def test_drawing_leaves_no_figure_in_pyplot(tmp_path):
    from matplotlib import pyplot

    draw_curves({"run": log_rows()}, tmp_path / "curves.png")
    assert pyplot.get_fignums() == []


def count_drawn_epochs(monkeypatch):
    """How many epochs each drawing showed."""
    shown = []
    monkeypatch.setattr(reporting, "draw_curves", lambda logs, path: shown.extend(map(len, logs.values())))
    return shown


def test_curves_are_drawn_now_and_then_and_after_the_last_epoch(tmp_path, monkeypatch):
    shown, clock = count_drawn_epochs(monkeypatch), iter((0, 20, 40, 41, 50, 60))
    monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
    with RunReporter(Run(tmp_path), epochs=4) as report:
        for epoch in range(1, 5):
            report.update(log_rows(epoch, best=0))
    assert shown == [2, 4]


@pytest.mark.parametrize(("error", "expected"), [(UserError("nan"), [2]), (KeyboardInterrupt(), [])])
def test_a_run_that_stops_leaves_its_curves_unless_it_has_to_stop_at_once(tmp_path, monkeypatch, error, expected):
    shown = count_drawn_epochs(monkeypatch)
    with pytest.raises(type(error)), RunReporter(Run(tmp_path), epochs=9) as report:
        report.update(log_rows(2, best=0))
        raise error
    assert shown == expected


def test_a_picture_that_fails_is_told_once_and_ends_nothing(tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise ValueError("no font\nat all")

    monkeypatch.setattr(reporting, "draw_curves", failing)
    monkeypatch.setattr(reporting, "DRAWN_EVERY_S", -1.0)
    with RunReporter(Run(tmp_path / "run"), epochs=9) as report:
        for epoch in range(1, 4):
            report.update(log_rows(epoch, best=0))
    assert capsys.readouterr().out == f"not written: {tmp_path}/run/curves.png (no font); training continues\n"


def test_curves_cost_no_torch_and_nothing_of_matplotlib_until_they_are_drawn():
    import subprocess
    import sys

    code = "import sys, rb_smooth.runs; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_method_has_its_colour_in_every_picture_whatever_stands_beside_it():
    alone = method_colours(["digits/at+awp-s0"])
    beside = method_colours(["something", "at+awp_small_preactresnet_s0", "at (10 epochs)", "at+awp+x", "at+awp-s1"])
    assert alone["digits/at+awp-s0"] == beside["at+awp_small_preactresnet_s0"] == COLOURS[METHODS.index("at+awp")]
    assert beside["at (10 epochs)"] == COLOURS[METHODS.index("at")]
    assert len(set(beside.values())) == len(beside)
    assert next(iter(beside)) == "something"
    assert set(method_colours(map(str, range(20))).values()) == set(COLOURS)
