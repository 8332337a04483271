"""The two-parameter nonlinear toy of Kanai et al., arXiv 2103.01400: swish before the logistic output.

    loss(x', theta) = log(1 + exp(-y swish(theta . x'))),    swish(z) = z sigma(z)
    L_eps(theta)    = max over ||x' - x||_p <= eps of loss(x', theta), by PGD, Eq. (1)

Swish has a minimum, so that the worst x' may also lie inside the ball (Lemma 4), or jump from one of its ends to the
other.

Every function takes theta (..., d), one x (d,), its y in {-1, 1}, eps >= 0 and norm "L2" or "Linf".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import expit

from rb_smooth.analysis.plot_style import save_png_and_svg
from rb_smooth.analysis.theory import linear
from rb_smooth.analysis.theory.entropy import EntropyLoss, covering_rule
from rb_smooth.analysis.theory.linear import NORMS
from rb_smooth.analysis.theory.numeric import Array
from rb_smooth.analysis.theory.plot_balls import BALLS, draw_rotation
from rb_smooth.analysis.theory.plot_surfaces import LinePanel, SurfacePanel, draw_panels, draw_surfaces
from rb_smooth.core.errors import UserError, did_you_mean
from rb_smooth.training.run_folder.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_STEPS = 60
_FIRST_STEP_SIZE = 4.0
_STEP_DECAY = 0.8
"""Steps are eps * _FIRST * _SHRINK**k: across the ball at first, 1e-5 of it in the end."""


def swish(z: Array) -> Array:
    """z sigma(z), of z's shape; its minimum is -0.2785, at z = -1.2785."""
    return z * expit(z)


def swish_loss(theta: Array, x: Array, y: float) -> Array:
    """The loss of theta (..., d) at x (..., d) without an attack, (...); leading axes broadcast."""
    return np.logaddexp(0.0, -y * swish((theta * x).sum(-1)))


def swish_adversarial_loss(theta: Array, x: Array, y: float, eps: float, norm: str) -> Array:
    """L_eps(theta), (...): the largest loss that PGD met on its way from 3^d starts, x itself, the ball's corners and
    the middles of its sides among them; all theta and starts at once.

    It never exceeds the maximum. Raises UserError for an unknown norm.
    """
    if norm not in NORMS:
        raise UserError(f"expected a norm, {did_you_mean(norm, NORMS)}")
    best = np.full(theta.shape[:-1], -np.inf)
    for start in product((-1.0, 0.0, 1.0), repeat=theta.shape[-1]):
        delta = np.broadcast_to(_project(eps * np.array(start), eps, norm), theta.shape)
        for k in range(_STEPS):
            uphill = _direction(_input_gradient(theta, x + delta, y), norm)
            delta = _project(delta + eps * _FIRST_STEP_SIZE * _STEP_DECAY**k * uphill, eps, norm)
            best = np.maximum(best, swish_loss(theta, x + delta, y))
    return best


def _input_gradient(theta: Array, x: Array, y: float) -> Array:
    """Of the loss: -y sigma(-y swish(z)) swish'(z) theta at z = theta . x."""
    z = (theta * x).sum(-1, keepdims=True)
    slope = expit(z) * (1 + z * expit(-z))
    return -y * expit(-y * swish(z)) * slope * theta


def _direction(gradient: Array, norm: str) -> Array:
    """Steepest ascent among steps of length 1; no step where there is no gradient."""
    if norm == "Linf":
        return np.sign(gradient)
    length = np.linalg.norm(gradient, axis=-1, keepdims=True)
    return gradient / np.where(length == 0, 1.0, length)


def _project(delta: Array, eps: float, norm: str) -> Array:
    """The nearest point of the ball around 0."""
    if norm == "Linf":
        return np.clip(delta, -eps, eps)
    length = np.linalg.norm(delta, axis=-1, keepdims=True)
    return delta * (eps / np.maximum(length, eps)) if eps else 0.0 * delta


X, Y, EPS = np.array([-1.0, -0.5]), -1.0, 1.5
"""The data point, and the radius of both balls."""

GAMMAS = (30.0, 6.0, 1.0)
"""Of the losses of EntropySGD, from sharp to smooth: their Gaussians' widths are 0.18, 0.41 and 1."""

REACH = 1.5
"""Every surface is drawn where |theta_1|, |theta_2| <= REACH."""

_LINES = {"θ = (0.5, t)": ([0.5, 0.0], [0.0, 1.0]), "θ = (t, t)": ([0.0, 0.0], [1.0, 1.0])}
"""Each a start and a direction: one crosses a single kink of the L-infinity ball's loss, one goes through 0."""

_KINKS_CAPTION = (
    "θ = (0.5, t) crosses one kink, that of the $L_∞$ ball's loss at $θ_2 = 0$; θ = (t, t) goes through θ = 0."
)
_SETUP_CAPTION = "x = (−1, −0.5), y = −1, ε = 1.5: our own x and ε; the paper's are not known to us."
_LINES_CAPTION = "Dashes and dot: where theory says that there is no gradient."


