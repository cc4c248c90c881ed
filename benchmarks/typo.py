"""What a mistyped key costs: one line and half a second."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.child import python
from benchmarks.measure import Figure, interleave

TYPO = ("+experiment=digits_cnn", "optimizer.lrr=1")
TARGET = 0.5


def measure(rounds: int, home: Path) -> list[Figure]:
    """Seconds from exec to exit."""
    cases = {
        "stock": partial(python, "-m", "benchmarks.stock", *TYPO, home=home, expect=(1,)),
        "ours": partial(python, "-m", "crown_exp", *TYPO, home=home, expect=(2,)),
    }
    costs = interleave(cases, rounds)
    stock, ours = costs["stock"], costs["ours"]
    return [
        Figure("stock hydra.main, optimizer.lrr=1", "s CPU", tuple(cost.cpu for cost in stock)),
        Figure("crown_exp, optimizer.lrr=1", "s CPU", tuple(cost.cpu for cost in ours), TARGET),
        Figure("crown_exp, optimizer.lrr=1", "s wall", tuple(cost.wall for cost in ours), TARGET),
    ]
