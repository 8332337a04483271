"""Models that look more robust than they are, for trust checks: python tests/cheats.py [--write docs/trust.md]

Each is a small change to an honest net that makes it look more robust than it is, or makes figures of it mean nothing.
Prints cheat, check and verdict, or writes them into the page; the exit code is 1 if a verdict is not the expected one.
"""

from __future__ import annotations

import argparse
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from pyautoattack.autopgd_base import APGDAttack_targeted
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

import rb_smooth  # noqa: F401  (installs the bridge before anything imports robustbench)
from rb_smooth.components.models import Normalized
from rb_smooth.core.threat import Threat
from rb_smooth.data import datasets
from rb_smooth.data.images import Images, iterate_batches
from rb_smooth.evaluation import autoattack
from rb_smooth.evaluation import checks as trust
from rb_smooth.evaluation.accuracy import fraction, is_correct, measure_accuracy
from rb_smooth.evaluation.checks.verdicts import Check, Verdict

THREAT = Threat("Linf", 0.1, 0.02)
CLASSES = 10
FEW = 24  # points that are attacked
BEGIN, END = "<!-- made by tests/cheats.py -->", "<!-- end -->"


def trained_net() -> tuple[Normalized, Images]:
    """A small net that knows the digits, plainly trained in half a second, and 48 test points.

    Its mean and standard deviation are not those of the digits, but rounded from other images, as often happens.
    """
    torch.manual_seed(0)
    source = datasets.digits(Path())
    layers = [nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)]
    net = Normalized(nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 16, CLASSES)), [0.5], [0.25])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    ((x, y),) = iterate_batches(source.train, len(source.train), torch.device("cpu"))
    for _ in range(6):
        for part in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[part]), y[part], label_smoothing=0.05).backward()
            optimizer.step()
    return net.eval(), source.test[:48]


class Around(nn.Module):
    """A net with something before it and something after it."""

    def __init__(
        self,
        net: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda z: z,
    ):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


# --- the forward pass ---------------------------------------------------------------------------------------------


class AlwaysOnDropout(nn.Dropout):
    """Dropout that never hears eval()."""

    def train(self, mode: bool = True) -> AlwaysOnDropout:
        return super().train(True)


def with_batch_statistics(net: Normalized) -> nn.Module:
    """BatchNorm that normalises by the batch, in eval mode too."""
    net = deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = layer.running_var = None
            layer.track_running_stats = False
    return net


def resized_at_random(x: Tensor) -> Tensor:
    size = int(torch.randint(6, 9, ()))
    small, left = F.interpolate(x, size=(size, size)), int(torch.randint(0, 9 - size, ()))
    return F.pad(small, (left, 8 - size - left, 0, 8 - size))


def noise_of_the_image(x: Tensor) -> Tensor:
    """The same noise for the same image, drawn from a hash of it: no repetition shows it."""
    generator = torch.Generator()
    noise = [
        torch.randn(x.shape[1:], generator=generator.manual_seed(zlib.crc32(image.numpy().tobytes())))
        for image in x.detach()
    ]
    return x + 0.2 * torch.stack(noise)


class TestSetMemoriser(nn.Module):
    """Knows the test points, and answers rightly whatever the net says, unless a pixel was touched."""

    def __init__(self, net: nn.Module, points: Images):
        super().__init__()
        self.net = net
        ((x, y),) = iterate_batches(points, len(points), torch.device("cpu"))
        self.known = {image.numpy().tobytes(): int(label) for image, label in zip(x, y)}

    def forward(self, x: Tensor) -> Tensor:
        label = [self.known.get(image.detach().numpy().tobytes(), -1) for image in x]
        return self.net(x) + 100 * F.one_hot(torch.tensor(label) + 1, CLASSES + 1)[:, 1:]


class RunningMeanSubtractor(nn.Module):
    """Keeps a running mean of what it is shown, attacks included, and subtracts it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.register_buffer("seen", torch.zeros(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = 0.9 * self.seen + 0.1 * x.detach().mean(0, keepdim=True)
        return self.net(x - self.seen)


class PreviousBatchMixer(nn.Module):
    """Mixes in what it answered to the batch before this one, in no buffer; to the same batch, again the same."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.shown = net, torch.zeros(0)
        self.answered = self.before = torch.zeros(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        if not torch.equal(x, self.shown):
            self.shown, self.before, self.answered = x.detach().clone(), self.answered, logits.detach().mean(0)
        return logits + self.before


def rounds_input_in_place(x: Tensor) -> Tensor:
    """Rounds the attacker's own image, out of autograd's sight."""
    x.data.copy_((x.data * 4).round() / 4 + 0.01)
    return x


class GradientModeSwitcher(nn.Module):
    """Shows another face to whoever wants gradients."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (0.01 if x.requires_grad else 1)


class GradientPurifier(nn.Module):
    """Walks to where the net is surest before it answers."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            with torch.enable_grad():
                z = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.net(z).logsumexp(1).sum(), z)
            x = x + 0.01 * slope.sign()
        return self.net(x)


