"""One network under one loss: every figure of smoothness that `python -m rb_smooth.smoothness` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rb_smooth.analysis.adversarial_loss import AdversarialLoss
from rb_smooth.analysis.smoothness.curvature import dominant_eigenvalue, estimate_trace, find_sharpness, top_eigenvalue
from rb_smooth.analysis.smoothness.probes import boundary_shares, probe
from rb_smooth.analysis.trained_model import Specimen, first_images
from rb_smooth.components.flops import choose_threads
from rb_smooth.config.resolver import resolve
from rb_smooth.core.determinism import mix
from rb_smooth.core.errors import Refused
from rb_smooth.core.threat import Threat
from rb_smooth.evaluation import radii
from rb_smooth.evaluation.accuracy import accuracy

_RANDOM, _POWER, _SIGNS = range(3)
"""Streams of randomness: directions, the start of power iteration, Hutchinson's signs."""


@dataclass(frozen=True)
class Settings:
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
            raise Refused(f"expected at least 1, got {least[0]}; correct it")
        if self.signs < 2:
            raise Refused(f"expected --signs of at least 2, for an error bar, got {self.signs}; correct it")
        if not self.radii or min(*self.radii, self.sharpness_radius, self.step) <= 0:
            raise Refused("expected radii and steps above 0, got others; correct --radii, --sharpness-radius or --step")


def balls_of(specimen: Specimen, step: float, given: Mapping[str, float]) -> dict[str, Threat | None]:
    """The three losses by name: `standard`, and the adversarial ones in the L2 and in the Linf ball.

    Its own norm's ball is the one in which the specimen is evaluated; the other's that of the recipes at and at-l2 of
    its data set, or scaled as RobustBench's two balls are where there are no such recipes. given: radii that go before
    all of these, by norm. step: as a share of eps.
    """
    found: dict[str, Threat | None] = {"standard": None}
    for norm, method in (("L2", "at-l2"), ("Linf", "at")):
        if norm in given:
            eps = given[norm]
        elif specimen.threat.norm == norm:
            eps = specimen.threat.eps
        else:
            eps = _recipe_eps(specimen.dataset, method) or specimen.threat.eps * radii.scale(norm, specimen.threat.norm)
        found[norm] = Threat(norm, eps, step * eps)  # type: ignore[arg-type]
    return found


def _recipe_eps(dataset: str, method: str) -> float | None:
    try:
        return float(resolve(dataset, method, shipped_only=True)[1]["objective"]["eps"])
    except (Refused, KeyError):
        return None


def measured(
    specimen: Specimen, which: str, threat: Threat | None, settings: Settings, device: torch.device
) -> dict[str, Any]:
    """Everything about the weights `which` of `specimen` under the loss with attacks in `threat`, as plain values.

    In float64, since differences of gradients at weights a ten-thousandth apart are looked at; a device without it
    is refused by torch. The Hessian is that of the loss at attacks crafted at w and held.
    """
    model = specimen.load(which).to(device)
    choose_threads(model, specimen.train.shape, settings.n)
    clean = accuracy(model, specimen.test)
    loss = AdversarialLoss(
        model.double(), first_images(specimen.train, settings.n), threat, steps=settings.steps, seed=settings.seed
    )
    w, x_adv = loss.weights, loss.attacks()

    def generator(stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix(settings.seed, stream))

    def product(v: torch.Tensor) -> torch.Tensor:
        return loss.hessian_product(x_adv, v)

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


def named(specimen: Specimen, which: str, loss: str, threat: Threat | None, settings: Settings) -> dict[str, Any]:
    """By what a measurement is known again: the weights, the loss and how it is looked at."""
    from rb_smooth.core import files

    ball = None if threat is None else threat._asdict()
    told = {"name": specimen.name, "method": specimen.method, "dataset": specimen.dataset, "seed": specimen.seed}
    weights = {"which": which, "weights_sha256": files.sha256(specimen.weights[which])}
    return told | weights | {"under": loss, "threat": ball, "settings": asdict(settings)}
