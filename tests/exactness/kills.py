"""A run is killed at random moments and resumed until it ends; then it must be the run that nobody touched."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.exactness.cases import Straight, Zygotes
from tests.exactness.runs import Recorded, outcome_of
from tests.exactness.zygote import Child

AT_ONCE = 6
"""Kills of one run at most; then it may end."""


@dataclass
class Tally:
    """What was done to a case.

    from_saved: resumes of a run that had a checkpoint. first: the first difference, in words.
    """

    name: str
    runs: int = 0
    kills: int = 0
    resumes: int = 0
    from_saved: int = 0
    differing_bits: int = 0
    first: str = ""

    def compare(self, run: Recorded, straight: Straight) -> None:
        """Hold a run that has ended against the one that nobody touched."""
        self.runs += 1
        found = outcome_of(run)
        self.differing_bits += straight.outcome.differing_bits(found)
        if not self.first and (how := straight.outcome.difference(found)):
            self.first = f"{self.name}, attempts {run.codes()}: {how}\n{run.said()}"

    def add(self, other: Tally) -> None:
        """Count another's as well."""
        for name in ("runs", "kills", "resumes", "from_saved", "differing_bits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def at_random(straight: Straight, zygotes: Zygotes, place: Path, kills: int, seed: int) -> Tally:
    """Kill copies of a run, uniformly from start to exit, `kills` times in all; every copy ends in the end."""
    tally, chance = Tally(straight.name), random.Random(f"{straight.name} {seed}")
    while tally.kills < kills and not tally.first:
        run = straight.recorded.copied(place / f"{straight.name}-{seed}-{tally.runs}")
        left = min(AT_ONCE, kills - tally.kills)
        tally.kills += until_it_ends(run, straight, zygotes, chance, left, tally)
        tally.compare(run, straight)
    return tally


def until_it_ends(
    run: Recorded, straight: Straight, zygotes: Zygotes, chance: random.Random, kills: int, tally: Tally
) -> int:  # fmt: skip
    """Start it again and again, kill it at most so often; how often it was."""
    for attempt in range(kills + 1):
        tally.from_saved += run.has_checkpoint
        began, child = time.monotonic(), started(run, zygotes, straight.name, attempt)
        tally.resumes += attempt > 0
        code = child.wait(chance.uniform(0, straight.seconds)) if attempt < kills else child.wait()
        if code is None:
            child.send(signal.SIGKILL)
            code = child.wait()
        if code == 0:
            if attempt == 0:  # the straight run stood still: kills would come too late
                straight.seconds = min(straight.seconds, time.monotonic() - began)
            return attempt
        assert code == -signal.SIGKILL, f"exit code {code}\n{run.said()}"
    raise AssertionError("unreachable")


def started(run: Recorded, zygotes: Zygotes, name: str, attempt: int) -> Child:
    """The next attempt: resumed with 2 workers and none in turn, each time by the other zygote."""
    zygote = zygotes.of(name, attempt)
    if not run.codes():
        return run.begin(zygote)
    return run.resume(zygote, f"device.workers={2 * (attempt % 2)}")
