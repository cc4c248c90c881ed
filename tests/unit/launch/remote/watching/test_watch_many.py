"""Many runs watched at once: what the store is asked for, and that no end waits for it."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crown_exp.compute.base import JobState, JobStatus, Target
from crown_exp.compute.money import spending
from crown_exp.folder import AttemptRecord, JobRecord, RunPaths, encode
from crown_exp.folder.records import Rate
from crown_exp.folder.segment import point
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.watching.following import Place
from crown_exp.launch.remote.watching.watch import (
    FEW,
    LOOK_SECONDS,
    LOOKS,
    POLL_SECONDS,
    QUICK_SECONDS,
    Watch,
)
from crown_exp.storage import Portal, open_blobs
from crown_exp.storage.runs import write_job
from crown_exp.storage.spending import write_spending
from tests.asked import Asked
from tests.clocks import Moved, Stopped
from tests.unit.registry.folders import CONFIG, RUN, Folder, make_run

RATE = Rate(cloud="aws", region="r", accelerators="A100:1", spot=True, usd_per_hour=2.0)
TARGET = Target(name="a100", executor="skypilot", start_deadline=3600.0)
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
"""Of whatever day it is: an hour on is the same month, and what an hour costs is in one record."""


class Says:
    """An executor that says of jobs what it is told to say, and keeps what it is asked to cancel."""

    def __init__(self) -> None:
        self.told: dict[str, JobStatus] = {}
        self.cancelled: list[str] = []

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        return {handle: self.told[handle] for handle in handles}

    def cancel(self, handles: Collection[str]) -> None:
        self.cancelled.extend(handles)

    def log(self, handle: str, lines: int = 40) -> str:
        return ""


class Many:
    """Runs whose jobs are at work, in a store that counts what it is asked."""

    def __init__(self, portal: Portal, name: str, count: int) -> None:
        self.portal, self.clock, self.says = portal, Moved(clock=Stopped(NOON)), Says()
        self.asked = Asked(open_blobs(f"memory://{name}"), self.clock.now)
        executors: Any = Executors({"skypilot": lambda: self.says})
        place = Place(portal, self.asked.store, executors, self.clock)
        self.made = [portal.call(self.make, number) for number in range(count)]
        self.stream = io.StringIO()
        self.watch = Watch(place, [self.submitted(it.id) for it in self.made], self.stream)

    async def make(self, number: int) -> Folder:
        made = await make_run(self.asked.store, f"r261130-{number:06}", config=CONFIG)
        await write_job(self.asked.store, self.job(made.id))
        self.says.told[made.id] = JobStatus(JobState.RUNNING)
        return made

    def job(self, run: str) -> JobRecord:
        return JobRecord(
            run=run, number=1, executor="skypilot", created=self.clock.now(), job=run, handle=run,
            cancelled=False, target="a100",
        )  # fmt: skip

    def submitted(self, run: str) -> Submitted:
        return Submitted(replace(RUN, id=run), self.job(run), TARGET)

    def begin(self, made: Folder) -> None:
        now = self.clock.now()
        attempt = AttemptRecord(
            run=made.id, attempt=1, started=now, host="h", pid=1, process_started=None, boot_id=None,
            job=made.id, numerics={}, versions={}, place=RATE,
        )  # fmt: skip
        path = RunPaths(made.id).attempt(1)
        self.portal.call(self.asked.put, path, encode(attempt), create=True)
        records = spending(replace(RUN, id=made.id), 1, "a100", RATE, now, now + timedelta(hours=1))
        self.portal.call(write_spending, self.asked.store, records)

    def log(self, steps: int) -> None:
        logged = [[point(step, 1e9 + step, {"loss": 1.0})] for step in range(1, steps + 1)]
        for made in self.made:
            self.portal.call(made.log, logged)

    def turn(self, seconds: float) -> Mapping[str, int]:
        """What a turn asks of the store, so many seconds after the one before."""
        self.clock.ahead += seconds
        self.asked.take()
        self.watch.turn()
        return self.asked.take()


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def many(portal: Portal, request: pytest.FixtureRequest) -> Iterator[Many]:
    made = Many(portal, f"many-{request.node.name}", getattr(request, "param", 3 * LOOKS))
    for run in made.made:
        made.begin(run)
    yield made


@pytest.mark.parametrize("many", [200], indirect=True)
def test_two_hundred_runs_cost_a_few_looks_a_turn(many: Many) -> None:
    """Each is looked at by and by; what they cost is one listing for all."""
    many.log(1)
    assert many.turn(0)["get"] >= 200
    step, turns = 1, 1
    while min(it.progress.step for it in many.watch.runs) < 2:
        step, turns = step + 1, turns + 1
        many.log(step)
        made = many.turn(POLL_SECONDS)
        assert made["list"] <= 2 * LOOKS + 1
        assert made["get"] == made["folders"] == made["stat"] == 0
        assert made["get_into"] <= LOOKS
        assert turns < 13
    assert {it.usd for it in many.watch.runs} == {2.0}
    assert many.watch.pause() == POLL_SECONDS
    assert "running" in many.stream.getvalue() and not many.watch.ended()[0].result


def test_the_end_of_one_of_many_is_seen_when_its_job_is_over(many: Many) -> None:
    many.turn(0)
    over = many.made[7]
    many.portal.call(over.result, {"accuracy": 0.5})
    many.portal.call(over.end)
    many.turn(1.0)
    assert len(many.watch.open) == len(many.made)  # its job goes on
    many.says.told[over.id] = JobStatus(JobState.SUCCEEDED, exit_code=0)
    many.turn(1.0)
    (ended,) = (it.ended for it in many.watch.runs if it.ended)
    assert (ended.run, ended.exit_code, ended.result) == (over.id, 0, {"accuracy": 0.5})
    lines = [it for it in many.stream.getvalue().splitlines() if "completed" in it]
    assert len(lines) == 1 and "$2.00" in lines[0]


def test_news_of_a_job_are_followed_by_a_look(many: Many) -> None:
    many.turn(0)
    it, made = many.watch.runs[5], many.made[5]
    many.portal.call(made.log, [[point(9, 1e9, {"loss": 1.0})]])
    many.says.told[made.id] = JobStatus(JobState.RUNNING, "more to say")
    assert many.turn(1.0)["list"] == 0
    many.says.told[made.id] = JobStatus(JobState.RECOVERING, recoveries=1)
    assert many.turn(1.0)["list"] == 2
    assert it.progress.step == 9


def test_none_is_given_up_by_what_was_read_long_ago(portal: Portal) -> None:
    """Its attempt has begun since it was looked at; another's has not."""
    many = Many(portal, "many-late", 3 * LOOKS)
    many.turn(0)
    for made in many.made[1:]:
        many.begin(made)
    assert many.turn(1.0)["list"] == 0
    many.turn(3600.0)
    assert many.says.cancelled == [many.made[0].id]
    assert [it.run.record.id for it in many.watch.runs if it.ended] == [many.made[0].id]


