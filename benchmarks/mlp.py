"""A training so small that what is around it shows: an MLP of 874 weights, 32 samples a step, one thread."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUTS, HIDDEN, CLASSES, SAMPLES = 16, 32, 10, 32


def make() -> tuple[nn.Module, torch.optim.Optimizer, tuple[Tensor, Tensor]]:
    """The module, its optimizer and the batch that every step learns."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    batch = torch.rand(SAMPLES, INPUTS), torch.randint(CLASSES, (SAMPLES,))
    return net, torch.optim.SGD(net.parameters(), lr=0.01), batch


def stepper() -> Callable[[], Tensor]:
    """A function that makes one step and returns its loss."""
    net, opt, (inputs, labels) = make()

    def step() -> Tensor:
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        opt.step()
        opt.zero_grad()
        return loss

    return step


def numbers(count: int) -> Iterator[tuple[float, float, float]]:
    """Three floats a step, of as many digits as those of a training have."""
    draw = random.Random(0).random
    return iter([(3 * draw(), draw(), 1e-3 * draw()) for _ in range(count)])
