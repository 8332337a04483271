"""Figures 1, 2 and 4 of Kanai et al., arXiv 2103.01400, on toy losses of two parameters; and EntropySGD by gamma."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import save_png_and_svg
from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.entropy import EntropyLoss, covering_rule
from rb_smooth.analysis.theory.implicit_statements import concave_loss
from rb_smooth.analysis.theory.linear import NORMS
from rb_smooth.analysis.theory.numeric import Array
from rb_smooth.analysis.theory.plot_balls import BallPanel, draw_rotation
from rb_smooth.analysis.theory.plot_lines import draw_lines
from rb_smooth.analysis.theory.plot_surfaces import SurfacePanel, draw_surfaces
from rb_smooth.analysis.theory.swish_toy import inside_margin, swish_adversarial_loss
from rb_smooth.core.colours import COLOURS
from rb_smooth.core.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Toy(NamedTuple):
    """One data point, and the radius of both balls."""

    x: Array
    y: float
    eps: float

    @property
    def caption(self) -> str:
        values = f"x = ({self.x[0]:g}, {self.x[1]:g}), y = {self.y:g}, ε = {self.eps:g}".replace("-", "−")
        return f"{values}: our own x and ε; those of the paper's figures are unknown."


TOY = Toy(np.array([-1.0, -0.5]), -1.0, 1.5)
POSITIVE = TOY._replace(y=1.0)
SECOND = Toy(np.array([1.0, 2.0]), 1.0, 0.6)
"""Fig. 4's: eps is smaller than both coordinates of x, so that the loss falls without end."""

GAMMAS = (30.0, 6.0, 1.0)
"""EntropySGD's gamma: standard deviations of the Gaussian of 0.18, 0.41 and 1."""

REACH = 1.5
"""Surfaces are drawn for |theta_1|, |theta_2| <= REACH."""

BALLS = {"L2": "$L_2$ ball", "Linf": "$L_∞$ ball"}

_LINES = {"θ = (0.5, t)": ([0.5, 0.0], [0.0, 1.0]), "θ = (t, t)": ([0.0, 0.0], [1.0, 1.0])}
"""Start and direction: the first crosses a single kink of the Linf loss, the second goes through 0."""

_KINKS_CAPTION = (
    "θ = (0.5, t) crosses one kink, that of the $L_∞$ ball's loss at $θ_2 = 0$; θ = (t, t) goes through θ = 0."
)
_KINKS_REMARK = "Orange dashes and dots: points without a gradient according to the theory."


def draw_all(folder: Path, grid_size: int = 91) -> list[Path]:
    """Write every figure to `folder` as PNG and SVG and return the paths. grid_size: odd, per axis of a surface.

    Raises UserError if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for figures, got the file {folder}; choose another name")
    return [path for name, draw in TOY_FIGURES.items() for path in save_png_and_svg(draw(grid_size), folder / name)]


def draw_examples(grid_size: int) -> Figure:
    """Fig. 1 a: x' of the linear model while theta turns by 80 degrees, past theta_1 = 0."""
    angles, theta = _rotation(50, 130, grid_size)
    balls = [
        BallPanel(BALLS[norm], norm, TOY.x, TOY.eps, linear.closed_form_attack(theta, *TOY, norm), -TOY.y * theta)
        for norm in NORMS
    ]
    title = "Adversarial examples $x'$ of a linear model while $θ$ turns and $θ_1$ changes its sign"
    caption = "Six $θ$: the loss's gradient at $x$ as arrows, and the $x'$ of each; $θ_1 = 0$ at 90 degrees."
    return draw_rotation(balls, angles, title=title, caption=f"{caption}\n{TOY.caption}")


def draw_curved_examples(grid_size: int) -> Figure:
    """Fig. 1 b and c: x' of a loss that is curved in x', inside a large ball and on the surface of a small one."""
    angles, theta = _rotation(-10, 80, grid_size)
    losses = {"inside the ball": concave_loss((0, 0), 0.6), "on its surface": concave_loss((0, 0), 0.3)}
    balls = [
        BallPanel(f"{title}, ε = {loss.eps}", "L2", loss.c, loss.eps, loss.attack(theta), np.sin(theta @ loss.A.T))
        for title, loss in losses.items()
    ]
    title = "Adversarial examples $x'$ of a loss that is curved in $x'$ (Lemmas 4 and 5)"
    caption = "Six $θ$: the loss's gradient at $x$ as arrows, and the $x'$ of each.\nThe loss, x = 0 and ε are our own."
    return draw_rotation(balls, angles, title=title, caption=caption)


