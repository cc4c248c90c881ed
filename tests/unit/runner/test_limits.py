"""How long an attempt and a run may last."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.errors import ConfigError
from crown_exp.folder import AttemptRecord, EndRecord, Facts, RunPaths, RunRecord
from crown_exp.folder.records import encode
from crown_exp.outcome import ExitCode
from crown_exp.runner.limits import Limits, spent_before
from crown_exp.storage import BlobStore, open_blobs

NOW = datetime(2026, 11, 29, tzinfo=UTC)
RUN = RunRecord(
    id="r1", name="x", experiment=None, user="me", created=NOW, task="a.b", signature="v1:0",
    overrides=[], tags=[], seed=1, compute="local", sweep=None, lineage=None, code=None, bound=[],
)  # fmt: skip
PATHS = RunPaths(RUN.id)


@dataclass
class Hand:
    """A clock that is moved by hand; the wall clock is another matter."""

    at: float = 1e6

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.at


def test_without_limits_nothing_is_ever_due() -> None:
    clock = Hand()
    limits = Limits(None, None, 1e12, clock)
    clock.at += 1e12
    assert limits.due() is None


def test_an_attempt_is_called_again() -> None:
    clock = Hand()
    limits = Limits("30 minutes", None, 1e6, clock)
    clock.at += 1799.9
    assert limits.due() is None
    clock.at += 0.2
    code, why = limits.due() or (None, "")
    assert (code, why) == (75, "limits.attempt=30 minutes reached; resume goes on from here")
    assert limits.due() == (code, why)


def test_a_run_counts_all_attempts_together() -> None:
    clock = Hand()
    limits = Limits(None, "8 hours", 7 * 3600, clock)
    clock.at += 3599
    assert limits.due() is None
    clock.at += 1
    assert limits.due() == (
        ExitCode.CAPPED,
        "limits.run=8 hours reached (all attempts together); raise it and resume",
    )


def test_a_run_whose_time_was_up_before_is_due_at_once() -> None:
    assert (Limits("1 hour", "2 hours", 7201, Hand()).due() or [0])[0] == 77


minutes = st.none() | st.integers(1, 100)


@given(minutes, minutes, st.integers(0, 6000), st.integers(0, 9000))
def test_the_runs_limit_wins_where_both_are_reached(
    attempt: int | None, run: int | None, spent: int, passed: int
) -> None:
    clock = Hand(0)
    words = [None if each is None else f"{each} minutes" for each in (attempt, run)]
    limits = Limits(words[0], words[1], spent, clock)
    clock.at = passed
    if run is not None and spent + passed >= 60 * run:
        assert (limits.due() or [0])[0] == 77
    elif attempt is not None and passed >= 60 * attempt:
        assert (limits.due() or [0])[0] == 75
    else:
        assert limits.due() is None


@pytest.mark.parametrize("text", ["500 steps", "soon", "0 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"limits\.run"):
        Limits(None, text, 0, Hand())


# --- spent before -------------------------------------------------------------------------------------


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs(str(tmp_path))


def attempt(number: int, started: datetime = NOW) -> AttemptRecord:
    return AttemptRecord(
        run=RUN.id, attempt=number, started=started, host="h", pid=1, process_started=None,
        boot_id=None, job=None, numerics={}, versions={},
    )  # fmt: skip


def end(number: int, seconds: float) -> EndRecord:
    return EndRecord(
        run=RUN.id, attempt=number, ended=NOW + timedelta(seconds=seconds), exit_code=75, step=1,
        reason="", error=None, code=None,
    )  # fmt: skip


def spent(blobs: BlobStore, **facts: Any) -> float:
    return asyncio.run(spent_before(blobs, replace(Facts(run=RUN), **facts)))


def put(blobs: BlobStore, path: str, at: float, data: bytes = b"x") -> None:
    """A blob that was written so many seconds after NOW, by the store's clock."""
    asyncio.run(blobs.put(path, data))
    file = blobs.local_path(path)
    assert file is not None
    os.utime(file, ((NOW + timedelta(seconds=at)).timestamp(),) * 2)


def test_attempts_that_ended(blobs: BlobStore) -> None:
    assert spent(blobs) == 0
    assert spent(blobs, attempts=[attempt(1), attempt(2)], ends=[end(2, 5.5), end(1, 10)]) == 15.5


def test_a_clock_that_went_back_takes_no_time_away(blobs: BlobStore) -> None:
    assert spent(blobs, attempts=[attempt(1), attempt(2)], ends=[end(1, -86400), end(2, 10)]) == 10


def test_one_that_was_killed_lasted_as_long_as_it_was_heard_of(blobs: BlobStore) -> None:
    """Whatever its own clock said when it began."""
    first = attempt(1, NOW - timedelta(days=3))
    put(blobs, PATHS.attempt(1), 100, encode(first))
    assert spent(blobs, attempts=[first]) == 0
    put(blobs, PATHS.segment(1, 1), 160)
    assert spent(blobs, attempts=[first]) == 60
    put(blobs, PATHS.segment(1, 1), 40)  # the store's clock went back
    assert spent(blobs, attempts=[first]) == 0


def test_one_whose_record_is_gone_counts_for_nothing(blobs: BlobStore) -> None:
    assert spent(blobs, attempts=[attempt(1)]) == 0
