"""Tasks that a spot machine is taken from under: a load, quick turns and a slow one, evaluations.

The tests copy this file into a project. How long the load takes is drawn anew each time, so that the second at
which a notice is heard meets every moment of the loop.
"""

from __future__ import annotations

import random
import time

import numpy as np

SLOW = 15


def load() -> None:
    time.sleep(random.SystemRandom().uniform(0, 1))


def turn(step: int) -> None:
    time.sleep(1.0 if step == SLOW else 0.02)


def walk(run, *, turns: int = 40) -> float:
    """A random walk, without torch."""
    load()
    rolls = np.random.default_rng(run.seed)
    kept = run.state(place=[0.0] * 300)
    run.track(rolls=rolls)
    for step in run.steps(turns):
        if run.every("8 steps"):
            time.sleep(0.4)
            run.log(far=max(kept.place))
        kept.place = (np.asarray(kept.place) + rolls.normal(size=300)).tolist()
        turn(step)
        run.log(place=kept.place[0])
    return float(kept.place[0])


def fit(run, *, turns: int = 40) -> float:
    """A line, fitted with torch."""
    import torch
    from torch import nn

    load()
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1))
    opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
    run.track(net=net, opt=opt)
    loss = torch.zeros(())
    for step in run.steps(turns):
        if run.every("8 steps"):
            with torch.no_grad():
                time.sleep(0.4)
                run.log(accuracy=float(net(torch.randn(64, 64)).mean()))
        rows = torch.randn(32, 64)
        loss = (net(rows).squeeze(1) - rows.sum(1)).square().mean()
        run.backward(loss)
        run.update(opt)
        turn(step)
        run.log(loss=loss)
    return float(loss)
