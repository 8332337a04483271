"""One network under one loss: every figure of smoothness that `python -m rb_smooth.smoothness` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rb_smooth.analysis.adversarial_loss import AdversarialLoss
from rb_smooth.analysis.smoothness.curvature import dominant_eigenvalue, estimate_trace, find_sharpness, top_eigenvalue
from rb_smooth.analysis.smoothness.probes import boundary_shares, probe
from rb_smooth.analysis.trained_model import TrainedModel, first_images
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.resolver import resolve_method
from rb_smooth.core.determinism import derive_seed
from rb_smooth.core.errors import UserError
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation import radii
from rb_smooth.evaluation.accuracy import measure_accuracy

_RANDOM, _POWER, _SIGNS = range(3)
"""Streams of randomness: directions, the start of power iteration, Hutchinson's signs."""


@dataclass(frozen=True)
class SmoothnessSettings:
    """n: training images, the first ones. steps, step: of PGD, and the length of one as a share of eps.

    radii, sharpness_radius: shares of ||w||. directions: random ones. products: of the Hessian, at most, for an
    eigenvalue. signs: random vectors for the trace. seed: of attacks' starts, directions and signs.
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
        counts = {"--n": self.n, "--steps": self.steps, "--directions": self.directions, "--products": self.products}
        if least := [f"{name} {value}" for name, value in counts.items() if value < 1]:
            raise UserError(f"expected at least 1, got {least[0]}; correct it")
        if self.signs < 2:
            raise UserError(f"expected --signs of at least 2, for an error bar, got {self.signs}; correct it")
        if not self.radii or min(*self.radii, self.sharpness_radius, self.step) <= 0:
            raise UserError(
                "expected radii and steps above 0, got others; correct --radii, --sharpness-radius or --step"
            )


def threats_by_loss(trained_model: TrainedModel, step: float, given: Mapping[str, float]) -> dict[str, Threat | None]:
    """The three losses by name: `standard`, and the adversarial ones in the L2 and in the Linf ball.

    Its own norm's ball is the one in which the specimen is evaluated; the other's that of the recipes at and at-l2 of
    its data set, or scaled as RobustBench's two balls are where there are no such recipes. given: radii that go before
    all of these, by norm. step: as a share of eps.
    """
    found: dict[str, Threat | None] = {"standard": None}
    for norm, method in (("L2", "at-l2"), ("Linf", "at")):
        if norm in given:
            eps = given[norm]
        elif trained_model.threat.norm == norm:
            eps = trained_model.threat.eps
        else:
            eps = _recipe_eps(trained_model.dataset, method) or trained_model.threat.eps * radii.norm_scale(
                norm, trained_model.threat.norm
            )
        found[norm] = Threat(norm, eps, step * eps)  # type: ignore[arg-type]
    return found


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
    """Everything about the weights `checkpoint` of `trained_model` under the loss with attacks in `threat`, as plain
    values.

    In float64, since differences of gradients at weights a ten-thousandth apart are looked at; a device without it
    is refused by torch. The Hessian is that of the loss at attacks crafted at w and held.
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

    def product(v: torch.Tensor) -> torch.Tensor:
        return loss.hessian_vector_product(x_adv, v)

    start = torch.randn(w.shape, generator=generator(_POWER), dtype=w.dtype).to(w)
    norm = dominant_eigenvalue(product, start, products=settings.products)
    top = top_eigenvalue(product, start, dominant=norm, products=settings.products)
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
    """By what a measurement is known again: the weights, the loss and how it is looked at."""
    from rb_smooth.core import files

    ball = None if threat is None else threat._asdict()
    told = {
        "name": trained_model.name,
        "method": trained_model.method,
        "dataset": trained_model.dataset,
        "seed": trained_model.seed,
    }
    weights = {"which": checkpoint, "weights_sha256": files.sha256(trained_model.weights[checkpoint])}
    return told | weights | {"under": loss, "threat": ball, "settings": asdict(settings)}
