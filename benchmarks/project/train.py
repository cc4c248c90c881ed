"""The task of the benchmark: what bare.py does, through the run."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from parts import first_step_done
from torch import Tensor, nn
from torch.utils.data import Dataset

from crown_exp import Config, Run


def train(
    run: Run,
    model: Config[nn.Module],
    dataset: Config[Dataset[tuple[Tensor, Tensor]]],
    optimizer: Config[torch.optim.Optimizer],
    lr_schedule: Config[torch.optim.lr_scheduler.LRScheduler],
    *,
    batch_size: int = 64,
    steps: int = 1,
) -> None:
    """Minimise the cross-entropy for a step."""
    net = run.build(model)
    opt = run.build(optimizer, params=net.parameters())
    schedule = run.build(lr_schedule, optimizer=opt)
    run.track(net=net, opt=opt, schedule=schedule)
    for images, labels in run.steps(run.batches(dataset, batch_size=batch_size), steps):
        loss = F.cross_entropy(net(images), labels)
        run.backward(loss)
        run.update(opt, clip=1.0)
        schedule.step()
        run.log(loss=loss)
        first_step_done()
