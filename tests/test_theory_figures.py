"""The theory's figures: kinks where the theory predicts them, shared scales, reproducible files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.contour import QuadContourSet
from matplotlib.image import imread
from matplotlib.text import Text
from scipy.special import expit

from rb_smooth.analysis.plot_style import new_figure, save_png_and_svg
from rb_smooth.analysis.theory import figures
from rb_smooth.analysis.theory.figures import GAMMAS, POSITIVE, TOY
from rb_smooth.analysis.theory.plot_lines import draw_with_gaps
from rb_smooth.analysis.theory.plot_surfaces import SurfacePanel, draw_surfaces
from rb_smooth.analysis.theory.swish_toy import SWISH_ARGMIN, inside_margin, swish, swish_adversarial_loss, swish_loss
from rb_smooth.core.errors import UserError

FEW = 21
X, Y, EPS = TOY
PANELS = {"figure-2-linear": 3, "figure-2-swish": 2, "figure-2-entropy": 4, "figure-4": 3, "gammas": 1 + len(GAMMAS)}


@pytest.fixture(scope="module")
def drawn():
    """Every figure, small."""
    return {name: draw(FEW) for name, draw in figures.TOY_FIGURES.items()}


def ball(eps, norm, n=301):
    """A grid of points of the ball around 0, with its boundary and corners."""
    if norm == "Linf":
        return np.stack(np.meshgrid(*[np.linspace(-eps, eps, n)] * 2), -1).reshape(-1, 2)
    radius, angle = np.meshgrid(np.linspace(0, eps, n), np.linspace(0, 2 * np.pi, 4 * n))
    return (radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)).reshape(-1, 2)


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("y", [-1.0, 1.0])
@pytest.mark.parametrize("eps", [0.0, 0.4, 1.5])
def test_pgd_on_the_swish_toy_finds_the_largest_loss_of_the_ball(norm, y, eps):
    theta = np.array([[1.0, 0.7], [-1.2, 0.4], [0.3, -2.0], [-1.5, -1.5], [0.0, 1.0], [-2.0, 0.0], [0.0, 0.0]])
    attacked = swish_adversarial_loss(theta, X, y, eps, norm)
    everywhere = swish_loss(theta[:, None], X + ball(eps, norm), y).max(1)
    assert (attacked >= everywhere - 1e-12).all()
    np.testing.assert_allclose(attacked, everywhere, atol=2e-5)  # and not larger, up to the grid's spacing


@pytest.mark.parametrize(("norm", "dual"), [("L2", 2), ("Linf", 1)])
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_the_swish_toys_loss_is_that_of_the_worst_output_within_reach(norm, dual, y):
    """theta . x' takes all values up to eps ||theta||_dual from theta . x; swish falls up to -1.2785, then rises."""
    theta = figures.theta_grid(13).reshape(-1, 2)
    reach = EPS * np.linalg.norm(theta, dual, axis=-1)
    low, high = theta @ X - reach, theta @ X + reach
    worst = swish(np.clip(SWISH_ARGMIN, low, high)) if y > 0 else np.maximum(swish(low), swish(high))
    expected = np.log(1 + np.exp(-y * worst))
    np.testing.assert_allclose(swish_adversarial_loss(theta, X, y, EPS, norm), expected, rtol=0, atol=1e-8)


def jumps(values, h):
    """Jump of the slope along theta_1 at each inner column of a surface."""
    return np.diff(values, n=2, axis=1) / h


def slope_of_output(model, z):
    """The derivative of log(1 + exp(-y f(z))) by z, for y = -1, of f(z) = z or swish(z)."""
    return expit(z) if model == "linear" else expit(swish(z)) * (expit(z) + swish(z) * expit(-z))


