"""When a spot machine was there: V100s on AWS in 2023, one zone each, of `benchmarks/traces`.

The public repository skypilot-org/spot-traces, data of *Can't Be Late: Optimizing Spot Instance Savings under
Deadlines* (NSDI 2024), here as the lengths of the stretches. What a tick of the original tells is the number of
machines that could be had (its README): 1 is a machine, 0 is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate, cycle, pairwise
from pathlib import Path
from random import Random

FOLDER = Path(__file__).with_name("traces")


@dataclass(frozen=True)
class Trace:
    """lives: when the machine was there, as (begin, end); seconds: how long it was watched; gap: between looks.

    All in seconds. A life begins at the first look that found a machine, and ends at the next that found none.
    """

    name: str
    gap: float
    seconds: float
    lives: tuple[tuple[float, float], ...]

    @property
    def taken(self) -> int:
        """How often it was taken. The machine that is there at the end was not."""
        return sum(end < self.seconds for _, end in self.lives)

    @property
    def present(self) -> float:
        """For how many seconds it was there."""
        return sum(end - begin for begin, end in self.lives)

    def drawn(self, seed: int) -> Trace:
        """What may have been: machines come and go at any moment between two looks, not when somebody looks."""
        draw = Random(seed).random
        lives = tuple(
            (
                begin - self.gap * draw() if begin > 0 else begin,
                end - self.gap * draw() if end < self.seconds else end,
            )
            for begin, end in self.lives
        )
        return Trace(self.name, self.gap, self.seconds, lives)


def load(path: Path) -> Trace:
    """A trace: `gap_seconds` a tick, whether there is a machine at `first`, and the `ticks` of each stretch."""
    told = json.loads(path.read_text())
    gap = float(told["gap_seconds"])
    ends = list(accumulate((gap * ticks for ticks in told["ticks"]), initial=0.0))
    there = cycle((bool(told["first"]), not told["first"]))
    stretches = zip(pairwise(ends), there, strict=False)
    return Trace(path.stem, gap, ends[-1], tuple(life for life, is_there in stretches if is_there))


def traces() -> list[Trace]:
    """All there are."""
    return [load(path) for path in sorted(FOLDER.glob("*.json"))]
