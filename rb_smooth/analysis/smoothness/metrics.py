"""Smoothness metrics of one network under one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rb_smooth.analysis.adversarial_loss import AdversarialLoss
from rb_smooth.analysis.smoothness.curvature import dominant_eigenvalue, estimate_trace, find_sharpness, top_eigenvalue
from rb_smooth.analysis.trained_model import TrainedModel, first_images
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.resolver import resolve_method
from rb_smooth.core import files
from rb_smooth.core.determinism import derive_seed
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation import radii
from rb_smooth.evaluation.accuracy import measure_accuracy

_AT_BOUNDARY = 0.999
"""Perturbations of at least this share of eps count as on the ball's boundary."""

_RANDOM, _POWER, _SIGNS = range(3)
"""Random streams: directions, start of the power iteration, Hutchinson's signs."""


@dataclass(frozen=True)
class SmoothnessSettings:
    """Options of `python -m rb_smooth.smoothness`. Raises UserError for values out of range.

    n: number of training images, the first ones. steps, step: PGD's number of steps, and its step size / eps.
    radii, sharpness_radius: shares of ||w||. directions: number of random directions. products: most Hessian-vector
    products per eigenvalue. signs: random vectors for the trace. seed: of PGD's starts, directions and signs.
    """

    n: int = 128
    steps: int = 20
    step: float = 0.2
    radii: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    sharpness_radius: float = 5e-3
    directions: int = 4
    products: int = 100
    signs: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n", "steps", "directions", "products"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"expected --{name} of at least 1, got {value}; raise it")
        if self.signs < 2:
            raise UserError(f"expected --signs of at least 2 for a standard error, got {self.signs}; raise it")
        lengths = {"--radii": self.radii, "--sharpness-radius": [self.sharpness_radius], "--step": [self.step]}
        for name, values in lengths.items():
            if not (smallest := min(values, default=0.0)) > 0:
                raise UserError(f"expected {name} above 0, got {smallest:g}; raise it")


def threats_by_loss(trained_model: TrainedModel, step: float, eps: Mapping[str, float]) -> dict[str, Threat | None]:
    """Threat models of the losses `standard` (None), `L2` and `Linf`. step: step size / eps.

    The radius for a norm is that in `eps`, else that of the model's own evaluation if it has that norm, else that of
    the dataset's recipe at or at-l2, else the own radius scaled by the ratio of RobustBench's radii.
    """
    threats: dict[str, Threat | None] = {"standard": None}
    for norm, method in (("L2", "at-l2"), ("Linf", "at")):
        own = trained_model.threat
        if norm in eps:
            radius = eps[norm]
        elif own.norm == norm:
            radius = own.eps
        else:
            radius = _recipe_eps(trained_model.dataset, method) or own.eps * radii.norm_scale(norm, own.norm)
        threats[norm] = Threat(norm, radius, step * radius)  # type: ignore[arg-type]
    return threats


def _recipe_eps(dataset: str, method: str) -> float | None:
    try:
        return float(resolve_method(dataset, method, shipped_only=True)[1]["objective"]["eps"])
    except (UserError, KeyError):
        return None


def smoothness_metrics(
    trained_model: TrainedModel,
    checkpoint: str,
    threat: Threat | None,
    settings: SmoothnessSettings,
    device: torch.device,
) -> dict[str, Any]:
    """All metrics of one checkpoint under the adversarial loss in `threat` (None: standard loss), as JSON values.

    Computed in float64, for differences of gradients at weights 1e-4 apart; torch raises on devices without it. The
    Hessian is that of the loss at attacks computed at w and fixed.
    """
    model = trained_model.load(checkpoint).to(device)
    choose_threads(model, trained_model.train.shape, settings.n)
    clean = measure_accuracy(model, trained_model.test)
    loss = AdversarialLoss(
        model.double(), first_images(trained_model.train, settings.n), threat, steps=settings.steps, seed=settings.seed
    )
    w, x_adv = loss.weights, loss.adversarial_examples()

    def generator(stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(settings.seed, stream))

    def product(v: Tensor) -> Tensor:
        return loss.hessian_vector_product(x_adv, v)

    start = torch.randn(w.shape, generator=generator(_POWER), dtype=w.dtype).to(w)
    norm = dominant_eigenvalue(product, start, products=settings.products)
    top = top_eigenvalue(product, start, norm, products=settings.products)
    return {
        "clean": clean,
        "loss": loss.value(x_adv),
        "gradient": loss.gradient(x_adv).norm().item(),
        "weights": w.norm().item(),
        "probes": [
            each._asdict() for each in probe(loss, x_adv, settings.radii, settings.directions, generator(_RANDOM))
        ],
        "boundary": None if threat is None else boundary_shares(loss.x, x_adv, *threat[:2])._asdict(),
        "top_eigenvalue": top._asdict(),
        "norm": abs(norm.value),
        "trace": estimate_trace(product, w, samples=settings.signs, generator=generator(_SIGNS))._asdict(),
        "sharpness": find_sharpness(loss, x_adv, settings.sharpness_radius, abs(norm.value))._asdict(),
    }