@pytest.mark.parametrize(
    ("model", "surfaces"),
    [
        ("linear", figures.linear_surfaces),
        ("swish", lambda points: figures.swish_surfaces(points, TOY)),
    ],
)
def test_surfaces_have_kinks_only_where_theory_predicts_them(model, surfaces):
    points = 61
    theta, h, middle = figures.theta_grid(points), 2 * figures.REACH / (points - 1), points // 2
    *standard, l2, linf = (jumps(surface.values, h) for surface in surfaces(points))
    elsewhere = np.arange(points - 2) != middle - 1
    away = np.abs(theta[:, 0, 1]) >= 0.5  # rows away from theta = 0

    # Lemma 3: crossing theta_1 = 0, x' jumps by 2 eps, and the slope by as much times the loss's derivative
    at = theta[:, middle]
    z = at @ X + EPS * np.abs(at).sum(1)
    np.testing.assert_allclose(linf[:, middle - 1], 2 * EPS * slope_of_output(model, z), rtol=0, atol=1.5 * h)
    assert np.abs(linf[:, elsewhere]).max() < 0.35  # curvature, which falls with h
    assert all(np.abs(each).max() < 0.1 for each in standard)
    assert np.abs(l2[away]).max() < 0.25
    np.testing.assert_allclose(l2[middle, middle - 1], 2 * EPS * slope_of_output(model, 0.0), rtol=0, atol=1.5 * h)


def test_the_swish_toys_loss_is_constant_where_the_attack_is_inside_and_has_kinks_only_elsewhere():
    theta = figures.theta_grid(31)
    for surface, norm in zip(figures.swish_surfaces(31), ("L2", "Linf")):
        inside = inside_margin(theta, X, EPS, norm) > 0
        assert 0.3 < inside.mean() < 0.9
        np.testing.assert_allclose(surface.values[inside], np.log(1 + np.exp(0.2784645)), atol=1e-7)
        assert (surface.values[~inside] < surface.values.max()).all()
        assert all(inside_margin(k[~np.isnan(k).any(1)], X, EPS, norm).max() <= 0 for k in surface.kinks)
        assert np.array_equal(surface.region > 0, inside)
    line = surface.kinks[0]  # theta_2 = 0: the ball reaches the minimum of swish for theta_1 >= 0.511
    assert np.nanmax(line[:, 0]) == pytest.approx(-SWISH_ARGMIN / 2.5, abs=0.01)
    assert POSITIVE.y == 1


def test_smoothed_losses_of_both_balls_are_almost_equally_smooth():
    """Without smoothing, the second derivative of both has no bound; with it, they are less than a factor 1.5 apart."""
    l2, linf = (float(panel.title.split("= ")[-1].rstrip("$")) for panel in figures.entropy_surfaces(FEW)[2:])
    assert 1 < linf / l2 < 1.5
    assert linf < GAMMAS[1]
    assert f"is {l2} (L2) and {linf} (L∞)." in (Path(__file__).parents[1] / "docs/theory.md").read_text()


def test_smoothing_removes_the_kink():
    """On a grid twice as fine a kink's jump stays, and a smooth surface's halves. Theorem 3 bounds it by gamma h."""
    across = []
    for points in (21, 41):
        h, middle, every = 2 * figures.REACH / (points - 1), points // 2, points // 20
        surfaces = figures.gamma_surfaces(points)
        across.append(np.array([jumps(surface.values, h)[::every, middle - 1] for surface in surfaces]))
    ratios = across[1] / across[0]
    assert (ratios[0] > 0.95).all()
    assert (ratios[1:] < 0.6).all()
    assert (across[1][1:].max(1) < np.array(GAMMAS) * h).all()
    assert [surface.title for surface in surfaces[1:]] == [f"EntropySGD, $γ = {gamma:g}$" for gamma in GAMMAS]


def test_the_entropy_loss_approaches_the_loss_as_gamma_grows():
    loss, *smoothed = (surface.values for surface in figures.gamma_surfaces(FEW))
    distances = [np.abs(each - loss).max() for each in smoothed]
    assert distances == sorted(distances)
    assert distances[0] < 0.3


@pytest.mark.parametrize("name", PANELS)
def test_panels_of_a_figure_share_view_scale_and_contour_levels(drawn, name):
    panels = drawn[name].axes
    reliefs = [panel for panel in panels if panel.name == "3d"]
    maps = [panel for panel in panels if panel.findobj(QuadContourSet)]
    assert len(reliefs) == len(maps) == PANELS[name]
    assert len({(relief.elev, relief.azim, relief.get_zlim(), relief.get_xlim()) for relief in reliefs}) == 1
    contours = [contour for panel in maps for contour in panel.findobj(QuadContourSet)]
    contours = [contour for contour in contours if list(contour.levels) != [0.0]]  # the edge of a region
    filled = [contour for contour in contours if contour.filled]
    assert len({tuple(contour.levels) for contour in filled}) == 1
    assert len({tuple(contour.levels) for contour in contours if not contour.filled}) == 1
    facets = [collection for relief in reliefs for collection in relief.collections]
    assert len({(shown.norm.vmin, shown.norm.vmax, shown.cmap.name) for shown in facets + filled}) == 1
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in maps}) == 1