def draw_all(folder: Path, points: int = 91) -> list[Path]:
    """Draw every figure into `folder`, as PNG and SVG, and return the files. points: odd, on each axis of a surface.

    Raises UserError if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for figures, got the file {folder}; choose another name")
    return [path for name, draw in FIGURES.items() for path in save_png_and_svg(draw(points), folder / name)]


def draw_examples(points: int) -> Figure:
    """Fig. 1: x' while theta turns by 80 degrees, past theta_1 = 0."""
    angles = np.linspace(50, 130, 2 * points)  # an even number of them: theta_1 is never 0
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


def linear_surfaces(points: int) -> list[SurfacePanel]:
    """Of Fig. 2: losses of the linear model, in closed form."""
    theta = theta_grid(points)
    attacked = {norm: linear.logistic_adversarial_loss(theta, X, Y, EPS, norm) for norm in NORMS}
    return [SurfacePanel("standard", linear.logistic_loss(theta, X, Y)), *_surfaces_with_kinks(attacked)]


def swish_surfaces(points: int) -> list[SurfacePanel]:
    """Of Fig. 4: losses of the swish toy, attacked by PGD."""
    theta = theta_grid(points)
    attacked = {norm: swish_adversarial_loss(theta, X, Y, EPS, norm) for norm in NORMS}
    return [SurfacePanel("standard", swish_loss(theta, X, Y)), *_surfaces_with_kinks(attacked)]


def entropy_surfaces(points: int) -> list[SurfacePanel]:
    """Of Fig. 5: the linear model's L-infinity loss, and L_gamma of it for each of GAMMAS."""
    theta = theta_grid(points)
    smoothed = {gamma: _smoothed(gamma).value(theta) for gamma in GAMMAS}
    itself = _surfaces_with_kinks({"Linf": linear.logistic_adversarial_loss(theta, X, Y, EPS, "Linf")})
    return [*itself, *(SurfacePanel(f"EntropySGD, $γ = {gamma:g}$", values) for gamma, values in smoothed.items())]


def theta_grid(points: int) -> Array:
    """theta (points, points, 2) up to REACH, theta_1 along the rows."""
    return np.stack(np.meshgrid(*[np.linspace(-REACH, REACH, points)] * 2), -1)


def _surfaces_with_kinks(attacked: Mapping[str, Array]) -> list[SurfacePanel]:
    """Surfaces by norm, with their kinks: at theta = 0 in L2, where a coordinate is 0 in L-infinity."""
    line = np.stack([np.linspace(-REACH, REACH, 101), np.zeros(101)], -1)
    kinks = {"L2": [np.zeros((1, 2))], "Linf": [line, line[:, ::-1]]}
    return [SurfacePanel(f"adversarial, {BALLS[norm]}", values, kinks[norm]) for norm, values in attacked.items()]


def _draw_surfaces(surfaces: Callable[[int], list[SurfacePanel]], title: str, remark: str, points: int) -> Figure:
    axis = np.linspace(-REACH, REACH, points)
    labels = ("$θ_1$", "$θ_2$", "loss")
    return draw_surfaces(
        axis, axis, surfaces(points), labels=labels, title=title, caption=f"{remark}\n{_SETUP_CAPTION}"
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
    """L_gamma of the linear model's L-infinity loss, without the Gaussian's own part of Eq. (10), log(gamma / 2 pi): a
    loss that is 0 stays 0.
    """
    smooth = EntropyLoss(_linear(EPS, "Linf").value, gamma, covering_rule(REACH, gamma, 2, order=6))
    return _Loss(lambda theta: smooth.value(theta) - np.log(gamma / (2 * np.pi)), smooth.gradient, smooth.hessian)


def draw_linear_lines(points: int) -> Figure:
    """Beside Fig. 2: losses and slopes along lines across its kinks."""
    losses = {"standard": _linear(0.0, "L2"), **{BALLS[norm]: _linear(EPS, norm) for norm in NORMS}}
    colours = (COLOURS[6], COLOURS[0], COLOURS[1])
    return _draw_lines(losses, colours, points, rows=2, title="Across the kinks of the linear model")


def draw_entropy_lines(points: int) -> Figure:
    """Beside Fig. 5: losses, slopes and second derivatives along lines across its kinks."""
    losses = {BALLS["Linf"]: _linear(EPS, "Linf"), **{f"$γ = {gamma:g}$": _smoothed(gamma) for gamma in GAMMAS}}
    colours = (COLOURS[1], COLOURS[6], COLOURS[0], COLOURS[5])
    return _draw_lines(losses, colours, points, rows=3, title="Across the kinks, with EntropySGD and without")


def _draw_lines(losses: Mapping[str, _Loss], colours: Any, points: int, *, rows: int, title: str) -> Figure:
    """A column for each line; its first `rows` of the loss, its slope in t and its second derivative in t."""
    t = np.linspace(-REACH, REACH, 4 * points)  # an even number of them: none is 0, where there is a kink
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


FIGURES: dict[str, Callable[[int], Figure]] = {
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
        "Dashes: where theory says that there is no gradient. The smaller γ, the wider the Gaussian that smooths.",
    ),
    "figure-5-lines": draw_entropy_lines,
}
"""By file name; each takes `points`, as draw_all does."""
