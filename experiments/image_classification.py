"""Image classification: a small convolutional network on handwritten digits.

Shapes: B batch, C classes; images are (B, 1, 8, 8) float32 in [0, 1], labels (B,) int64.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from crown_exp import Config, Run


def train(
    run: Run,
    model: Config[nn.Module],
    dataset: Config[Dataset[tuple[Tensor, Tensor]]],
    optimizer: Config[torch.optim.Optimizer],
    lr_schedule: Config[torch.optim.lr_scheduler.LRScheduler],
    *,
    batch_size: int = 64,
    steps: int = 500,
) -> dict[str, float]:
    """Minimise the cross-entropy; keep the best test accuracy on the way."""
    net = run.build(model)
    opt = run.build(optimizer, params=net.parameters())
    schedule = run.build(lr_schedule, optimizer=opt)
    best = run.state(accuracy=0.0)
    run.track(net=net, opt=opt, schedule=schedule)
    train_set = run.batches(dataset, split="train", batch_size=batch_size)
    test_set = run.batches(dataset, split="test", batch_size=1024, train=False)
    for images, labels in run.steps(train_set, steps):
        if run.every("100 steps"):
            best.accuracy = max(best.accuracy, accuracy(net, test_set))
            run.log(test_accuracy=best.accuracy)
        loss = F.cross_entropy(net(images), labels)
        run.backward(loss)
        run.update(opt, clip=1.0)
        schedule.step()
        run.log(loss=loss)
    final = accuracy(net, test_set)
    return {"accuracy": final, "best_accuracy": max(best.accuracy, final)}


@torch.no_grad()
def accuracy(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of images whose most likely class is their label."""
    net.eval()
    right = total = 0
    for images, labels in batches:
        right += int((net(images).argmax(dim=1) == labels).sum())
        total += len(labels)
    net.train()
    return right / total


class CNN(nn.Module):
    """Two convolutions, dropout, two linear layers: (B, 1, 8, 8) → logits (B, C)."""

    def __init__(self, width: int = 16, dropout: float = 0.2, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(dropout),
            nn.Linear(2 * width * 16, 128), nn.ReLU(), nn.Linear(128, classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each class."""
        logits: Tensor = self.layers(images)
        return logits


class MLP(nn.Module):
    """One hidden layer: (B, 1, 8, 8) → logits (B, C)."""

    def __init__(self, hidden: int = 128, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each class."""
        logits: Tensor = self.layers(images)
        return logits


def digits(split: str = "train", test_fraction: float = 0.2) -> Dataset[tuple[Tensor, ...]]:
    """The 1,797 digits that scikit-learn ships (UCI Optical Recognition test set), split once and for all."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        images, labels, test_size=test_fraction, random_state=0, stratify=labels
    )
    chosen = {"train": parts[0::2], "test": parts[1::2]}[split]
    return TensorDataset(
        torch.tensor(chosen[0] / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(chosen[1])
    )
