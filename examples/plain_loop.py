"""A plain PyTorch loop that trains robustly: the loop is yours, the parts are ours.

    python examples/plain_loop.py            half a minute on one core
    python examples/plain_loop.py --quick    one epoch, ten test points

Network, data and loader are whatever you have; the lines marked 1 to 4 are what robust training adds to them.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, TensorDataset

from rb_smooth import AT, AWP, EntropySGD, evaluate, recalibrate


def main(epochs: int, points: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # of more, a net this small would make each wait for the other
    images, labels = load_digits(return_X_y=True)  # 8 x 8 pixels, 0 to 16
    x, y = torch.tensor(images / 16 * 255).round().float().view(-1, 1, 8, 8) / 255, torch.tensor(labels)
    loader = DataLoader(TensorDataset(x[360:], y[360:]), batch_size=64, shuffle=True, drop_last=True)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    # Plain memory layout: on CPUs with AVX2 only, channels_last can make gradients wrong (docs/troubleshooting.md).
    objective = AT(norm="Linf", eps=0.15, step_size=0.03)  # or TRADES(…), MART(…)
    perturbation = AWP(gamma=0.01)
    optimizer = EntropySGD(model.parameters(), lr=1.0, inner_steps=5)  # or any of torch's
    scheduler = MultiStepLR(optimizer, milestones=[epochs * 3 // 4])

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One minibatch. Returns its adversarial examples and their loss."""
        x_adv = objective.craft(model, x, y)  # 1: attack the model as it is
        with perturbation(model, lambda: objective.loss(model, x, x_adv, y).loss):  # 2: at the worst weights nearby
            optimizer.zero_grad()
            loss = objective.loss(model, x, x_adv, y).loss
            loss.backward()
        optimizer.step()  # the weights are back in their place; the gradient is that of the worst ones
        return x_adv, loss.detach()

    for epoch in range(epochs):
        seen, losses = [], []
        for x_batch, y_batch in loader:
            x_adv, loss = step(x_batch, y_batch)
            seen.append((x_batch, x_adv, y_batch))
            losses.append(loss)
        scheduler.step()
        print(f"epoch {epoch + 1}/{epochs}  loss {torch.stack(losses).mean():.3f}", flush=True)

    optimizer.eval()  # 3: EntropySGD deploys other weights than it takes gradients at; train() would go on with those
    recalibrate(model, objective, seen[-16:])  # 4: BatchNorm's statistics at the deployed weights
    score = evaluate(model, (x[:360], y[:360]), eps=0.15, n_examples=points, version="quick")
    print(
        score
    )  # an upper bound of AutoAttack's figure; version="standard" is AutoAttack, and takes five times as long


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one epoch, ten test points")
    main(*(1, 10) if parser.parse_args().quick else (12, 100))
