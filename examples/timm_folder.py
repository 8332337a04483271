"""A network of timm's on a folder of images: your model, loader and optimizer, and a place in a leaderboard.

    python examples/timm_folder.py photos --model resnet18    photos/train/<class>/*, photos/test/<class>/*, of one size
    python examples/timm_folder.py                            scikit-learn's digits as PNGs, a minute on one core
    python examples/timm_folder.py --quick                    the same, one epoch and ten test points

The same by a recipe, which also keeps, logs and resumes what it does, is one call:

    rb_smooth.train("cifar10/trades+awp", set={"data.name": "folder", "data.root": "photos",
                                               "model.name": "timm", "model.id": "resnet18"})
"""

import argparse
from pathlib import Path

import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from rb_smooth import AWP, TRADES, ExternalModel, Threat, evaluate, load_model, recalibrate, submit

EPS = 8 / 255  # where pixels are in [0, 1]


def main(root: Path, name: str, out: Path, epochs: int, points: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # of more, a net this small would make each wait for the other
    images = ImageFolder(str(root / "train"), ToTensor())  # pixels in [0, 1]; a model normalises inside (Normalized)
    loader = DataLoader(images, batch_size=32, shuffle=True, drop_last=True)
    model = timm.create_model(name, num_classes=len(images.classes))
    objective = TRADES(eps=EPS, step_size=EPS / 4, steps=5, beta=6.0)  # or AT(…), MART(…)
    perturbation = AWP(gamma=0.005)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)  # or EntropySGD(…)

    def step(x: Tensor, y: Tensor) -> Tensor:
        """One minibatch; returns its adversarial examples."""
        x_adv = objective.craft(model, x, y)
        with perturbation(model, lambda: objective.loss(model, x, x_adv, y).loss):
            optimizer.zero_grad()
            objective.loss(model, x, x_adv, y).loss.backward()
        optimizer.step()
        return x_adv

    for epoch in range(epochs):
        seen = [(x, step(x, y), y) for x, y in loader]
        print(f"epoch {epoch + 1}/{epochs}", flush=True)
    recalibrate(model, objective, seen[-16:])

    out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), out / "weights.pt")
    stranger = ExternalModel(  # what the file does not say of itself
        checkpoint=out / "weights.pt",
        architecture="timm",
        options={"id": name},
        data={"name": "folder", "root": str(root)},
        threat=Threat("Linf", EPS, EPS / 4),
        asked={"version": "quick", "n_examples": points},
        name=f"trades+awp_{name}",
    )
    entry = submit(stranger, out / "leaderboard", replace=True)  # measured as all are, and loaded back
    print(f"{entry.name}: {evaluate(entry)}")
    again = load_model(entry.name, entry.dataset, leaderboard=out / "leaderboard")
    x = torch.stack([images[i][0] for i in range(4)])
    assert torch.equal(again(x), model.eval()(x))


def digits_as_png(root: Path, train: int = 40, test: int = 10) -> Path:
    """So many images of each digit, 32 x 32, below <root>/train and <root>/test."""
    pixels, labels = load_digits(return_X_y=True)
    for label in range(10):
        for i, digit in enumerate(pixels[labels == label][: train + test]):
            path = root / ("train" if i < train else "test") / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((digit.reshape(8, 8) / 16 * 255).round().astype("uint8"))
            grey.resize((32, 32)).convert("RGB").save(path)
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, help="images (default: digits, made here)")
    parser.add_argument("--model", default="test_byobnet", help="of timm.list_models() (default: its smallest)")
    parser.add_argument("--out", type=Path, default=Path("demo/timm_folder"), help="where weights and board go")
    parser.add_argument("--quick", action="store_true", help="one epoch, ten test points")
    given = parser.parse_args()
    folder = given.root or digits_as_png(given.out / "digits")
    main(folder, given.model, given.out, *((1, 10) if given.quick else (8, 50)))
