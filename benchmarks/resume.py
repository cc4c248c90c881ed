"""From exec to the first turn: a run that begins, and one that was killed and goes on from 341 MB.

`python -m benchmarks.resume [override …]` is one attempt, which kills itself at its first turn, or once it has
saved. It prints JSON: the moment of its first turn, and the seconds that reading the checkpoint and putting it
back took.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.child import python
from benchmarks.measure import Figure, differences, interleave

if TYPE_CHECKING:
    from crown_exp import Run

WIDTH, LAYERS = 1088, 24
"""28.4 million weights: with the optimizer's two moments 341 MB."""

TASK = ("++task._target_=benchmarks.resume.train", "checkpoint.every=1 steps", "tracker=none")
BAR = 1.0
SPENT = {"read": 0.0, "back": 0.0}


class Sample(NamedTuple):
    """Seconds from exec to the first turn; of these reading, and putting back. cpu: of the process."""

    wall: float
    read: float
    back: float
    cpu: float


def measure(rounds: int, home: Path) -> list[Figure]:
    """One run is killed once it has saved, and then resumed again and again; each fresh run is a new one."""
    python("-m", "benchmarks.resume", *TASK, "++task.save=true", home=home, expect=(-9,))
    killed = next(path.name for path in home.glob("store/runs/*"))
    cases = {
        "fresh": partial(sample, home, *TASK),
        "resumed": partial(sample, home, f"resume={killed}"),
    }
    taken = interleave(cases, rounds)
    fresh, resumed = taken["fresh"], taken["resumed"]
    read, back = (tuple(getattr(it, part) for it in resumed) for part in ("read", "back"))
    added = differences((it.wall for it in resumed), (it.wall for it in fresh))
    loading = tuple(sum(both) for both in zip(read, back, strict=True))
    return [
        Figure("a fresh run", "s wall", tuple(it.wall for it in fresh)),
        Figure("a resumed run", "s wall", tuple(it.wall for it in resumed)),
        Figure("of it, reading and verifying 341 MB", "s wall", read),
        Figure("of it, putting them back", "s wall", back),
        Figure("what it adds beside these", "s wall", differences(added, loading), BAR),
        Figure("a fresh run, until it is killed", "s CPU", tuple(it.cpu for it in fresh)),
        Figure("a resumed run, until it is killed", "s CPU", tuple(it.cpu for it in resumed)),
    ]


def sample(home: Path, *overrides: str) -> Sample:
    """One attempt."""
    cost = python("-m", "benchmarks.resume", *overrides, home=home, expect=(-9,))
    told = json.loads(cost.output.splitlines()[-1])
    return Sample(told["turn"] - cost.started, told["read"], told["back"], cost.cpu)


def train(run: Run, *, save: bool = False) -> None:
    """The task. save: go on until something is saved."""
    from torch import nn, rand
    from torch.optim import AdamW

    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
    optimizer = AdamW(net.parameters())
    run.track(net=net, optimizer=optimizer)
    for _ in run.steps(1000):
        if not save or any(run.folder.glob("checkpoints/*.json")):
            die()
        run.backward(net(rand(4, WIDTH)).square().mean())
        run.update(optimizer)


def die() -> None:
    """Say when the first turn began, and go as a killed process goes."""
    os.write(1, f"{json.dumps({'turn': time.monotonic()} | SPENT)}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose seconds are added to a part."""

    def run(*arguments: Any, **named: Any) -> Any:
        started = time.monotonic()
        try:
            return work(*arguments, **named)
        finally:
            SPENT[part] += time.monotonic() - started

    return run


def main(*overrides: str) -> None:
    """One attempt, whose load is timed apart."""
    import torch  # noqa: F401  # else its import would be counted as part of the reading

    import crown_exp
    from crown_exp.checkpoints.checkpoints import Checkpoints
    from crown_exp.runner.resuming import Resuming

    Checkpoints.restore = timed("read", Checkpoints.restore)  # type: ignore[method-assign]
    Resuming.one = timed("back", Resuming.one)  # type: ignore[method-assign]
    crown_exp.start(*overrides)


if __name__ == "__main__":
    from benchmarks import resume  # the module whose task is called

    resume.main(*sys.argv[1:])