def test_a_deadline_that_passes_during_a_turn_is_kept_in_the_next(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Many(portal, "many-between", 3 * LOOKS)
    many.turn(0)
    for made in many.made:
        many.begin(made)
    look = many.watch.look

    def slow() -> datetime | None:
        seen = look()
        many.clock.ahead += 3600.0
        return seen

    monkeypatch.setattr(many.watch, "look", slow)
    many.turn(1.0)
    assert many.says.cancelled == []


def test_a_run_that_was_read_long_ago_is_still_at_work(many: Many) -> None:
    """Its beat is as old as the look at it."""
    many.turn(0)
    rows = many.watch.runs
    for it in rows:
        it.looked = many.clock.monotonic() + 3600.0
    many.turn(LOOK_SECONDS + 1)
    assert "starting" not in many.stream.getvalue()
    assert "running" in many.stream.getvalue()


@pytest.mark.parametrize("many", [FEW], indirect=True)
def test_a_few_are_looked_at_in_every_turn(many: Many) -> None:
    many.turn(0)
    assert many.turn(1.0)["list"] == 2 * FEW
    assert many.watch.pause() == QUICK_SECONDS


def test_many_are_polled_slowly_from_the_first_minute_on(many: Many) -> None:
    assert many.watch.pause() == POLL_SECONDS