def record_key(
    trained_model: TrainedModel, checkpoint: str, loss: str, threat: Threat | None, settings: SmoothnessSettings
) -> dict[str, Any]:
    """The fields that identify a measurement: network, weights, loss and settings."""
    return {
        "name": trained_model.name,
        "method": trained_model.method,
        "dataset": trained_model.dataset,
        "seed": trained_model.seed,
        "which": checkpoint,
        "weights_sha256": files.sha256(trained_model.weights[checkpoint]),
        "under": loss,
        "threat": None if threat is None else threat._asdict(),
        "settings": asdict(settings),
    }


class Probe(NamedTuple):
    """A step from w1 = w to w2 = w + radius ||w|| u, for one unit vector u.

    direction: `descent` or `random`.
    lipschitz: ||g(w1) - g(w2)|| / ||w1 - w2||, g the gradient with attacks recomputed at each point: a lower bound of
               the constant of Eq. (3) of Kanai et al.
    moved:     mean over images of ||x'(w1) - x'(w2)||_2 / diameter of the ball in L2 (`diameter`).
    """

    direction: str
    radius: float
    lipschitz: float
    moved: float


def probe(
    loss: AdversarialLoss, x_adv: Tensor, radii: Sequence[float], directions: int, generator: torch.Generator
) -> list[Probe]:
    """Probes at each of `radii` (shares of ||w||), down the gradient and along random directions.

    directions: number of random directions, uniform on the sphere, from `generator` on the CPU. x_adv:
    `loss.adversarial_examples()` at w.
    """
    w = loss.weights
    g = loss.gradient(x_adv)
    unit_vectors = [("descent", -g / g.norm())]
    for _ in range(directions):
        u = torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w)
        unit_vectors.append(("random", u / u.norm()))
    probes = []
    for name, u in unit_vectors:
        for radius in radii:
            step = radius * float(w.norm())
            with loss.at_weights(w + step * u):
                moved = loss.adversarial_examples()
                change = loss.gradient(moved) - g
            distance = (moved - x_adv).flatten(1).norm(dim=1).mean().item()
            share = distance / diameter(loss) if loss.threat else 0.0
            probes.append(Probe(name, radius, float(change.norm()) / step, share))
    return probes


def diameter(loss: AdversarialLoss) -> float:
    """L2 diameter of the loss's ball: 2 eps in L2, 2 eps sqrt(d) in Linf."""
    assert loss.threat is not None
    dimensions = loss.x[0].numel() if loss.threat.norm == "Linf" else 1
    return 2 * loss.threat.eps * dimensions**0.5


class Boundary(NamedTuple):
    """Shares in [0, 1] on the boundary. images: perturbations of norm eps. pixels: perturbations of +-eps, or values at
    an end of [0, 1]; None in L2.
    """

    images: float
    pixels: float | None


def boundary_shares(x: Tensor, x_adv: Tensor, norm: str, eps: float) -> Boundary:
    """Shares of adversarial examples x_adv of x, both (N, C, H, W) in [0, 1], on the boundary of their balls.

    Lemma 4 of Kanai et al. is about examples inside the ball, Lemma 5 about those on the boundary in L2.
    """
    shift = (x_adv - x).flatten(1)
    order = float("inf") if norm == "Linf" else 2
    images = (shift.norm(order, dim=1) >= _AT_BOUNDARY * eps).double().mean().item()
    if norm != "Linf":
        return Boundary(images, None)
    at_face = (shift.abs() >= _AT_BOUNDARY * eps) | (x_adv.flatten(1) <= 0) | (x_adv.flatten(1) >= 1)
    return Boundary(images, at_face.double().mean().item())