def _rotation(first: float, last: float, grid_size: int) -> tuple[Array, Array]:
    """Angles in degrees (m,), and theta of norm 1 at each of them, (m, 2)."""
    angles = np.linspace(first, last, 2 * grid_size)  # an even number, so that the middle one, of a kink, is left out
    return angles, np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], -1)


def theta_grid(grid_size: int) -> Array:
    """theta (grid_size, grid_size, 2) up to REACH, theta_1 along the rows."""
    return np.stack(np.meshgrid(*[np.linspace(-REACH, REACH, grid_size)] * 2), -1)


def linear_surfaces(grid_size: int, toy: Toy = TOY) -> list[SurfacePanel]:
    """The linear model's standard loss and its adversarial losses, in closed form."""
    theta = theta_grid(grid_size)
    attacked = {norm: linear.logistic_adversarial_loss(theta, *toy, norm) for norm in NORMS}
    return [SurfacePanel("standard", linear.logistic_loss(theta, toy.x, toy.y)), *_surfaces_with_kinks(attacked)]


def swish_surfaces(grid_size: int, toy: Toy = POSITIVE) -> list[SurfacePanel]:
    """The swish model's adversarial losses by PGD; for y = 1 also the edge of where the attack is inside the ball."""
    theta = theta_grid(grid_size)
    panels = _surfaces_with_kinks({norm: swish_adversarial_loss(theta, *toy, norm) for norm in NORMS})
    if toy.y < 0:
        return panels
    margins = [partial(inside_margin, x=toy.x, eps=toy.eps, norm=norm) for norm in NORMS]
    return [
        panel._replace(
            kinks=[np.where(margin(kink)[:, None] > 0, np.nan, kink) for kink in panel.kinks], region=margin(theta)
        )
        for panel, margin in zip(panels, margins, strict=True)
    ]


def entropy_surfaces(grid_size: int) -> list[SurfacePanel]:
    """Fig. 2 g: both adversarial losses of the linear model, and EntropySGD's of each at one gamma."""
    theta, coarse, gamma = theta_grid(grid_size), theta_grid(31), GAMMAS[1]
    attacked = {norm: _linear(TOY, norm).value(theta) for norm in NORMS}
    panels = _surfaces_with_kinks(attacked)
    for norm in NORMS:
        smoothed = _smoothed(norm, gamma)
        steepest = np.linalg.eigvalsh(smoothed.hessian(coarse)).max()
        title = f"EntropySGD, {BALLS[norm]}, $γ = {gamma:g}$\n$λ_\\max(∇^2 L_γ) = {steepest:.2f}$"
        panels.append(SurfacePanel(title, smoothed.value(theta)))
    return panels


def gamma_surfaces(grid_size: int) -> list[SurfacePanel]:
    """The linear model's Linf loss, and its L_gamma for each of GAMMAS."""
    theta = theta_grid(grid_size)
    smoothed = {gamma: _smoothed("Linf", gamma).value(theta) for gamma in GAMMAS}
    itself = _surfaces_with_kinks({"Linf": _linear(TOY, "Linf").value(theta)})
    return [*itself, *(SurfacePanel(f"EntropySGD, $γ = {gamma:g}$", values) for gamma, values in smoothed.items())]


def _surfaces_with_kinks(attacked: Mapping[str, Array]) -> list[SurfacePanel]:
    """One panel per norm with its kinks: theta = 0 in L2, points with a coordinate 0 in Linf."""
    line = np.stack([np.linspace(-REACH, REACH, 301), np.zeros(301)], -1)
    kinks = {"L2": [np.zeros((1, 2))], "Linf": [line, line[:, ::-1]]}
    return [SurfacePanel(f"adversarial, {BALLS[norm]}", values, kinks[norm]) for norm, values in attacked.items()]


class _Loss(NamedTuple):
    """A loss and its derivatives, each a function of theta (..., 2)."""

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    hessian: Callable[[Array], Array]


