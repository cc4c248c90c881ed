"""Two processes resume a killed run at once: one goes on, the other says who does and ends with 76."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.exactness.cases import Cases, Zygotes
from tests.exactness.runs import outcome_of
from tests.exactness.seams import at_event, in_step, meet, wait_for
from tests.exactness.zygote import Child

CLAIM = "crown_exp.storage.runs:claim_attempt"
FIRST_TURN = "crown_exp.runner.boundary:Boundary.first"


def race(cases: Cases, zygotes: Zygotes, place: Path, number: int) -> None:
    """Kill a run after one of its checkpoints; let two processes claim it at once."""
    straight, chance = cases.straight("everything"), random.Random(number)
    run = straight.recorded.copied(place / str(number))
    seam = at_event("os.link", rf"checkpoints/\d+-0*{chance.choice([3, 6, 9, 18, 24])}\.json$")
    assert run.begin(zygotes.of("everything"), seams=[in_step(), seam]).wait() == -signal.SIGKILL
    over = place / f"{number}-one-is-over"
    start = [meet(CLAIM, place / f"{number}-met", 2), wait_for(FIRST_TURN, over)]
    pair = [run.resume(zygotes.of("everything", which), seams=start) for which in (0, 1)]
    loser, winner = pair if ended_first(*pair) else reversed(pair)
    over.touch()
    assert (loser.wait(), winner.wait()) == (76, 0), run.said()
    assert run.codes() == [-1, 0]
    assert "attempt 2" in loser.said, loser.said
    how = straight.outcome.difference(outcome_of(run))
    assert how == "", f"{how}\n{run.said()}"


def ended_first(one: Child, other: Child) -> bool:
    """Wait until one of two has ended; whether it is the first of them. False if none does."""
    for _ in range(600):
        if one.wait(0.05) is not None:
            return True
        if other.wait(0.05) is not None:
            return False
    return False


def test_two_writers_raced(cases: Cases, zygotes: Zygotes, tmp_path: Path) -> None:
    for number in range(3):
        race(cases, zygotes, tmp_path, number)


@pytest.mark.full
def test_two_writers_raced_a_hundred_times(cases: Cases, zygotes: Zygotes, tmp_path: Path) -> None:
    for number in range(100):
        race(cases, zygotes, tmp_path, number)
