"""What both scripts share: data, model, and the moment at which the first step is done."""

from __future__ import annotations

import resource
import time

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset


class CNN(nn.Module):
    """Two convolutions, two linear layers: (B, 1, 8, 8) → logits (B, 10)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * 16, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each class."""
        logits: Tensor = self.layers(images)
        return logits


def digits() -> TensorDataset:
    """The 1,797 digits that scikit-learn ships: images (N, 1, 8, 8) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return TensorDataset(
        torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    )


def first_step_done() -> None:
    """Print the CPU seconds of this process and its children so far, and the monotonic clock."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(item.ru_utime + item.ru_stime for item in used)
    print(f"first step {cpu} {time.monotonic()}", flush=True)
