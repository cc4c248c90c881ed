"""A task whose result shows a turn that is missing, or was done twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from crown_exp import Run


def counting(at: Callable[[Run], None], turns: int = 6) -> Callable[[Run], float]:
    """A task that adds up random numbers in a module's weight. at: called in each turn."""

    def task(run: Run) -> float:
        net = nn.Linear(1, 1, bias=False)
        run.track(net=net)
        for _ in run.steps(turns):
            at(run)
            with torch.no_grad():
                net.weight += torch.rand(())
            run.log(weight=net.weight)
        return float(net.weight.detach())

    return task