class ShiftSearcher(nn.Module):
    """The same without gradients: of several shifted images, the one of which the net is surest."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x.roll(k, 3)) for k in (-2, -1, 0, 1, 2)]).amax(0)


# --- gradients ----------------------------------------------------------------------------------------------------


def rounded(x: Tensor) -> Tensor:
    return (x * 6).round() / 6


def thermometer(x: Tensor) -> Tensor:
    """Each pixel as a row of switches, counted. Buckman et al., ICLR 2018: a step function, whose slopes are zero."""
    levels = torch.linspace(0.1, 0.9, 9).view(-1, 1, 1, 1, 1)
    return (x > levels).float().mean(0) + 0 * x


def high_temperature(logits: Tensor) -> Tensor:
    """As defensive distillation leaves them: trained at a temperature of 100, and asked at 1."""
    return 100 * logits


def one_hot(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(1), CLASSES)


class SaturatingSoftmax(nn.Module):
    """Saturates softmax wherever pixels are not whole grey levels: at no test point, but under attack."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        levels, logits = 255 * x.detach(), self.net(x)
        whole = ((levels - levels.round()).abs() < 1e-3).flatten(1).all(1, keepdim=True)
        return torch.where(whole, logits, high_temperature(logits))


class ReversedGradient(torch.autograd.Function):
    """The identity, whose backward pass negates the gradient."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context, slope: Tensor) -> Tensor:
        return -slope


def add_ripples(x: Tensor, length: float) -> Tensor:
    """Add an oscillation of this wavelength and small amplitude, whose slope is larger than that of the net."""
    wave = 2 * math.pi / length
    return x + 20 / wave * torch.sin(wave * x)


# --- under attack -------------------------------------------------------------------------------------------------


class GradientStopper(nn.Module):
    """Lets no gradient through once it has been asked so often: the attack that comes later finds less."""

    def __init__(self, net: nn.Module, patience: int):
        super().__init__()
        self.net, self.asked, self.patience = net, 0, patience

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return self.net(x if self.asked <= self.patience else x.detach() + 0 * x)


class ClassSwapper(nn.Module):
    """Mixes up its classes once it has been asked so often."""

    def __init__(self, net: nn.Module, patience: int):
        super().__init__()
        self.net, self.asked, self.patience = net, 0, patience

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return self.net(x).roll(int(self.asked > self.patience), 1)


# --- the table ----------------------------------------------------------------------------------------------------


class Cheat(NamedTuple):
    """make: the cheat, from an honest net of its own and the points. expected: what the checks meant for it say.

    attacks: those of AutoAttack that must be made before it is caught.
    """

    what: str
    expected: dict[str, Verdict]
    make: Callable[[Normalized, Images], nn.Module]
    attacks: tuple[str, ...] = ()

    def checks(self, net: Normalized, points: Images) -> list[Check]:
        """What trust checks say of it: those before the attack, or those after."""
        model = self.make(deepcopy(net), points)
        if not self.attacks:
            return trust.pre_attack_checks(model, points, THREAT, CLASSES)
        return post_attack_verdicts(model, points[:FEW], self.attacks)


def post_attack_verdicts(
    model: nn.Module, points: Images, attacks: tuple[str, ...], threat: Threat = THREAT
) -> list[Check]:
    """What the checks after an evaluation with these of AutoAttack's attacks say."""
    withstood, clean = is_correct(model, points, threat), measure_accuracy(model, points)
    less = fewer_iterations(SquareAttack, n_queries=625), fewer_iterations(APGDAttack_targeted, n_iter=10)
    with mock.patch.dict(autoattack.VERSIONS, standard=attacks), less[0], less[1]:
        result = autoattack.run_autoattack(model, points, threat, classes=CLASSES, batch_size=FEW, seed=0)
    return trust.post_attack_checks(model, points, threat, result, clean=clean, pgd20=fraction(withstood))


@contextmanager
def fewer_iterations(attack: type, **settings: int) -> Iterator[None]:
    """Inside, an attack of AutoAttack is given less time: what is looked for here shows early."""
    perturb = attack.perturb

    def perturb_early(self, *given):
        vars(self).update(settings)
        return perturb(self, *given)

    with mock.patch.object(attack, "perturb", perturb_early):
        yield


def on_input(what: str, check: str, verdict: Verdict, change: Callable[[Tensor], Tensor]) -> Cheat:
    """A cheat that changes the image before the net sees it."""
    return Cheat(what, {check: verdict}, lambda net, _: Around(net, before=change))


def on_logits(what: str, check: str, verdict: Verdict, change: Callable[[Tensor], Tensor]) -> Cheat:
    """A cheat that changes the net's logits."""
    return Cheat(what, {check: verdict}, lambda net, _: Around(net, after=change))


def on_model(
    what: str, check: str, verdict: Verdict, wrap: Callable[[Normalized], nn.Module], attacks: tuple[str, ...] = ()
) -> Cheat:
    """A cheat that is a module of its own around the net."""
    return Cheat(what, {check: verdict}, lambda net, _: wrap(net), attacks)


_APGD = ("apgd-ce",)


