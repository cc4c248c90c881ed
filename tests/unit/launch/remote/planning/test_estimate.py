"""How long runs are thought to take: from earlier ones, in the registry or in the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.base import Target
from crown_exp.folder import AttemptRecord, EndRecord, JobRecord, ResultRecord, RunRecord, encode
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Rate
from crown_exp.launch.remote.base import Guess
from crown_exp.launch.remote.planning import past
from crown_exp.launch.remote.planning.estimate import guess, guesses
from crown_exp.launch.remote.planning.past import NEWEST, Lived, in_registry
from crown_exp.launch.session import Session, open_session
from crown_exp.registry import ingest_run, open_registry
from crown_exp.storage.machine import here
from crown_exp.storage.runs import write_job, write_run
from tests.unit.launch.test_submit import order

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
STEPS = 5
"""Of the orders that are asked about."""
A100 = Target("a100_spot", "skypilot", ("A100:1",), spot=True)
H100 = Target("h100", "skypilot", ("H100:1",))
CLUSTER = Target("slurm", "slurm", shared=True)
HERE = Target()
PAID = Rate(cloud="gcp", region="us-central1", accelerators="A100:1", spot=True, usd_per_hour=1.2)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.chdir(tmp_path)
    with open_session(None) as opened:
        yield opened


class Store:
    """Runs of the experiment `digits`, as attempts of given hours on a target."""

    def __init__(self, session: Session) -> None:
        self.session, self.made = session, 0

    def ran(
        self, *hours: float, target: str = "a100_spot", place: Rate | None = PAID, host: str = "node",
        killed: bool = False, result: bool | str = True, rates: Sequence[Rate] = (), steps: int = STEPS,
        **changes: Any,
    ) -> str:  # fmt: skip
        self.made += 1
        run = f"r261122-{self.made:06}"
        call, blobs, paths = self.session.portal.call, self.session.blobs, RunPaths(run)
        record = RunRecord(
            id=run, name="digits", experiment="digits", user="ada",
            created=T0 + timedelta(minutes=self.made), task="m.train", signature="v1:0", overrides=[],
            tags=[], seed=0, compute=target, sweep=None, lineage=None, code=None, bound=[],
        )  # fmt: skip
        call(write_run, blobs, replace(record, **changes), b"seed: 0\n")
        elsewhere = target != "local"
        if elsewhere:
            job = JobRecord(
                run, 1, "skypilot", T0, run, cancelled=False, target=target, rates=list(rates)
            )
            call(write_job, blobs, job)
        for number, each in enumerate(hours, 1):
            started = T0 + timedelta(days=number)
            attempt = AttemptRecord(
                run, number, started, host, 1, None, None, run if elsewhere else None, {}, {}, None, place
            )  # fmt: skip
            call(blobs.put, paths.attempt(number), encode(attempt))
            if not killed or number == len(hours):
                code = 0 if number == len(hours) else 75
                end = EndRecord(
                    run, number, started + timedelta(hours=each), code, steps, "", None, None
                )
                call(blobs.put, paths.end(number), encode(end))
        if result:
            kept = ResultRecord(run, len(hours), steps, T0, 1.0, pruned=result == "pruned")
            call(blobs.put, paths.result, encode(kept))
        return run

    def indexed(self, *runs: str) -> None:
        async def fill(url: str) -> None:
            async with open_registry(url) as registry:
                for run in runs:
                    await ingest_run(registry, self.session.blobs, run)

        assert self.session.database is not None
        self.session.portal.call(fill, self.session.database)


@pytest.fixture
def store(session: Session) -> Store:
    return Store(session)


def asked(session: Session, *targets: Target) -> list[Guess | None]:
    return guesses(session, [order() for _ in targets], targets)


def test_nothing_is_known_of_what_never_ran(session: Session, store: Store) -> None:
    assert asked(session, A100, HERE) == [None, None]
    store.ran(1.0, experiment="other")
    store.ran(1.0, task="m.other")
    store.ran(1.0, result=False)
    store.ran(1.0, result="pruned")
    assert asked(session, A100, HERE) == [None, None]


@pytest.mark.parametrize("where", ["store", "registry"])
def test_all_attempts_of_a_run_count_and_the_median_of_runs(
    session: Session, store: Store, where: str
) -> None:
    runs = [store.ran(1.0, 0.5), store.ran(2.0), store.ran(9.0)]
    runs.append(store.ran(100.0, target="h100", place=PAID | {"accelerators": "H100:1"}))
    runs.append(store.ran(0.25, target="slurm", place=None))
    runs.append(store.ran(0.125, target="local", place=None, host=here().host))
    runs.append(store.ran(50.0, target="local", place=None, host="another"))
    if where == "registry":
        store.indexed(*runs)
        for run in runs:  # it alone is asked
            session.portal.call(session.blobs.delete, RunPaths(run).record)
    assert asked(session, A100, H100, CLUSTER, HERE) == [
        Guess(2.0, 3), Guess(100.0, 1), Guess(0.25, 1), Guess(0.125, 1),
    ]  # fmt: skip


def test_the_same_accelerator_counts_whatever_its_target_is_called(
    session: Session, store: Store
) -> None:
    store.ran(1.0)
    on_demand = replace(A100, name="a100", spot=False)
    several = replace(on_demand, nodes=2)
    assert asked(session, on_demand, several, replace(A100, accelerators=("a100:1", "H100:1"))) == [
        Guess(1.0, 1), None, Guess(1.0, 1),
    ]  # fmt: skip


LARGE: Rate = {**PAID, "accelerators": "A100-80GB:1", "usd_per_hour": 2.1}
EITHER = replace(A100, accelerators=("A100:1", "A100-80GB:1"))


@pytest.mark.parametrize("where", ["store", "registry"])
def test_an_accelerator_that_could_not_be_told_counts_for_the_same_fall_back_list(
    session: Session, store: Store, where: str
) -> None:
    run = store.ran(4.0, place=LARGE, rates=[PAID, LARGE])
    if where == "registry":
        store.indexed(run)
        session.portal.call(session.blobs.delete, RunPaths(run).record)
    turned = replace(EITHER, accelerators=("A100-80GB:1", "A100:1"))
    longer = replace(EITHER, accelerators=(*EITHER.accelerators, "H100:1"))
    assert asked(session, EITHER, turned, A100, longer) == [
        Guess(4.0, 1), Guess(4.0, 1), None, None,
    ]  # fmt: skip


def test_one_that_could_be_told_counts_before_those_and_only_for_itself(
    session: Session, store: Store
) -> None:
    store.ran(4.0, place=LARGE, rates=[PAID, LARGE])
    store.ran(1.0, place=PAID, rates=[PAID, LARGE])
    assert asked(session, EITHER) == [Guess(1.0, 1)]
    hopper: Rate = {**PAID, "accelerators": "H100:1", "usd_per_hour": 11.0}
    several = replace(EITHER, accelerators=("A100-80GB:1", "H100:1"))
    store.ran(9.0, place=hopper, rates=[LARGE, hopper])
    store.ran(2.0, place=LARGE, rates=[LARGE, hopper])
    assert asked(session, several) == [
        Guess(3.0, 2)
    ]  # both are the dearest there, or known to be it


def test_what_is_damaged_tells_no_choices() -> None:
    assert past.choices(LARGE, [PAID, LARGE]) == {"a100:1", "a100-80gb:1"}
    assert past.choices(PAID, [PAID, LARGE]) == frozenset()
    for place, rates in ((None, [PAID]), (LARGE, None), (LARGE, [{}]), ({}, [PAID, LARGE]), (7, 7)):
        assert past.choices(place, rates) == frozenset()


def test_a_machine_without_accelerators_is_known_by_its_targets_name(
    session: Session, store: Store
) -> None:
    store.ran(1.0, target="cpu", place=PAID | {"accelerators": ""})
    assert asked(session, Target("cpu", "skypilot"), Target("big_cpu", "skypilot")) == [
        Guess(1.0, 1),
        None,
    ]


def test_a_run_that_was_on_two_kinds_of_machine_tells_nothing(
    session: Session, store: Store
) -> None:
    run = store.ran(1.0, 1.0)
    attempt = RunPaths(run).attempt(2)
    moved = session.portal.call(session.blobs.get, attempt).replace(b"A100:1", b"H100:1")
    session.portal.call(session.blobs.put, attempt, moved)
    assert asked(session, A100, H100) == [None, None]


def test_what_the_registry_does_not_know_is_read_from_the_store(
    session: Session, store: Store
) -> None:
    store.indexed(store.ran(1.0))
    store.ran(3.0, target="slurm", place=None)
    assert asked(session, A100, CLUSTER) == [Guess(1.0, 1), Guess(3.0, 1)]


def test_a_registry_that_cannot_be_read_is_no_error(session: Session, store: Store) -> None:
    store.ran(1.0)
    assert session.database is not None
    path = Path(session.database.partition("///")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no database at all")
    assert asked(session, A100) == [Guess(1.0, 1)]
    path.unlink()
    with sqlite3.connect(path) as old:  # of a version that knew no places
        old.execute("CREATE TABLE runs (id TEXT)")
    assert asked(session, A100) == [Guess(1.0, 1)]


def test_damaged_runs_are_passed_over(session: Session, store: Store) -> None:
    store.ran(1.0)
    for path in (RunPaths(store.ran(5.0)).attempt(1), RunPaths(store.ran(5.0)).record):
        session.portal.call(session.blobs.put, path, b"{")
    assert asked(session, A100) == [Guess(1.0, 1)]


@pytest.mark.parametrize("where", ["store", "registry"])
def test_an_attempt_that_was_killed_counts_until_it_was_last_heard_of(
    session: Session, store: Store, where: str
) -> None:
    """In the store by the store's clock, which is today's; in the registry by its last event: none here."""
    run = store.ran(5.0, 2.0, killed=True)
    if where == "store":
        (found,) = asked(session, A100)
        assert found is not None and found.hours > 2.0
        return
    store.indexed(run)
    assert asked(session, A100) == [Guess(2.0, 1)]
    assert session.database is not None
    with sqlite3.connect(session.database.partition("///")[2]) as index:
        heard = (T0 + timedelta(days=1, hours=0.5)).timestamp()
        index.execute("INSERT INTO events VALUES (?, 1, 1, 1, ?, 'saved', '{}')", (run, heard))
    assert asked(session, A100) == [Guess(2.5, 1)]


def test_no_more_of_a_store_is_read_than_need_be(
    session: Session, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "LOOKED", 3 * NEWEST)
    for number in range(5 * NEWEST):
        store.ran(1.0 + (number < 3 * NEWEST))
    read: list[str] = []
    get = session.blobs.get

    async def counting(path: str, *args: Any) -> Any:
        read.append(path)
        return await get(path, *args)

    monkeypatch.setattr(session.blobs, "get", counting)
    assert asked(session, A100) == [Guess(1.0, NEWEST)]  # the newest
    assert sum(path.endswith("/run.json") for path in read) <= 2 * past.AT_ONCE
    read.clear()
    assert asked(session, H100) == [None]
    assert len({path.split("/")[1] for path in read}) <= past.LOOKED


def test_runs_of_another_store_do_not_count(session: Session, store: Store) -> None:
    store.indexed(store.ran(1.0))
    assert session.database is not None
    kind = ("digits", "m.train")
    assert in_registry(session.database, "memory://other", {kind}) == {kind: []}
    assert len(in_registry(session.database, session.blobs.url, {kind})[kind]) == 1


LIVED = st.builds(
    Lived,
    since=st.none() | st.just(T0),
    until=st.none() | st.datetimes(T0.replace(tzinfo=None), timezones=st.just(UTC)),
    host=st.sampled_from(["here", "there"]),
    accelerators=st.sampled_from([None, "", "A100:1", "H100:1"]),
    target=st.sampled_from([None, "a100_spot", "h100", "slurm"]),
    choices=st.frozensets(st.sampled_from(["a100:1", "h100:1"])),
    steps=st.integers(0, 20),
)


@given(
    st.lists(st.lists(LIVED, min_size=1, max_size=3), max_size=30),
    st.sampled_from([A100, H100, CLUSTER, HERE]),
)
def test_a_guess_is_between_the_shortest_and_the_longest(
    runs: list[list[Lived]], target: Target
) -> None:
    found = guess(runs, target, None, "here")
    hours = [sum(it.seconds for it in run) / 3600 for run in runs]
    if found is not None:
        assert found.hours > 0
        assert min(hours) <= found.hours <= max(hours)
        assert 1 <= found.runs <= min(NEWEST, len(runs))


@pytest.mark.parametrize("where", ["store", "registry"])
def test_hours_are_of_as_many_steps(session: Session, store: Store, where: str) -> None:
    """A run that was cut short says what a step takes, not what the whole does."""
    runs = [store.ran(0.5, steps=1), store.ran(4.0, steps=10)]
    if where == "registry":
        store.indexed(*runs)
    (found,) = asked(session, A100)
    assert found == Guess(2.25, 2)  # 5 times half an hour, half of four


def test_where_nobody_knows_the_end_only_the_longest_tell() -> None:
    def lived(hours: float, steps: int) -> list[Lived]:
        until = T0 + timedelta(hours=hours)
        return [Lived(T0, until, "node", "A100:1", "a100_spot", steps=steps)]

    runs = [lived(0.01, 10), lived(3.0, 1000), lived(2.0, 990)]
    assert guess(runs, A100, None, "here") == Guess(2.5, 2)
    assert guess(runs, A100, 2000, "here") == Guess(4.040404040404041, 3)
    assert guess([lived(1.0, 0)], A100, None, "here") == Guess(1.0, 1)
    assert guess([lived(1.0, 0)], A100, 10, "here") is None
