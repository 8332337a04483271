"""Figures 1, 2, 4 and 5 of Kanai et al., arXiv 2103.01400, on toy losses of two parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb_smooth.analysis.plot_style import save_png_and_svg
from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.entropy import EntropyLoss, covering_rule
from rb_smooth.analysis.theory.linear import NORMS
from rb_smooth.analysis.theory.numeric import Array
from rb_smooth.analysis.theory.plot_balls import BALLS, draw_rotation
from rb_smooth.analysis.theory.plot_lines import LinePanel, draw_panels
from rb_smooth.analysis.theory.plot_surfaces import SurfacePanel, draw_surfaces
from rb_smooth.analysis.theory.swish_toy import swish_adversarial_loss, swish_loss
from rb_smooth.core.errors import UserError
from rb_smooth.training.run_folder.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


X, Y, EPS = np.array([-1.0, -0.5]), -1.0, 1.5
"""The data point, and the radius of both balls."""

GAMMAS = (30.0, 6.0, 1.0)
"""EntropySGD's gamma in Fig. 5: standard deviations of the Gaussian of 0.18, 0.41 and 1."""

REACH = 1.5
"""Surfaces are drawn for |theta_1|, |theta_2| <= REACH."""

_LINES = {"θ = (0.5, t)": ([0.5, 0.0], [0.0, 1.0]), "θ = (t, t)": ([0.0, 0.0], [1.0, 1.0])}
"""Start and direction: the first crosses a single kink of the Linf loss, the second goes through 0."""

_KINKS_CAPTION = (
    "θ = (0.5, t) crosses one kink, that of the $L_∞$ ball's loss at $θ_2 = 0$; θ = (t, t) goes through θ = 0."
)
_SETUP_CAPTION = "x = (−1, −0.5), y = −1, ε = 1.5: our own x and ε; those of the paper's figures are unknown."
_LINES_CAPTION = "Dashes and dot: points without a gradient according to the theory."


def draw_all(folder: Path, grid_size: int = 91) -> list[Path]:
    """Write every figure to `folder` as PNG and SVG and return the paths. grid_size: odd, per axis of a surface.

    Raises UserError if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for figures, got the file {folder}; choose another name")
    return [path for name, draw in TOY_FIGURES.items() for path in save_png_and_svg(draw(grid_size), folder / name)]


def draw_examples(grid_size: int) -> Figure:
    """Fig. 1: x' while theta turns by 80 degrees, past theta_1 = 0."""
    angles = np.linspace(50, 130, 2 * grid_size)  # an even number, so that theta_1 is never 0
    theta = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], -1)
    return draw_rotation(
        X,
        EPS,
        angles,
        {norm: linear.closed_form_attack(theta, X, Y, EPS, norm) for norm in NORMS},
        np.searchsorted(angles, [60, 72, 84, 96, 108, 120]),
        title="Adversarial examples $x'$ while $θ$ turns and $θ_1$ changes its sign",
        caption=f"Linear model. Six $θ$, drawn as arrows from $x$, and the $x'$ of each.\n{_SETUP_CAPTION}",
    )


def linear_surfaces(grid_size: int) -> list[SurfacePanel]:
    """Losses of Fig. 2: the linear model, in closed form."""
    theta = theta_grid(grid_size)
    attacked = {norm: linear.logistic_adversarial_loss(theta, X, Y, EPS, norm) for norm in NORMS}
    return [SurfacePanel("standard", linear.logistic_loss(theta, X, Y)), *_surfaces_with_kinks(attacked)]


def swish_surfaces(grid_size: int) -> list[SurfacePanel]:
    """Losses of Fig. 4: the swish model under PGD."""
    theta = theta_grid(grid_size)
    attacked = {norm: swish_adversarial_loss(theta, X, Y, EPS, norm) for norm in NORMS}
    return [SurfacePanel("standard", swish_loss(theta, X, Y)), *_surfaces_with_kinks(attacked)]


def entropy_surfaces(grid_size: int) -> list[SurfacePanel]:
    """Losses of Fig. 5: the linear model's Linf loss, and its L_gamma for each of GAMMAS."""
    theta = theta_grid(grid_size)
    smoothed = {gamma: _smoothed(gamma).value(theta) for gamma in GAMMAS}
    itself = _surfaces_with_kinks({"Linf": linear.logistic_adversarial_loss(theta, X, Y, EPS, "Linf")})
    return [*itself, *(SurfacePanel(f"EntropySGD, $γ = {gamma:g}$", values) for gamma, values in smoothed.items())]


def theta_grid(grid_size: int) -> Array:
    """theta (grid_size, grid_size, 2) up to REACH, theta_1 along the rows."""
    return np.stack(np.meshgrid(*[np.linspace(-REACH, REACH, grid_size)] * 2), -1)


