"""The state is a function of the facts and the time, and time alone never ends or revives a run."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Facts,
    Free,
    Held,
    Here,
    JobRecord,
    ResultRecord,
    RunRecord,
    judge,
    state,
)
from crown_exp.outcome import FINAL, ExitCode, State

calm = settings(deadline=None)
START = datetime(2026, 11, 22, 10, tzinfo=UTC)
RUN = RunRecord(
    "r1", "x", None, "ada", START, "a.b", "v1:0", [], [], 0, "here", None, None, None, []
)  # fmt: skip

moments = st.integers(0, 300).map(lambda seconds: START + timedelta(seconds=seconds))
job_ids = st.none() | st.sampled_from(["local:1", "local:2"])
numbers = st.integers(1, 4)
exit_codes = st.sampled_from([int(code) for code in ExitCode]) | st.integers(-20, 200)


def unique(records: st.SearchStrategy, key: str) -> st.SearchStrategy:
    return st.lists(records, max_size=4, unique_by=lambda record: getattr(record, key))


jobs = unique(
    st.builds(JobRecord, st.just("r1"), numbers, st.just("local"), moments, job_ids, st.booleans()),
    "number",
)
attempts = unique(
    st.builds(
        AttemptRecord, st.just("r1"), numbers, moments, st.just("box"), st.integers(2, 4),
        st.none() | st.just(5.0), st.none() | st.just("boot"), job_ids, st.just({}), st.just({}),
    ),
    "attempt",
)  # fmt: skip
ends = unique(
    st.builds(
        EndRecord, st.just("r1"), numbers, moments, exit_codes, st.just(0), st.just(""),
        st.none(), st.none(),
    ),
    "attempt",
)  # fmt: skip
results = st.none() | st.builds(
    ResultRecord, st.just("r1"), numbers, st.just(0), moments, st.none(), st.booleans()
)
facts = st.builds(Facts, st.just(RUN), jobs, attempts, ends, results, st.none() | moments)


@calm
@given(facts, moments, st.randoms())
def test_total_and_blind_to_order(known: Facts, now: datetime, chance: random.Random) -> None:
    def shuffled(records: list) -> list:
        return chance.sample(records, len(records))

    found = state(known, now)
    assert isinstance(found, State)
    other = Facts(
        known.run,
        shuffled(known.jobs),
        shuffled(known.attempts),
        shuffled(known.ends),
        known.result,
        known.last_beat,
    )
    assert state(other, now) is found


@calm
@given(facts, moments, moments)
def test_time_only_lets_a_silent_run_go(known: Facts, one: datetime, other: datetime) -> None:
    before, after = (state(known, moment) for moment in sorted((one, other)))
    if before is State.RUNNING:
        assert after in (State.RUNNING, State.LOST, State.QUEUED, State.STOPPED)
    else:
        assert after is before
    if before in FINAL:
        assert after is before


@calm
@given(facts, moments)
def test_completed_and_its_result_are_one(known: Facts, now: datetime) -> None:
    assert (state(known, now) in (State.COMPLETED, State.PRUNED)) == (known.result is not None)


@calm
@given(facts, moments)
def test_what_a_superseded_attempt_says_is_nothing(known: Facts, now: datetime) -> None:
    newest = max((attempt.attempt for attempt in known.attempts), default=0)
    kept = [end for end in known.ends if end.exit_code != 76]
    without = replace(known, ends=kept)
    if all(end.attempt < newest for end in known.ends if end.exit_code == 76):
        assert state(known, now) is state(without, now)


@calm
@given(facts, moments)
def test_a_new_job_queues_a_run_that_is_neither_running_nor_done(
    known: Facts, now: datetime
) -> None:
    job = JobRecord("r1", 9, "local", START + timedelta(days=1), "local:9", False)
    again = state(replace(known, jobs=[*known.jobs, job]), now)
    if known.result is not None or state(known, now) is State.RUNNING:
        assert again is state(known, now)
    else:
        assert again is State.QUEUED


@calm
@given(facts, moments, st.booleans(), st.booleans())
def test_the_fence_and_the_state_agree(
    known: Facts, now: datetime, take_over: bool, alive: bool
) -> None:
    newest = max(known.attempts, key=lambda attempt: attempt.attempt, default=None)
    end = next((e for e in known.ends if newest and e.attempt == newest.attempt), None)
    here = Here("elsewhere", "boot", lambda pid, started: alive)
    verdict = judge(newest, end, known.last_beat, now, here, take_over=take_over)
    if isinstance(verdict, Held):
        assert verdict.by == newest and verdict.beat_age_s < 60 and not take_over
    else:
        assert verdict.next_attempt == (newest.attempt + 1 if newest else 1)
        assert take_over or not verdict.took_over
    # Free means that nobody else runs it; what comes after the newest attempt can only be a mistake.
    orphans = any(newest is None or e.attempt > newest.attempt for e in known.ends)
    if known.result is None and not take_over and not orphans:
        assert isinstance(verdict, Held) == (state(known, now) is State.RUNNING)
    if known.result is None and take_over and not orphans:
        assert isinstance(verdict, Free)
        assert verdict.took_over == (state(known, now) is State.RUNNING)
