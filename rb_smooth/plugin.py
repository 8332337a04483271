"""The one module that a method of another package imports, beside `rb_smooth` itself.

Interfaces: `Objective`, `Perturbation`, `Optimizer`, `Averaging`, `Schedule`, `Augmentation`, with `Outcome`, `Threat`
and `Norm`. Helpers: attacks (`pgd`, `pgd_kl`, both within `input_gradient_mode`), weights (`perturbed`, `swapped`,
`no_param_grad`), BatchNorm (`frozen_running_stats`), several processes (`all_reduce_mean`), range checks (`above`,
`at_least`, `below_one`), torch's optimizers (`torch_optimizer`). Tests: `contract_checks`, whose functions raise
`ContractError`. docs/adding-a-method.md shows their use.
"""

from __future__ import annotations

from rb_smooth.components.attacks import input_gradient_mode, pgd, pgd_kl
from rb_smooth.components.batchnorm import frozen_running_stats
from rb_smooth.components.conformance import contract_checks
from rb_smooth.components.conformance.fixtures import ContractError
from rb_smooth.components.interfaces import (
    Augmentation,
    Averaging,
    Objective,
    Optimizer,
    Outcome,
    Perturbation,
    Schedule,
)
from rb_smooth.components.ranges import above, at_least, below_one
from rb_smooth.components.torch_optimizers import torch_optimizer
from rb_smooth.components.weights import no_param_grad, perturbed, swapped
from rb_smooth.core.distributed import all_reduce_mean
from rb_smooth.core.threat import Norm, Threat

__all__ = [
    "Augmentation",
    "Averaging",
    "ContractError",
    "Norm",
    "Objective",
    "Optimizer",
    "Outcome",
    "Perturbation",
    "Schedule",
    "Threat",
    "above",
    "all_reduce_mean",
    "at_least",
    "below_one",
    "contract_checks",
    "input_gradient_mode",
    "frozen_running_stats",
    "no_param_grad",
    "perturbed",
    "pgd",
    "pgd_kl",
    "swapped",
    "torch_optimizer",
]