def _surfaces_with_kinks(attacked: Mapping[str, Array]) -> list[SurfacePanel]:
    """One panel per norm with its kinks: theta = 0 in L2, points with a coordinate 0 in Linf."""
    line = np.stack([np.linspace(-REACH, REACH, 101), np.zeros(101)], -1)
    kinks = {"L2": [np.zeros((1, 2))], "Linf": [line, line[:, ::-1]]}
    return [SurfacePanel(f"adversarial, {BALLS[norm]}", values, kinks[norm]) for norm, values in attacked.items()]


def _draw_surfaces(surfaces: Callable[[int], list[SurfacePanel]], title: str, remark: str, grid_size: int) -> Figure:
    axis = np.linspace(-REACH, REACH, grid_size)
    labels = ("$θ_1$", "$θ_2$", "loss")
    return draw_surfaces(
        axis, axis, surfaces(grid_size), labels=labels, title=title, caption=f"{remark}\n{_SETUP_CAPTION}"
    )


class _Loss(NamedTuple):
    """A loss and its derivatives, each a function of theta (..., 2)."""

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    hessian: Callable[[Array], Array]


def _linear(eps: float, norm: str) -> _Loss:
    functions = (linear.logistic_adversarial_loss, linear.gradient, linear.hessian)
    return _Loss(*(partial(function, x=X, y=Y, eps=eps, norm=norm) for function in functions))


def _smoothed(gamma: float) -> _Loss:
    """L_gamma of the linear model's Linf loss minus log(gamma / 2 pi), its value for the zero loss by Eq. (10)."""
    smooth = EntropyLoss(_linear(EPS, "Linf").value, gamma, covering_rule(REACH, gamma, 2, order=6))
    return _Loss(lambda theta: smooth.value(theta) - np.log(gamma / (2 * np.pi)), smooth.gradient, smooth.hessian)


def draw_linear_lines(grid_size: int) -> Figure:
    """Losses and slopes along lines across the kinks of Fig. 2."""
    losses = {"standard": _linear(0.0, "L2"), **{BALLS[norm]: _linear(EPS, norm) for norm in NORMS}}
    colours = (COLOURS[6], COLOURS[0], COLOURS[1])
    return _draw_lines(losses, colours, grid_size, rows=2, title="Across the kinks of the linear model")


def draw_entropy_lines(grid_size: int) -> Figure:
    """Losses, slopes and second derivatives along lines across the kinks of Fig. 5."""
    losses = {BALLS["Linf"]: _linear(EPS, "Linf"), **{f"$γ = {gamma:g}$": _smoothed(gamma) for gamma in GAMMAS}}
    colours = (COLOURS[1], COLOURS[6], COLOURS[0], COLOURS[5])
    return _draw_lines(losses, colours, grid_size, rows=3, title="Across the kinks, with EntropySGD and without")


def _draw_lines(losses: Mapping[str, _Loss], colours: Any, grid_size: int, *, rows: int, title: str) -> Figure:
    """One column per line, with the first `rows` of: loss, slope in t, second derivative in t."""
    t = np.linspace(-REACH, REACH, 4 * grid_size)  # an even number, so that none is the kink at 0
    columns = []
    for line, (start, direction) in _LINES.items():
        theta = np.array(start) + t[:, None] * direction
        values = {name: loss.value(theta) for name, loss in losses.items()}
        slopes = {name: loss.gradient(theta) @ direction for name, loss in losses.items()}
        seconds = {name: loss.hessian(theta) @ direction @ direction for name, loss in losses.items()}
        panels = (
            LinePanel(f"loss at {line}", values),
            LinePanel(f"slope at {line}", slopes, jump=0.3),
            LinePanel(f"second derivative at {line}", seconds, jump=0.3),
        )
        columns.append(panels[:rows])
    return draw_panels(
        t,
        list(zip(*columns, strict=True)),
        {name: {"color": colour} for name, colour in zip(losses, colours, strict=True)},
        label="t",
        title=title,
        caption=f"{_KINKS_CAPTION}\n{_SETUP_CAPTION}",
    )


TOY_FIGURES: dict[str, Callable[[int], Figure]] = {
    "figure-1": draw_examples,
    "figure-2": partial(_draw_surfaces, linear_surfaces, "Losses of the linear model", _LINES_CAPTION),
    "figure-2-lines": draw_linear_lines,
    "figure-4": partial(
        _draw_surfaces, swish_surfaces, "Losses of the model with swish, attacked by PGD", _LINES_CAPTION
    ),
    "figure-5": partial(
        _draw_surfaces,
        entropy_surfaces,
        "The loss of EntropySGD: the linear model's adversarial loss, smoothed",
        "Dashes: points without a gradient according to the theory. The smaller γ, the wider the smoothing Gaussian.",
    ),
    "figure-5-lines": draw_entropy_lines,
}
"""By file name; the argument is draw_all's grid_size."""
