"""Any torch optimizer as one of ours: `optimizer: {name: torch.AdamW, lr: 1e-3}` in a recipe.

`torch_optimizer(cls)` adds to a subclass of torch.optim.Optimizer what `interfaces.Optimizer` asks for, with the
options of its constructor. A recipe names those of torch.optim only; another package wraps its own
(docs/adding-a-method.md).
"""

from __future__ import annotations

import inspect
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import torch
from pydantic import Field, NonNegativeFloat, NonPositiveFloat
from torch import Tensor

from rb_smooth.core.errors import UserError, did_you_mean, first_line

_Fraction = Annotated[NonNegativeFloat, Field(lt=1).metadata[0]]

_OPTIONS: dict[str, tuple[Any, str]] = {
    "lr": (NonNegativeFloat, "learning rate, multiplied by the schedule"),
    "momentum": (_Fraction, "decay of the momentum buffer per step"),
    "dampening": (_Fraction, "share of the gradient that does not enter the momentum buffer"),
    "nesterov": (bool, "Nesterov's form of momentum; requires momentum > 0"),
    "weight_decay": (NonNegativeFloat, "penalty of every parameter's square, as the torch class applies it"),
    "decoupled_weight_decay": (bool, "whether weight_decay shrinks the weights directly, as in AdamW"),
    "betas": (tuple[_Fraction, _Fraction], "decay of the averages of the gradient and of its square"),
    "eps": (NonNegativeFloat, "added to the denominator"),
    "amsgrad": (bool, "whether the denominator is the largest of all steps"),
    "centered": (bool, "whether the gradient's square is centred by its mean"),
    "alpha": (_Fraction, "decay of the average of the gradient's square"),
    "rho": (_Fraction, "decay of the averages of the squares of gradients and updates"),
    "lr_decay": (NonNegativeFloat, "decay of the learning rate per step, beside the schedule"),
    "initial_accumulator_value": (NonNegativeFloat, "what the sum of squares starts from"),
    "momentum_decay": (NonNegativeFloat, "decay of the momentum over the steps"),
    "beta2_decay": (NonPositiveFloat, "power of the step number by which the average of squares forgets"),
    "d": (Annotated[float, Field(ge=1).metadata[0]], "largest root mean square of an update"),
    "lambd": (NonNegativeFloat, "decay of the weights and of the step size"),
    "t0": (NonNegativeFloat, "step from which weights are averaged; the average is not what is deployed"),
    "foreach": (bool | None, "whether all parameters are updated in few kernels; by default on a GPU"),
    "fused": (bool | None, "whether a step is one kernel"),
    "Adafactor.eps": (tuple[NonNegativeFloat | None, NonNegativeFloat], "lower bounds: of squares, and of the scale"),
    "ASGD.alpha": (NonNegativeFloat, "power by which the step size falls"),
}  # fmt: skip
"""Type with range, and meaning, of an option of any class, or of one (`ASGD.alpha`)."""

_UNITS = {"betas": "two numbers from 0 to below 1", "Adafactor.eps": "two numbers, the first or none", "t0": "steps"}

_LEFT_OUT = ("maximize", "capturable", "differentiable")
"""Options of torch's that make no sense in a training step here."""

_REFUSED = {
    "Muon": "takes matrices only, and networks have biases and convolutions",
    "Rprop": "reads lr at its first step only, so no schedule could change it",
    "SparseAdam": "takes sparse gradients only",
}


class TrainEvalModes(torch.optim.Optimizer):
    """What a torch optimizer lacks of `interfaces.Optimizer`, for one whose gradients are taken at the deployed
    weights: w' = w. To be named before torch's class; the constructor ends with `_start_in_train_mode`.
    """

    def train(self) -> None:
        """Allow step(). The parameters are equal in both modes, unlike EntropySGD's."""
        self._set_mode(True)

    def eval(self) -> None:
        """Make step() raise, as EntropySGD does, so that code which runs with SGD runs with EntropySGD."""
        self._set_mode(False)

    def deployed(self) -> list[Tensor]:
        """Return the parameters, detached, in order. Not a copy: valid until the next step()."""
        return [p.detach() for group in self.param_groups for p in group["params"]]

    def report(self) -> dict[str, float]:
        """Return no numbers for the log."""
        return {}

    def _start_in_train_mode(self) -> None:
        self.defaults["train_mode"] = True  # for param groups added later
        self.train()
        self.register_step_pre_hook(_raise_in_eval_mode)  # overriding step() would run torch's hooks twice

    def _set_mode(self, train_mode: bool) -> None:
        for group in self.param_groups:
            group["train_mode"] = train_mode


