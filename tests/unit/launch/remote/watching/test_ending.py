"""How a run that was elsewhere has ended, by its records and its job's state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crown_exp.compute.base import JobState, JobStatus, Target
from crown_exp.folder import AttemptRecord, EndRecord, Facts, Here, JobRecord, ResultRecord
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.watching.ending import after_job, by_itself, with_tail
from tests.unit.registry.folders import RUN, T0

NOW = T0 + timedelta(hours=9)
HERE = Here("desk", "boot of the desk", lambda pid, started: True)
JOB = JobRecord(
    RUN.id, 1, "skypilot", T0, "job-1", False, handle="7", target="a100_spot",
)  # fmt: skip
SENT = Submitted(RUN, JOB, Target(name="a100_spot", executor="skypilot"))
FAILED = JobStatus(JobState.FAILED, "exit", 1)


def attempt(number: int = 1, job: str | None = "job-1", host: str = "node") -> AttemptRecord:
    started = T0 + timedelta(hours=number)
    return AttemptRecord(RUN.id, number, started, host, 42, 7.5, "boot", job, {}, {})


def end(code: int, number: int = 1, **options: Any) -> EndRecord:
    ended = T0 + timedelta(hours=number, minutes=30)
    return EndRecord(RUN.id, number, ended, code, 10, f"code {code}", None, None, **options)


def facts(*records: Any, job: JobRecord = JOB, beat: datetime | None = None) -> Facts:
    """Attempts, ends and a result, in any order."""
    return Facts(
        RUN,
        jobs=[job],
        attempts=[it for it in records if isinstance(it, AttemptRecord)],
        ends=[it for it in records if isinstance(it, EndRecord)],
        result=next((it for it in records if isinstance(it, ResultRecord)), None),
        last_beat=beat,
    )


CANCELLED = replace(JOB, cancelled=True, reason="cancelled by the user")
RESULT = ResultRecord(RUN.id, 1, 10, T0, {"accuracy": 0.5})


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (facts(), None),
        (facts(attempt()), None),
        (facts(attempt(), RESULT), 0),
        (facts(attempt(), end(0), RESULT), 0),
        (facts(attempt(), end(1)), 1),
        (facts(attempt(), end(78)), 78),
        (facts(attempt(), end(78, again=True)), None),  # the next attempt begins at once
        (facts(attempt(), end(79)), 79),
        (facts(attempt(), end(77)), 77),
        (facts(attempt(), end(130)), 130),
        (facts(attempt(), end(2)), 2),
        (facts(attempt(), end(75)), None),  # its executor starts it again
        (facts(attempt(), end(80)), None),
        (facts(attempt(), end(75), job=CANCELLED), 130),
        (facts(attempt(), end(77), attempt(2)), None),
        (facts(attempt(job="job-0"), end(77)), None),  # ours is to go on with it
        (facts(attempt(job="job-0"), end(1)), 1),  # nothing goes on with that
        (facts(attempt(), end(1), attempt(2, "other"), end(76, 2)), 1),
    ],
)
def test_a_run_that_has_ended_by_itself(known: Facts, code: int | None) -> None:
    found = by_itself(SENT, known, NOW)
    assert (found and found.exit_code) == code
    if found is not None:
        assert found.result == (RESULT.result if code == 0 else None)
        assert bool(found.error) == bool(code)


@pytest.mark.parametrize(
    ("known", "status", "code", "said"),
    [
        (facts(), FAILED, 80, "ended before the run began (exit code 1): exit"),
        (facts(), JobStatus(JobState.FAILED, "no A100", began_nothing=True), 80, "before its command"),
        (facts(), JobStatus(JobState.GONE), 80, "does not know its job 7 on a100_spot"),
        (facts(), JobStatus(JobState.SUCCEEDED), 80, "ended before the run began"),
        (facts(), JobStatus(JobState.CANCELLED), 130, "was cancelled, not from here"),
        (facts(job=CANCELLED), JobStatus(JobState.CANCELLED), 130, "cancelled by the user"),
        (facts(attempt()), FAILED, 80, "ended without a word"),
        (facts(attempt(), end(75)), FAILED, 75, "code 75"),
        (facts(attempt(), end(80)), FAILED, 80, "code 80"),
        (facts(attempt(), end(75)), JobStatus(JobState.CANCELLED), 130, "not from here"),
        (facts(attempt(), end(78, again=True)), FAILED, 80, "ended without a word"),
        (facts(attempt(), end(1)), FAILED, 1, "code 1"),
        (facts(attempt(), beat=NOW), FAILED, None, ""),  # it may still write its end
        (facts(attempt(job="other"), beat=NOW), FAILED, 76, "elsewhere: attempt 1 on node"),
        (facts(attempt(job="other"), end(75)), FAILED, 80, "ended before the run began"),
    ],
)  # fmt: skip
def test_a_run_whose_job_is_over(
    known: Facts, status: JobStatus, code: int | None, said: str
) -> None:
    found = after_job(SENT, known, status, NOW, HERE, "the last line")
    assert (found and found.exit_code) == code
    if found is not None:
        assert said in found.error
        assert ("| the last line" in found.error) == (code == 80 and "code 80" not in found.error)


@pytest.mark.parametrize(("setup", "hinted"), [(("pip install x",), True), ((), False)])
def test_a_setup_of_ones_own_that_failed_is_not_to_be_run_again(
    setup: tuple[str, ...], hinted: bool
) -> None:
    sent = replace(SENT, target=replace(SENT.target, setup=setup))
    failed = replace(FAILED, setup_failed=True)
    found = after_job(sent, facts(), failed, NOW, HERE, "no x")
    assert found is not None
    assert (f"crown-exp resume {RUN.id} 'compute.setup=[...]'" in found.error) is hinted
    other = after_job(sent, facts(), FAILED, NOW, HERE, "no x")
    assert other is not None and "compute.setup" not in other.error


def test_a_tail_is_short_and_harmless() -> None:
    text = "\n".join([*map(str, range(50)), "", "\x1b[31mred\x07  "])
    reason, *lines, last = with_tail("why", text, "r1", 3).splitlines()
    assert (reason, last) == ("why", "  log: crown-exp logs r1")
    assert lines == ["  | 48", "  | 49", "  | \\x1b[31mred\\x07"]


def test_the_end_of_a_traceback_is_told_without_what_the_reason_says() -> None:
    error: Any = {"type": "ValueError", "message": "no", "traceback": "a\nb\n  raise x\nwhy\n"}
    known = facts(attempt(), replace(end(1), reason="why", error=error))
    found = by_itself(SENT, known, datetime.now(UTC))
    assert found is not None
    assert found.error.splitlines()[:-1] == ["why", "  | a", "  | b", "  |   raise x"]
