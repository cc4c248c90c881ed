"""Which records mean which state."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Facts,
    JobRecord,
    ResultRecord,
    RunRecord,
    state,
)
from crown_exp.outcome import STATE_OF_EXIT, State

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
RUN = RunRecord(
    "r1", "x", None, "ada", T0, "a.b", "v1:0", [], [], 0, "here", None, None, None, []
)  # fmt: skip


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def job(number: int, created: float, name: str | None = None, cancelled: bool = False) -> JobRecord:
    return JobRecord("r1", number, "local", at(created), name, cancelled)


def attempt(number: int, started: float, name: str | None = None) -> AttemptRecord:
    return AttemptRecord("r1", number, at(started), "box", 42, 1.0, "boot", name, {}, {})


def end(number: int, ended: float, code: int) -> EndRecord:
    return EndRecord("r1", number, at(ended), code, 10, "", None, None)


def result(pruned: bool = False) -> ResultRecord:
    return ResultRecord("r1", 1, 10, at(100), 0.5, pruned)


def found(
    now: float, beat: float | None = None, done: ResultRecord | None = None, **known
) -> State:
    return state(Facts(RUN, result=done, last_beat=at(beat) if beat else None, **known), at(now))


def test_variables_are_those_of_the_newest_job_that_tells_them() -> None:
    old, new = replace(job(1, 0), env={"A": "1"}), replace(job(2, 5), env={"A": "2"})
    unknown = job(3, 9)  # of an older version
    assert Facts(RUN, [unknown, new, old]).env == {"A": "2"}
    assert Facts(RUN, [new, replace(unknown, env={})]).env == {}
    assert Facts(RUN, [unknown]).env == Facts(RUN).env == {}


def test_before_the_first_attempt() -> None:
    assert found(0) is State.PLANNED
    assert found(9_999, jobs=[job(1, 0)]) is State.QUEUED
    assert found(0, jobs=[job(1, 0, "7", cancelled=True)]) is State.STOPPED
    assert found(0, jobs=[job(1, 0, cancelled=True), job(2, 5)]) is State.QUEUED


def test_running_as_long_as_it_beats() -> None:
    alive = {"jobs": [job(1, 0)], "attempts": [attempt(1, 10)]}
    assert found(69.9, **alive) is State.RUNNING
    assert found(70, **alive) is State.LOST
    assert found(3659.9, beat=3600, **alive) is State.RUNNING
    assert found(3660, beat=3600, **alive) is State.LOST


def test_a_wrong_clock_of_the_attempt_means_nothing_once_there_is_a_beat() -> None:
    assert found(120, beat=10, attempts=[attempt(1, 86_400)]) is State.LOST
    assert found(120, beat=100, attempts=[attempt(1, -86_400)]) is State.RUNNING


@pytest.mark.parametrize(
    ("code", "expected"),
    [*((int(code), known) for code, known in STATE_OF_EXIT.items() if code), (139, State.FAILED)],
)
def test_after_its_end_by_the_exit_code(code: int, expected: State) -> None:
    assert found(50, beat=49, attempts=[attempt(1, 10)], ends=[end(1, 50, code)]) is expected


def test_a_result_decides() -> None:
    begun = {"attempts": [attempt(1, 10)]}
    assert found(11, done=result(), **begun) is State.COMPLETED
    assert found(11, done=result(pruned=True), **begun) is State.PRUNED
    assert found(99, done=result(), ends=[end(1, 20, 1)], **begun) is State.COMPLETED
    # Killed after the result, before its end record; a job that came too late changes nothing.
    assert found(999, done=result(), jobs=[job(1, 500)], **begun) is State.COMPLETED


def test_an_end_that_claims_a_result_without_one_is_lost() -> None:
    assert found(50, attempts=[attempt(1, 10)], ends=[end(1, 50, 0)]) is State.LOST


def test_the_newest_attempt_speaks_for_the_run() -> None:
    attempts = [attempt(1, 10), attempt(2, 100)]
    assert found(110, beat=105, attempts=attempts, ends=[end(1, 50, 75)]) is State.RUNNING
    assert found(110, attempts=attempts, ends=[end(1, 90, 1), end(2, 105, 77)]) is State.CAPPED
    # The first never wrote its end, and is not waited for.
    assert found(110, attempts=attempts, ends=[end(2, 105, 75)]) is State.PREEMPTED


def test_a_superseded_attempt_ends_nothing() -> None:
    attempts = [attempt(1, 10), attempt(2, 100)]
    assert found(130, beat=120, attempts=attempts, ends=[end(1, 125, 76)]) is State.RUNNING
    both = [end(1, 125, 76), end(2, 120, 1)]
    assert found(130, attempts=attempts, ends=both) is State.FAILED
    # Superseded by what has been removed since: by the last that did end, if any did.
    assert found(130, attempts=[attempt(2, 1)], ends=[end(1, 9, 75), end(2, 9, 76)]) is (
        State.PREEMPTED
    )
    assert found(130, attempts=[attempt(1, 1)], ends=[end(1, 9, 76)]) is State.LOST


def test_a_job_after_the_end_queues_it_again() -> None:
    known = {"attempts": [attempt(1, 10, "7")], "ends": [end(1, 50, 1)]}
    assert found(70, jobs=[job(1, 0, "7")], **known) is State.FAILED
    assert found(70, jobs=[job(1, 0, "7"), job(2, 60)], **known) is State.QUEUED
    assert found(70, jobs=[job(2, 60, "8", cancelled=True)], **known) is State.FAILED
    # The submitter's clock is ahead: the job that ran is known by its id, and not waited for.
    assert found(70, jobs=[job(1, 60, "7")], **known) is State.FAILED


def test_a_job_after_the_last_beat_queues_a_lost_run_again() -> None:
    known = {"attempts": [attempt(1, 10)], "beat": 100}
    assert found(130, jobs=[job(1, 0), job(2, 120)], **known) is State.RUNNING
    assert found(500, jobs=[job(1, 0), job(2, 400)], **known) is State.QUEUED
    assert found(500, jobs=[job(1, 0)], **known) is State.LOST


def test_killed_by_a_cancel_is_stopped_not_lost() -> None:
    known = {"attempts": [attempt(1, 10, "7")], "beat": 100}
    cancelled = [job(1, 0, "7", cancelled=True)]
    assert found(130, jobs=cancelled, **known) is State.RUNNING
    assert found(500, jobs=cancelled, **known) is State.STOPPED
    assert found(500, jobs=[*cancelled, job(2, 400, "8")], **known) is State.QUEUED


def test_cancelled_by_the_executor_s_signal_is_stopped_not_preempted() -> None:
    begun = {"attempts": [attempt(1, 10, "7")], "jobs": [job(1, 0, "7", cancelled=True)]}
    assert found(60, ends=[end(1, 50, 75)], **begun) is State.STOPPED
    assert found(60, ends=[end(1, 50, 1)], **begun) is State.FAILED
    assert found(60, ends=[end(1, 50, 77)], **begun) is State.CAPPED