@cache
def torch_optimizer(cls: type[torch.optim.Optimizer]) -> type[Any]:
    """`cls` with the interface of `interfaces.Optimizer`: a subclass, whose options are keyword-only. Also a decorator.

    Raises ValueError for a class whose step needs more than one gradient.
    """
    if reason := _why_refused(cls):
        raise ValueError(f"expected an optimizer that steps from one gradient, got {cls.__name__}, which {reason}")
    signature = _keyword_only_signature(cls)

    def construct(self: Any, params: Any, **options: Any) -> None:
        signature.bind(self, params, **options)  # raises TypeError for options that are left out
        try:
            cls.__init__(self, params, **options)
        except RuntimeError as error:  # of options that exclude each other
            raise ValueError(first_line(error)) from None
        self._start_in_train_mode()

    construct.__signature__ = signature  # type: ignore[attr-defined]
    is_torchs = cls.__name__ in torch.optim.__all__ and getattr(torch.optim, cls.__name__) is cls
    return type(
        cls.__name__,
        (TrainEvalModes, cls),
        {
            "__init__": construct,
            "__doc__": _describe(cls.__name__, signature) if is_torchs else cls.__doc__,
            "__module__": __name__ if is_torchs else cls.__module__,  # where pickle finds it
        },
    )


@cache
def torch_optimizer_names() -> list[str]:
    """Names of torch.optim's optimizers that a recipe can choose: "torch.AdamW"."""
    found = [(name, getattr(torch.optim, name)) for name in torch.optim.__all__]
    return sorted(f"torch.{name}" for name, each in found if _is_optimizer(each) and not _why_refused(each))


def find_torch_optimizer(name: str) -> type[Any]:
    """The wrapped class of "torch.AdamW". Raises UserError for another name, with the closest valid one or a reason."""
    cls: Any = getattr(torch.optim, name.removeprefix("torch."), None)
    if name not in torch_optimizer_names():
        reason = _why_refused(cls) if _is_optimizer(cls) else ""
        got = f"got {name!r}, which {reason}; valid: {', '.join(torch_optimizer_names())}"
        raise UserError(f"expected a torch optimizer, {got if reason else did_you_mean(name, torch_optimizer_names())}")
    return torch_optimizer(cls)


def __getattr__(name: str) -> Any:
    """Wrapped classes of torch.optim by name, for pickle."""
    if f"torch.{name}" in torch_optimizer_names():
        return find_torch_optimizer(f"torch.{name}")
    raise AttributeError(name)


def _is_optimizer(cls: Any) -> bool:
    return inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer


def _why_refused(cls: type[torch.optim.Optimizer]) -> str:
    """Why no training step can use this class; empty if one can."""
    closure = inspect.signature(cls.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        return "computes the loss several times in a step"
    return _REFUSED.get(cls.__name__, "") if cls.__module__.startswith("torch.optim") else ""


def _keyword_only_signature(cls: type[torch.optim.Optimizer]) -> inspect.Signature:
    """That of the constructor, with keyword-only options; their annotations have ranges where known, and no tensors."""
    own, params, *options = inspect.signature(cls.__init__, eval_str=True).parameters.values()
    return inspect.Signature(
        [
            own.replace(kind=own.POSITIONAL_ONLY),
            params,
            *(
                each.replace(kind=each.KEYWORD_ONLY, annotation=_annotation(cls.__name__, each))
                for each in options
                if each.name not in _LEFT_OUT and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            ),
        ]
    )


def _annotation(cls: str, option: inspect.Parameter) -> Any:
    known = _OPTIONS.get(f"{cls}.{option.name}", _OPTIONS.get(option.name))
    return known[0] if known and cls in torch.optim.__all__ else _without_tensors(option.annotation)


def _without_tensors(annotation: Any) -> Any:
    """`float | Tensor` -> `float`: a recipe holds numbers."""
    inner = tuple(_without_tensors(each) for each in get_args(annotation) if each is not Tensor)
    if get_origin(annotation) in (Union, UnionType):
        return Union[inner]  # noqa: UP007
    return tuple[inner] if get_origin(annotation) is tuple else annotation  # type: ignore[valid-type]


def _describe(cls: str, signature: inspect.Signature) -> str:
    """A docstring in the form that `config.reference` reads."""
    lines = []
    for key in list(signature.parameters)[2:]:
        place = f"{cls}.{key}" if f"{cls}.{key}" in _OPTIONS else key
        unit = f" ({_UNITS[place]})" if place in _UNITS else ""
        lines += [f"{key}{unit}: {_OPTIONS[place][1]}. Source: torch."] if place in _OPTIONS else []
    return "\n".join([f"torch.optim.{cls}, with its own defaults. Source: torch.", "", *lines])


def _raise_in_eval_mode(optimizer: torch.optim.Optimizer, *_: object) -> None:
    if not all(group["train_mode"] for group in optimizer.param_groups):
        name = type(optimizer).__name__
        raise RuntimeError(f"{name}.step() in eval mode; call optimizer.train() before taking gradients")