def test_a_constant_surface_is_drawn(tmp_path):
    axis = np.linspace(-1, 1, 5)
    flat = draw_surfaces(axis, [SurfacePanel("", np.full((5, 5), -2.0))], title="", caption="")
    assert all(path.stat().st_size for path in save_png_and_svg(flat, tmp_path / "flat"))


def test_no_text_is_smaller_than_eight_points(drawn):
    for figure in drawn.values():
        figure.draw_without_rendering()  # only then have ticks their labels
    sizes = [text.get_fontsize() for figure in drawn.values() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 8


def test_every_figure_states_its_own_x_and_eps(drawn):
    for figure in drawn.values():
        assert any("our own" in text.get_text() for text in figure.texts)


def test_the_linf_example_jumps_between_corners_and_the_l2_example_moves_continuously(drawn):
    l2, linf = drawn["figure-1"].axes[-1].get_lines()[:2]
    moved = linf.get_ydata()
    assert set(moved[~np.isnan(moved)]) == {1, -1}
    assert np.isnan(moved).sum() == 1  # the line is broken where it jumps
    assert np.abs(np.diff(l2.get_ydata())).max() < np.radians(80) / (2 * FEW - 1) + 1e-12


def test_attacks_of_a_curved_loss_move_continuously_inside_the_ball_and_on_its_surface(drawn):
    inside, surface = drawn["figure-1-curved"].axes[-1].get_lines()[:2]
    for line in (inside, surface):
        assert np.abs(np.diff(line.get_ydata())).max() < 3 * np.radians(90) / (2 * FEW - 1)
    assert np.abs(inside.get_ydata()).max() < 0.8
    assert surface.get_ydata().max() == pytest.approx(1, abs=1e-2)


def test_a_line_has_a_dotted_gap_at_each_jump():
    panel = new_figure(2, 2).subplots()
    draw_with_gaps(panel, np.arange(5.0), np.array([0.0, 0.1, 2.0, 2.1, 0.0]), jump=1.0, color="black")
    line, *dotted = panel.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [0.0, 0.1, np.nan, 2.0, 2.1, np.nan, 0.0])
    assert [list(each.get_ydata()) for each in dotted] == [[0.1, 2.0], [2.1, 0.0]]


@pytest.mark.slow
def test_draw_all_writes_png_and_svg_with_the_same_bytes_each_time(drawn, tmp_path):
    written = figures.draw_all(tmp_path / "new" / "folder", FEW)
    assert sorted(written) == sorted((tmp_path / "new" / "folder").iterdir())  # no temporary files
    again = [path for name, figure in drawn.items() for path in save_png_and_svg(figure, tmp_path / name)]
    assert [path.name for path in written] == [path.name for path in again]
    for one, two in zip(written, again):
        assert one.read_bytes() == two.read_bytes()
        if one.suffix == ".png":
            assert imread(one)[0, 0, :3].tolist() == [1, 1, 1]  # on white
        else:
            assert ElementTree.parse(one).getroot().tag.endswith("svg")
            assert b"<dc:date>" not in one.read_bytes()


def test_a_dot_in_a_name_is_no_suffix(tmp_path):
    assert [path.name for path in save_png_and_svg(new_figure(1, 1), tmp_path / "eps-0.5")] == [
        "eps-0.5.png",
        "eps-0.5.svg",
    ]


def test_a_file_instead_of_a_folder_is_rejected(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"^expected a folder for figures, got the file .*file; choose another name$"):
        figures.draw_all(tmp_path / "file", FEW)
    assert (tmp_path / "file").read_text() == "mine"


def test_drawing_imports_neither_torch_nor_pyplot():
    code = (
        "import sys; from rb_smooth.analysis.theory import figures; figures.draw_examples(9);"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
