"""SAM: the checks that every perturbation passes, and the update as its paper prints it."""

import pytest
import torch
import torch.nn.functional as F
from rb_smooth_sam.sam import SAM

from rb_smooth import plugin


@pytest.mark.parametrize("check", plugin.contract_checks("perturbation"))
def test_sam_passes(check):
    check(SAM)


def test_the_gradient_is_that_at_the_printed_point():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    x, y, rho = torch.randn(10, 6, dtype=torch.float64), torch.arange(10) % 3, 0.3

    def loss_at(weights):
        return F.cross_entropy(torch.func.functional_call(net, weights, x), y)

    w = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    g = dict(zip(w, torch.autograd.grad(loss_at(w), list(w.values()))))
    length = torch.sqrt(sum((each**2).sum() for each in g.values()))
    shifted = {name: (w[name] + rho * g[name] / length).detach().requires_grad_() for name in w}
    expected = torch.autograd.grad(loss_at(shifted), list(shifted.values()))

    with SAM(rho=rho)(net, lambda: F.cross_entropy(net(x), y)):
        F.cross_entropy(net(x), y).backward()
    for p, g_at_worst in zip(net.parameters(), expected):
        torch.testing.assert_close(p.grad, g_at_worst, rtol=0, atol=1e-10)
