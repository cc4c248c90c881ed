"""Two processes resume a killed run at once: one goes on, the other says who does and ends with 76."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.exactness.cases import Cases, Zygotes
from tests.exactness.runs import outcome_of
from tests.exactness.seams import at_event, at_time, in_step

CLAIM = "crown_exp.storage.runs:claim_attempt"


def race(cases: Cases, zygotes: Zygotes, place: Path, number: int) -> None:
    """Kill a run after one of its checkpoints; let two processes claim it at once."""
    straight, chance = cases.straight("everything"), random.Random(number)
    run = straight.recorded.copied(place / str(number))
    seam = at_event("os.link", rf"checkpoints/\d+-0*{chance.choice([3, 6, 9, 18, 24])}\.json$")
    assert run.begin(zygotes.of("everything"), seams=[in_step(), seam]).wait() == -signal.SIGKILL
    start = [at_time(CLAIM, time.time() + 0.25)]
    pair = [run.resume(zygotes.of("everything", which), seams=start) for which in (0, 1)]
    codes = {child.wait(): child.said for child in pair}
    assert sorted(codes, key=str) == [0, 76], run.said()
    assert run.codes() == [-1, 0]
    assert "attempt 2" in codes[76], codes[76]
    how = straight.outcome.difference(outcome_of(run))
    assert how == "", f"{how}\n{run.said()}"


def test_two_writers_raced(cases: Cases, zygotes: Zygotes, tmp_path: Path) -> None:
    for number in range(4):
        race(cases, zygotes, tmp_path, number)


@pytest.mark.full
def test_two_writers_raced_a_hundred_times(cases: Cases, zygotes: Zygotes, tmp_path: Path) -> None:
    for number in range(100):
        race(cases, zygotes, tmp_path, number)
