"""Tasks in which all is there that a checkpoint must hold; the tests copy this file into a project."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, IterableDataset


class Noisy(Dataset[tuple[Tensor, int]]):
    """Forty images of four classes, with noise from each of the three generators."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = 0.1 * torch.randn(1, 8, 8) + random.random() + float(np.random.rand())
        return torch.full((1, 8, 8), index % 4 / 4) + noise, index % 4


class Counting(IterableDataset[Tensor]):
    """Twenty-three numbers an epoch, and where it stands."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[Tensor]:
        while self.at < 23:
            self.at += 1
            yield torch.tensor([self.at + random.random()])
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class Reread(IterableDataset[Tensor]):
    """Seventeen numbers an epoch, and nobody knows where it stands."""

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(17):
            yield torch.tensor([number + float(np.random.rand())])


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 4),
    )  # fmt: skip


@torch.no_grad()
def evaluated(net: nn.Module, batches: Iterable[Any]) -> float:
    net.eval()
    losses = [float(F.cross_entropy(net(images), labels)) for images, labels in batches]
    net.train()
    return sum(losses) / len(losses)


def everything(run, *, turns: int = 15) -> dict[str, Any]:
    """Two loops: dropout, batch norm, a moving average, a schedule, gradients that outlive their turn."""
    net = network().to(run.device)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    opt = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 2 * turns)
    chances = torch.Generator().manual_seed(run.seed + 1)
    dice, rolls = random.Random(run.seed), np.random.default_rng(run.seed)
    kept = run.state(best=1e9, seen=[])
    run.track(net=net, ema=ema, opt=opt, schedule=schedule, chances=chances, dice=dice, rolls=rolls)
    test_set = run.batches(Noisy(), batch_size=16, train=False)
    for name in ("first", "second"):
        train_set = run.batches(Noisy(), batch_size=8)
        for batch in run.steps(train_set, turns, name=name):
            if run.every("4 steps"):
                kept.best = min(kept.best, evaluated(ema, test_set))
                run.log(best=kept.best)
            mean = torch.zeros(())
            for images, labels in run.split(batch):
                noise = 0.1 * torch.randn(images.shape, generator=chances)
                loss = F.cross_entropy(net(images + noise), labels)
                run.backward(loss)
                mean += loss.detach() / 2
            if run.step % 2 == 0:
                run.update(opt, clip=1.0)
                ema.update_parameters(net)
            schedule.step()
            kept.seen = [*kept.seen, float(mean)]
            run.log(
                loss=mean, lr=schedule.get_last_lr()[0], python=random.random(), numpy=np.random.rand(),
                torch=torch.rand(()), dice=dice.random(), rolls=rolls.random(),
            )  # fmt: skip
    return {"best": kept.best, "seen": kept.seen, "final": evaluated(net, test_set)}


def streams(run, *, turns: int = 30) -> dict[str, float]:
    """A stream that knows where it stands, one that is read again, and a dataset, in lock step."""
    net = nn.Sequential(nn.Linear(66, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 4))
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    run.track(net=net, opt=opt)
    counting = run.batches(Counting(), batch_size=4)
    reread = run.batches(Reread(), batch_size=4)
    images = run.batches(Noisy(), batch_size=4)
    loss = torch.zeros(())
    for one, other, (picture, labels) in run.steps(counting.zip(reread, images), turns):
        inputs = torch.cat([one / 23, other / 17, picture.flatten(1)], dim=1)
        loss = F.cross_entropy(net(inputs), labels)
        run.backward(loss)
        run.update(opt)
        run.log(loss=loss, one=one.sum(), other=other.sum())
    return {"loss": float(loss)}