CHEATS = [
    on_logits("eleven logits for ten classes", "shape of logits", "failed", lambda z: F.pad(z, (0, 1))),
    on_logits("logits that are NaN", "finite logits", "failed", lambda z: (z - z.mean()).sqrt()),
    on_model("dropout that ignores eval()", "eval mode", "failed", lambda n: nn.Sequential(n, AlwaysOnDropout(0.3))),
    on_model("test-time adaptation in a buffer", "leaves no trace", "failed", RunningMeanSubtractor),
    on_input("modifies its input in place", "leaves no trace", "failed", rounds_input_in_place),
    on_input("noise on the image", "one answer", "failed", lambda x: x + 0.2 * torch.randn_like(x)),
    on_input("random resizing and padding", "one answer", "failed", resized_at_random),
    on_input("dropout called with training=True", "one answer", "failed", lambda x: F.dropout(x, 0.2, True)),
    on_model("adds its output for the previous batch", "one answer", "failed", PreviousBatchMixer),
    on_model("other logits when gradients are enabled", "one answer", "failed", GradientModeSwitcher),
    on_model("BatchNorm by the batch in eval mode", "independent of the batch", "failed", with_batch_statistics),
    on_logits("softmax at the end", "logits, not probabilities", "failed", lambda z: z.softmax(1)),
    on_logits("one-hot outputs", "logits, not probabilities", "failed", lambda z: one_hot(z) + 0 * z),
    on_model("gradient steps at inference", "one pass", "failed", GradientPurifier),
    on_model("search at inference, without gradients", "one pass", "unreliable", ShiftSearcher),
    Cheat("recognises the test points", {"no jumps": "failed"}, TestSetMemoriser),
    on_input("noise drawn from a hash of the image", "no jumps", "failed", noise_of_the_image),
    on_input("detached image", "gradients", "failed", lambda x: x.detach()),
    on_input("image rounded to seven levels", "gradients", "failed", rounded),
    on_input("thermometer encoding", "gradients", "failed", thermometer),
    on_logits("defensive distillation: logits times 100", "gradients", "unreliable", high_temperature),
    on_model("logits times 100 under attack alone", "gradients", "unreliable", SaturatingSoftmax),
    on_logits("clipped logits", "gradients", "unreliable", lambda z: z.clamp(-0.5, 0.5)),
    on_input("a gradient with the wrong sign", "true derivatives", "unreliable", ReversedGradient.apply),
    on_input(
        "an oscillation of wavelength 0.0003 in the input",
        "true derivatives",
        "unreliable",
        lambda x: add_ripples(x, 3e-4),
    ),
    on_input(
        "an oscillation of wavelength 0.01 in the input",
        "true derivatives",
        "unreliable",
        lambda x: add_ripples(x, 1e-2),
    ),
    on_logits("a large constant added to the logits", "true derivatives", "unreliable", lambda z: z + 1e6),
    on_model("normalisation outside", "normalisation inside", "failed", lambda n: n.net),
    on_input("expects pixels from 0 to 255", "normalisation inside", "failed", lambda x: x / 255),
    on_logits("classes in another order", "better than guessing", "unreliable", lambda z: z.roll(1, 1)),
    Cheat(
        "image rounded to seven levels, attacked",
        dict.fromkeys(
            ("AutoAttack's warnings", "no black box ahead", "falls as eps grows", "loss above chance"), "unreliable"
        ),
        lambda net, _: Around(net, before=rounded),
        ("apgd-t", "square"),
    ),
    on_model(
        "defensive distillation, attacked",
        "falls as eps grows",
        "unreliable",
        lambda n: Around(n, after=high_temperature),
        _APGD,
    ),
    # clean accuracy and PGD-20 take 22 passes, and the attack one more before it begins
    on_model(
        "no gradients after 23 passes",
        "as strong as PGD-20",
        "unreliable",
        lambda n: GradientStopper(n, 23),
        _APGD,
    ),
    on_model("other outputs after 22 passes", "one clean accuracy", "unreliable", lambda n: ClassSwapper(n, 22), _APGD),
    on_model(
        "other outputs after 130 passes", "unchanged by the attack", "unreliable", lambda n: ClassSwapper(n, 130), _APGD
    ),
]


def rows(cheats: list[Cheat] = CHEATS) -> Iterator[str]:
    """The table, a line each, of what is expected."""
    yield "| model | check | verdict |"
    yield "|---|---|---|"
    for cheat in cheats:
        for check, verdict in cheat.expected.items():
            yield f"| {cheat.what} | {check} | {verdict} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="a page, whose table is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    net, points = trained_net()
    escaped = 0
    for cheat in CHEATS:
        said = {check.name: check for check in cheat.checks(net, points)}
        for name, verdict in cheat.expected.items():
            escaped += said[name].verdict != verdict
            print(f"{cheat.what}: {name}: {said[name].verdict}: {said[name].found}")
    count = sum(len(cheat.expected) for cheat in CHEATS)
    print(f"{count - escaped} of {count} verdicts are as expected")
    if options.write and not escaped:
        head, _, rest = options.write.read_text().partition(BEGIN)
        tail = rest.partition(END)[2]
        options.write.write_text("\n".join([head + BEGIN, *rows(), END]) + tail)
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