def _linear(toy: Toy, norm: str) -> _Loss:
    functions = (linear.logistic_adversarial_loss, linear.gradient, linear.hessian)
    return _Loss(*(partial(function, x=toy.x, y=toy.y, eps=toy.eps, norm=norm) for function in functions))


def _smoothed(norm: str, gamma: float) -> _Loss:
    """L_gamma of the linear model's loss minus log(gamma / 2 pi), its value for the zero loss by Eq. (10)."""
    smooth = EntropyLoss(_linear(TOY, norm).value, gamma, covering_rule(REACH, gamma, 2, order=6))
    return _Loss(lambda theta: smooth.value(theta) - np.log(gamma / (2 * np.pi)), smooth.gradient, smooth.hessian)


def _surface_figure(
    surfaces: Callable[[int], list[SurfacePanel]], title: str, toy: Toy = TOY, remark: str = _KINKS_REMARK
) -> Callable[[int], Figure]:
    def draw(grid_size: int) -> Figure:
        axis = np.linspace(-REACH, REACH, grid_size)
        return draw_surfaces(axis, surfaces(grid_size), title=title, caption=f"{remark}\n{toy.caption}")

    return draw


def draw_linear_lines(grid_size: int) -> Figure:
    """Losses and slopes along lines across the kinks of the linear model."""
    losses = {"standard": _linear(TOY._replace(eps=0.0), "L2"), **{BALLS[norm]: _linear(TOY, norm) for norm in NORMS}}
    colours = (COLOURS[6], COLOURS[0], COLOURS[1])
    return _draw_lines(losses, colours, grid_size, rows=2, title="Across the kinks of the linear model")


def draw_gamma_lines(grid_size: int) -> Figure:
    """Losses, slopes and second derivatives along lines across the kinks, for each of GAMMAS."""
    losses = {BALLS["Linf"]: _linear(TOY, "Linf"), **{f"$γ = {gamma:g}$": _smoothed("Linf", gamma) for gamma in GAMMAS}}
    colours = (COLOURS[1], COLOURS[6], COLOURS[0], COLOURS[5])
    return _draw_lines(losses, colours, grid_size, rows=3, title="Across the kinks, with EntropySGD and without")


def _draw_lines(
    losses: Mapping[str, _Loss], colours: tuple[str, ...], grid_size: int, *, rows: int, title: str
) -> Figure:
    """One column per line, with the first `rows` of: loss, slope in t, second derivative in t."""
    t = np.linspace(-REACH, REACH, 4 * grid_size)  # an even number, so that none is the kink at 0
    columns = {}
    for line, (start, direction) in _LINES.items():
        theta = np.array(start) + t[:, None] * direction
        columns[line] = {
            name: (loss.value(theta), loss.gradient(theta) @ direction, loss.hessian(theta) @ direction @ direction)
            for name, loss in losses.items()
        }
    return draw_lines(t, columns, colours, rows, title=title, caption=f"{_KINKS_CAPTION}\n{TOY.caption}")


TOY_FIGURES: dict[str, Callable[[int], Figure]] = {
    "figure-1": draw_examples,
    "figure-1-curved": draw_curved_examples,
    "figure-2-linear": _surface_figure(linear_surfaces, "Losses of the linear model"),
    "figure-2-linear-lines": draw_linear_lines,
    "figure-2-swish": _surface_figure(
        swish_surfaces,
        "Losses of the model with swish, attacked by PGD",
        POSITIVE,
        f"{_KINKS_REMARK}\nBeyond the dotted lines, the attack is inside the ball and the loss constant.",
    ),
    "figure-2-swish-kinks": _surface_figure(
        partial(swish_surfaces, toy=TOY), "The same, for the other label: attacks on the surface"
    ),
    "figure-2-entropy": _surface_figure(
        entropy_surfaces, "The linear model's adversarial losses, and EntropySGD's losses of them"
    ),
    "figure-4": _surface_figure(
        partial(linear_surfaces, toy=SECOND), "Losses of the linear model at another point", SECOND
    ),
    "gammas": _surface_figure(
        gamma_surfaces,
        "The loss of EntropySGD: the linear model's adversarial loss, smoothed",
        remark=f"{_KINKS_REMARK} The smaller γ, the wider the smoothing Gaussian.",
    ),
    "gammas-lines": draw_gamma_lines,
}
"""By file name; the argument is draw_all's grid_size."""
