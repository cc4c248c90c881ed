"""Runs in a store: made, read, found, claimed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from crown_exp.errors import ConfigError, CrownError, Superseded
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Here,
    JobRecord,
    ResultRecord,
    RunPaths,
    RunRecord,
    state,
)
from crown_exp.outcome import State
from crown_exp.storage import AlreadyExists, BlobStore
from crown_exp.storage.file import FileStore
from crown_exp.storage.memory import MemoryStore
from crown_exp.storage.runs import (
    Over,
    cancel_job,
    claim_attempt,
    find_run,
    is_superseded,
    last_beat,
    read_facts,
    read_job,
    read_jobs,
    read_run,
    write_end,
    write_job,
    write_result,
    write_run,
)

pytestmark = pytest.mark.anyio
T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
ID = "r261122-k7f3q2"
P = RunPaths(ID)
FAR = Here("elsewhere", "boot", lambda pid, started: True)


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(clock: HandClock) -> BlobStore:
    return MemoryStore(uuid4().hex, clock)


def run(run_id: str = ID) -> RunRecord:
    return RunRecord(
        run_id, "x", None, "ada", T0, "a.b", "v1:0", [], [], 0, "here", None, None, None, []
    )  # fmt: skip


def attempt(number: int, job: str | None = None) -> AttemptRecord:
    return AttemptRecord(ID, number, T0, "box", 42, 7.0, "boot", job, {}, {})


def end(number: int, code: int = 75) -> EndRecord:
    return EndRecord(ID, number, T0, code, 10, "stopped", None, None)


async def test_a_run_is_made_and_read(store: BlobStore) -> None:
    await write_run(store, run(), b"seed: 0\n")
    assert await read_run(store, ID) == run()
    assert await store.get(P.config) == b"seed: 0\n"


async def test_a_run_exists_from_its_record_on(store: BlobStore) -> None:
    """A writer that died in between left a config; the next try finishes."""
    await store.put(P.config, b"of a writer that died")
    with pytest.raises(ConfigError, match="no run in memory://"):
        await read_run(store, ID)
    with pytest.raises(ConfigError):
        await find_run(store, ID)
    await write_run(store, run(), b"seed: 0\n")
    await write_run(store, run(), b"seed: 0\n")
    assert await store.get(P.config) == b"seed: 0\n"


async def test_another_run_of_the_same_id_is_refused_and_harms_nothing(store: BlobStore) -> None:
    await write_run(store, run(), b"mine")
    with pytest.raises(AlreadyExists):
        await write_run(store, replace(run(), user="bob"), b"his")
    assert await store.get(P.config) == b"mine"
    assert (await read_run(store, ID)).user == "ada"


async def test_facts_follow_a_life(store: BlobStore, clock: HandClock) -> None:
    async def found() -> State:
        return state(await read_facts(store, ID), await store.now())

    await write_run(store, run(), b"")
    assert await found() is State.PLANNED
    await write_job(store, JobRecord(ID, 1, "local", T0, None, False))
    await write_job(store, JobRecord(ID, 1, "local", T0, "local:1", False))
    assert await found() is State.QUEUED
    await claim_attempt(store, ID, lambda number: attempt(number, "local:1"), FAR, job="local:1")
    assert await found() is State.RUNNING
    clock.seconds = 100
    assert await found() is State.LOST
    await store.put(P.segment(1, 1), b"")
    clock.seconds = 159
    assert await found() is State.RUNNING
    await write_end(store, end(1))
    assert await found() is State.PREEMPTED
    await claim_attempt(store, ID, attempt, FAR)
    assert await found() is State.RUNNING
    await write_result(store, ResultRecord(ID, 2, 20, T0, 0.5))
    assert await found() is State.COMPLETED

    facts = await read_facts(store, ID)
    assert [job.job for job in facts.jobs] == ["local:1"]
    assert [known.attempt for known in facts.attempts] == [1, 2]
    assert [known.attempt for known in facts.ends] == [1]


async def test_the_beat_is_the_newest_segment_or_the_attempt_s_own_record(
    store: BlobStore, clock: HandClock
) -> None:
    assert await last_beat(store, ID, 1) is None
    await claim_attempt(store, ID, attempt, FAR)
    assert await last_beat(store, ID, 1) == T0
    clock.seconds = 30
    await store.put(P.segment(1, 2), b"")
    clock.seconds = 45
    await store.put(P.segment(1, 1), b"")
    clock.seconds = 50
    await store.put(P.segment(11, 1), b"")  # another attempt's
    await store.put(P.text_log(1, 0), b"")  # no segment
    assert await last_beat(store, ID, 1) == T0 + timedelta(seconds=45)
    await write_run(store, run(), b"")
    assert (await read_facts(store, ID)).last_beat == T0 + timedelta(seconds=45)


async def test_what_does_not_belong_is_passed_over(store: BlobStore) -> None:
    await write_run(store, run(), b"")
    for path in (f"{P.attempts}note.txt", f"{P.attempts}1.json", f"{P.jobs}x", f"{P.log}x"):
        await store.put(path, b"no record")
    assert state(await read_facts(store, ID), T0) is State.PLANNED
    assert (await claim_attempt(store, ID, attempt, FAR)).attempt == 1


async def test_a_damaged_record_is_named(store: BlobStore) -> None:
    await write_run(store, run(), b"")
    await store.put(P.attempt(1), b"{")
    for act in (read_facts(store, ID), claim_attempt(store, ID, attempt, FAR)):
        with pytest.raises(CrownError, match=rf"^{P.attempt(1)}: damaged, not JSON"):
            await act


async def test_ends_and_results_are_written_once(store: BlobStore) -> None:
    await write_end(store, end(1))
    await write_end(store, end(1))  # the same again is what a repeated request writes
    with pytest.raises(AlreadyExists):
        await write_end(store, end(1, code=1))
    await write_result(store, ResultRecord(ID, 1, 1, T0, 0.5))
    with pytest.raises(AlreadyExists):
        await write_result(store, ResultRecord(ID, 1, 1, T0, 0.6))


async def test_a_cancel_outlives_what_is_written_over_the_record(store: BlobStore) -> None:
    """Whoever read the record before it was cancelled writes it anew."""
    job = JobRecord(ID, 1, "skypilot", T0, ID, False)
    await write_job(store, job)
    await cancel_job(store, ID, 1, "by the\nuser")
    await cancel_job(store, ID, 1, "it was over")  # the first says why
    await write_job(store, replace(job, handle="7"))
    wanted = replace(job, handle="7", cancelled=True, reason="by the user")
    assert await read_job(store, ID, 1) == wanted
    assert await read_jobs(store, ID) == [wanted]


async def test_attempts_are_numbered_on(store: BlobStore) -> None:
    for number in (1, 2, 3):
        assert (await claim_attempt(store, ID, attempt, FAR)).attempt == number
        assert not await is_superseded(store, ID, number)
        await write_end(store, end(number))
    assert await is_superseded(store, ID, 1) and await is_superseded(store, ID, 2)


async def test_a_living_attempt_refuses_in_one_line(store: BlobStore, clock: HandClock) -> None:
    await claim_attempt(store, ID, attempt, FAR)
    clock.seconds = 12
    with pytest.raises(Superseded) as caught:
        await claim_attempt(store, ID, attempt, FAR)
    line = str(caught.value)
    for part in (ID, "attempt 1 on box (pid 42)", "since 2026-11-22T10:00", "12 s", "--take-over"):
        assert part in line
    assert "\n" not in line and caught.value.exit_code == 76
    assert [entry.path for entry in await store.list(P.attempts)] == [P.attempt(1)]


async def test_who_may_start_all_the_same(store: BlobStore, clock: HandClock) -> None:
    await write_run(store, run(), b"")
    await claim_attempt(store, ID, lambda number: attempt(number, "sky:3"), FAR, job="sky:3")
    with pytest.raises(Superseded):
        await claim_attempt(store, ID, attempt, FAR, job="sky:4")
    again = await claim_attempt(
        store, ID, lambda number: attempt(number, "sky:3"), FAR, job="sky:3"
    )
    assert again.attempt == 2
    third = await claim_attempt(store, ID, attempt, FAR, take_over=True)
    assert (third.attempt, third.took_over) == (3, True)
    assert [it.took_over for it in (await read_facts(store, ID)).attempts] == [False, False, True]
    dead = Here("box", "boot", lambda pid, started: False)
    assert (await claim_attempt(store, ID, attempt, dead)).attempt == 4
    clock.seconds = 60
    assert (await claim_attempt(store, ID, attempt, FAR)).attempt == 5


async def test_a_start_that_was_too_slow_is_refused_by_the_faster(store: BlobStore) -> None:
    async def rival() -> None:
        await claim_attempt(store, ID, lambda number: replace(attempt(number), host="fast"), FAR)

    class Slow(MemoryStore):
        """Between looking and writing, another starts."""

        async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
            if create and not await store.list(P.attempts):
                await rival()
            await super().put(path, data, create=create)

    slow = Slow(store.url.removeprefix("memory://"), HandClock())
    with pytest.raises(Superseded, match="on fast"):
        await claim_attempt(slow, ID, attempt, FAR)


async def test_a_listing_that_lags_is_not_trusted(store: BlobStore) -> None:
    """A client of a shared file system may list a folder as it was a while ago."""

    class Lagging(MemoryStore):
        async def list(self, prefix: str) -> list:
            return [] if prefix == P.attempts else await super().list(prefix)

    await claim_attempt(store, ID, attempt, FAR)
    lagging = Lagging(store.url.removeprefix("memory://"), HandClock())
    with pytest.raises(Superseded):
        await claim_attempt(lagging, ID, attempt, FAR)
    await write_end(store, end(1))
    assert (await claim_attempt(lagging, ID, attempt, FAR)).attempt == 2


@pytest.fixture(params=["file", "memory"])
async def filled(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    store = FileStore(tmp_path) if request.param == "file" else MemoryStore(uuid4().hex)
    for run_id in ("r261122-k7f3q2", "r261122-k7zzzz", "r261123-m2m2m2", "r261123-m2"):
        await write_run(store, run(run_id), b"")
    await store.put("runs/r261124-unborn/config.yaml", b"")
    await store.put("runs/not a run/run.json", b"")
    return store


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("r261122-k7f3q2", "r261122-k7f3q2"),
        ("r261122-k7f", "r261122-k7f3q2"),
        ("k7f", "r261122-k7f3q2"),
        (" K7F ", "r261122-k7f3q2"),
        ("r261123-m2", "r261123-m2"),  # whole, though another begins so
        ("m2m", "r261123-m2m2m2"),
    ],
)
async def test_any_unique_prefix_finds_a_run(filled: BlobStore, prefix: str, expected: str) -> None:
    assert await find_run(filled, prefix) == expected


@pytest.mark.parametrize("prefix", ["x", "261122", "unborn", "not", "../runs", "k7f3q2x"])
async def test_an_unknown_run_says_where_was_looked(filled: BlobStore, prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"no run in .* has this id$") as caught:
        await find_run(filled, prefix)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


async def test_an_ambiguous_prefix_names_the_candidates(filled: BlobStore) -> None:
    with pytest.raises(ConfigError) as caught:
        await find_run(filled, "k7")
    assert str(caught.value) == (
        "k7: several runs fit: r261122-k7zzzz, r261122-k7f3q2; type more of the id"
    )
    for number in range(6):
        await write_run(filled, run(f"r261124-aaaaa{number}"), b"")
    with pytest.raises(ConfigError) as caught:
        await find_run(filled, "")
    assert "r261124-aaaaa5" in str(caught.value) and "r261124-aaaaa0" not in str(caught.value)
    assert ", ...; type more" in str(caught.value)


@pytest.mark.parametrize("code", [0, 1, 78, 79])
async def test_a_run_that_has_ended_for_good_meanwhile_gets_no_further_attempt(
    store: BlobStore, code: int
) -> None:
    await claim_attempt(store, ID, attempt, FAR)
    await write_end(store, end(1, code))
    with pytest.raises(Over):
        await claim_attempt(store, ID, attempt, FAR, take_over=True)
    assert not await is_superseded(store, ID, 1)


async def test_one_whose_memory_ran_out_goes_on(store: BlobStore) -> None:
    await claim_attempt(store, ID, attempt, FAR)
    await write_end(store, replace(end(1, 78), again=True))
    assert (await claim_attempt(store, ID, attempt, FAR)).attempt == 2
