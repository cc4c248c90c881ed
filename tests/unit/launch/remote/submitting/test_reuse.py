"""Which runs are there already when a command is typed again, and what becomes of each."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import JobState
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    JobRecord,
    ResultRecord,
    RunPaths,
    RunRecord,
    encode,
)
from crown_exp.folder.records import Server
from crown_exp.launch.remote import dispatch
from crown_exp.launch.remote.base import Earlier, Fate, Plan
from crown_exp.launch.remote.servers import AnotherServer
from crown_exp.launch.remote.submitting import reuse
from crown_exp.launch.remote.submitting.claims import claim_key
from crown_exp.launch.remote.submitting.reuse import earlier_of, equal_key
from crown_exp.launch.session import Session
from crown_exp.registry import ingest_run, open_registry
from crown_exp.storage.machine import here
from crown_exp.storage.runs import write_end, write_job, write_result
from tests.launches import COMPUTE, Sharing, Told, order, planned


def job(session: Session, record: RunRecord, number: int = 1, **fields: Any) -> JobRecord:
    name = record.id if number == 1 else f"{record.id}-{number}"
    given = {"executor": "skypilot", "created": datetime.now(UTC), "cancelled": False, "job": name}
    made = JobRecord(run=record.id, number=number, **(given | fields))
    session.portal.call(write_job, session.blobs, made)
    return made


def attempt(session: Session, record: RunRecord, number: int = 1, **fields: Any) -> None:
    machine = here()
    given = {
        "started": datetime.now(UTC), "host": "far away", "pid": 1, "process_started": None,
        "boot_id": None, "job": record.id, "numerics": {}, "versions": {},
    } | fields  # fmt: skip
    assert machine.host != given["host"] or "pid" in fields
    made = AttemptRecord(run=record.id, attempt=number, **given)
    session.portal.call(
        session.blobs.put, RunPaths(record.id).attempt(number), encode(made), create=True
    )


def end(session: Session, record: RunRecord, code: int, number: int = 1) -> None:
    if code == 0:
        result = ResultRecord(record.id, number, 3, record.created, 1.5)
        session.portal.call(write_result, session.blobs, result)
    made = EndRecord(
        run=record.id, attempt=number, ended=datetime.now(UTC), exit_code=code, step=3, reason="x",
        error=None, code={"hash": "v1:0", "files": ["tasks.py"]},
    )  # fmt: skip
    session.portal.call(write_end, session.blobs, made)


def ended(session: Session, code: int, **fields: Any) -> RunRecord:
    """A run whose one attempt has ended."""
    record = session.make(order(**fields))
    attempt(session, record)
    end(session, record, code)
    return record


def one(session: Session, **fields: Any) -> Earlier | None:
    (found,) = earlier_of(session, [order(**fields)])
    return found


def fate(session: Session, **fields: Any) -> tuple[str, Fate] | None:
    found = one(session, **fields)
    return None if found is None else (found.record.id, found.fate)


# --- which run counts -----------------------------------------------------------------------------------


def test_a_run_that_was_recorded_a_moment_ago_is_gone_on_with(
    session: Session, executor: Told
) -> None:
    assert fate(session) is None
    record = session.make(order())
    assert fate(session) == (record.id, Fate.RESUMED)
    assert fate(session, sweep=False) == (record.id, Fate.RESUMED)
    assert not executor.called  # there is nothing to ask for


def test_what_is_not_equal_is_not_found(session: Session) -> None:
    session.make(order(seed=1))
    session.make(order(compute=COMPUTE | {"name": "h100"}))
    local = session.make(order(compute={}))
    assert local.compute == "local"
    assert one(session) is None
    assert earlier_of(session, [order(compute={})]) == [None]


@pytest.mark.parametrize("config", [{"seed": None}, {"reuse": "never"}, {"resume": "r261130-abc"}])
def test_no_run_is_looked_for(session: Session, config: dict[str, Any]) -> None:
    session.make(order(**({} if "seed" not in config else config | {"seed": 3})))
    assert one(session, **config) is None


def test_orders_of_a_task_and_a_target_share_a_claim_and_equal_ones_a_key(session: Session) -> None:
    orders = [order(seed=1), order(seed=1, sweep=False), order(seed=2)]
    one, same, other = (equal_key(session, it) for it in orders)
    assert one is not None and one == same != other
    assert len({claim_key(it) for it in orders}) == 1
    there = order(seed=1, compute={**COMPUTE, "name": "h100"})
    assert equal_key(session, there) not in (None, one)
    assert claim_key(there) != claim_key(orders[0])


def test_equal_orders_take_a_run_each_the_newest_first(session: Session) -> None:
    runs = [session.make(order()) for _ in range(3)]
    found = earlier_of(session, [order(), order(seed=5), order()])
    assert [it and it.record.id for it in found] == [runs[2].id, None, runs[1].id]


def test_what_the_registry_knows_is_not_read_and_what_it_does_not_know_is(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [session.make(order()), session.make(order(seed=8)), session.make(order(seed=9))]
    assert session.database is not None

    async def ingest(url: str) -> None:
        async with open_registry(url) as registry:
            for record in known:
                await ingest_run(registry, session.blobs, record.id)

    session.portal.call(ingest, session.database)
    read: list[str] = []
    original = reuse.read_runs

    async def noting(blobs: Any, ids: Any) -> Any:
        read.extend(ids)
        return await original(blobs, ids)

    monkeypatch.setattr(reuse, "read_runs", noting)
    assert fate(session) == (known[0].id, Fate.RESUMED)
    assert read == [known[0].id]
    newer = session.make(order())
    assert fate(session) == (newer.id, Fate.RESUMED)
    assert set(read) == {known[0].id, newer.id}


def test_a_bound_number_of_runs_is_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        session.make(order())
    monkeypatch.setattr(reuse, "MOST_READ", 0)
    assert one(session) is None


def test_a_damaged_run_is_passed_over(session: Session) -> None:
    older, newer = session.make(order()), session.make(order())
    job(session, newer)
    path = RunPaths(newer.id).job(1)
    session.portal.call(session.blobs.put, path, b"{")
    assert fate(session) == (older.id, Fate.RESUMED)


# --- by its records -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [2, 75, 76, 77, 80, 130])
def test_a_run_that_was_cut_off_is_gone_on_with(session: Session, code: int) -> None:
    record = ended(session, code)
    assert fate(session) == (record.id, Fate.RESUMED)
    assert fate(session, sweep=False) == (record.id, Fate.RESUMED)


@pytest.mark.parametrize("code", [1, 78, 79])
def test_a_failed_run_is_made_anew_and_so_is_what_is_older(session: Session, code: int) -> None:
    session.make(order())
    ended(session, code)
    assert one(session) is None


def test_a_completed_run_is_reused_in_sweeps_alone(session: Session) -> None:
    session.make(order())
    record = ended(session, 0)
    assert fate(session) == (record.id, Fate.DONE)
    assert one(session, sweep=False) is None
    ended(session, 1)  # a later one of the same that failed takes nothing away
    assert fate(session) == (record.id, Fate.DONE)
    found = earlier_of(session, [order(), order()])
    assert [it and it.fate for it in found] == [Fate.DONE, Fate.DONE]


def test_what_another_command_completed_since_the_plan_is_done(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user may take an hour to say yes: meanwhile a sweep in another terminal went through."""
    monkeypatch.setattr(dispatch, "Prepared", Sharing)
    plan = Plan((planned(order()), planned(order(seed=2), number=2)))
    record = ended(session, 0)
    away = dispatch.Away(session, plan)
    assert (away.ends[1].run, away.ends[1].result) == (record.id, 1.5)
    assert away.watched == [2]
    assert len(executor.asked) == 1
    away.watch.stop()


def test_a_result_of_other_code_is_reused_if_asked_for(session: Session, tmp_path: Path) -> None:
    record = ended(session, 0)
    (tmp_path / "other.py").write_text("never = 'imported'\n")
    session.__dict__.pop("code", None)
    assert fate(session) == (record.id, Fate.DONE)
    (tmp_path / "tasks.py").write_text("def train(run):\n    return 2.5\n")
    session.__dict__.pop("code", None)
    assert one(session) is None
    assert fate(session, reuse="signature") == (record.id, Fate.DONE)
    assert one(session, reuse="never") is None


def test_code_that_changed_is_told_where_something_is_done_already(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untouched = session.make(order(seed=1))
    begun = ended(session, 75)
    (tmp_path / "tasks.py").write_text("def train(run):\n    return 2.5\n")
    session.__dict__.pop("code", None)
    assert fate(session) == (begun.id, Fate.RESUMED)
    said = capsys.readouterr().err
    assert "tasks.py" in said and "reuse=never makes a new run" in said
    assert one(session, seed=1) is None  # nothing of it is lost
    assert one(session, identity={"ignore": [], "code": "refuse"}) is None
    job(session, untouched)  # its request may be on its way
    assert fate(session, seed=1) == (untouched.id, Fate.RESUMED)


def test_a_result_whose_attempt_has_not_written_its_end_is_waited_for(
    session: Session, executor: Told, tmp_path: Path
) -> None:
    """Only the end tells which code decided it."""
    record = session.make(order())
    job(session, record, ticket="t", handle=executor.add(record.id, JobState.RUNNING))
    attempt(session, record)
    result = ResultRecord(record.id, 1, 3, record.created, 1.5)
    session.portal.call(write_result, session.blobs, result)
    (tmp_path / "written.py").write_text("by = 'the run'\n")
    assert fate(session) == (record.id, Fate.RUNNING)
    end(session, record, 0)
    assert fate(session) == (record.id, Fate.DONE)


# --- by its job -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("code", [None, 75])
def test_a_job_that_lives_is_watched(
    session: Session, executor: Told, state: JobState, code: int | None
) -> None:
    record = session.make(order()) if code is None else ended(session, code)
    handle = executor.add(record.id, state)
    job(session, record, ticket="t", handle=handle)
    over = state in ("succeeded", "failed", "cancelled", "gone")
    assert fate(session) == (record.id, Fate.RESUMED if over else Fate.RUNNING)
    assert executor.called == ["poll 1"]


def test_one_poll_for_all(session: Session, executor: Told) -> None:
    orders = [order(seed=seed) for seed in range(4)]
    for it in orders:
        record = session.make(it)
        job(session, record, ticket="t", handle=executor.add(record.id))
    assert [it and it.fate for it in earlier_of(session, orders)] == [Fate.RUNNING] * 4
    assert executor.called == ["poll 1 2 3 4"]


def test_a_job_whose_handle_nobody_noted_is_found_by_its_name(
    session: Session, executor: Told
) -> None:
    record = session.make(order())
    job(session, record)
    assert fate(session) == (record.id, Fate.RESUMED)
    handle = executor.add(record.id)
    found = one(session)
    assert found is not None and found.fate is Fate.RUNNING
    assert [it.handle for it in found.facts.jobs] == [handle]
    assert executor.called == ["jobs"] * 2


def test_a_request_that_was_noted_may_be_on_its_way(session: Session) -> None:
    record = session.make(order())
    job(session, record, ticket="t")
    assert fate(session) == (record.id, Fate.RUNNING)
    job(session, record, ticket="t", created=datetime.now(UTC) - timedelta(hours=2))
    assert fate(session) == (record.id, Fate.RUNNING)  # whoever wrote it has another clock
    path = session.blobs.local_path(RunPaths(record.id).job(1))
    assert path is not None
    then = path.stat().st_mtime - 2 * 3600
    os.utime(path, (then, then))
    assert fate(session) == (record.id, Fate.RESUMED)


def test_the_newest_job_counts_and_a_cancelled_one_while_it_beats(
    session: Session, executor: Told
) -> None:
    record = session.make(order())
    job(session, record, ticket="t", handle=executor.add(record.id))
    job(session, record, 2, cancelled=True, reason="quota")
    assert fate(session) == (record.id, Fate.RESUMED)
    job(session, record, 2, cancelled=True, handle=executor.add("x", JobState.CANCELLING))
    assert fate(session) == (record.id, Fate.RESUMED)
    attempt(session, record, job=f"{record.id}-2")
    assert fate(session) == (record.id, Fate.RUNNING)


def test_a_job_that_its_executor_forgot_lives_while_it_beats(session: Session) -> None:
    record = session.make(order())
    job(session, record, ticket="t", handle="99")
    assert fate(session) == (record.id, Fate.RESUMED)
    attempt(session, record)
    assert fate(session) == (record.id, Fate.RUNNING)


THEIRS = Server(id="17", place="https://sky.lab")
OURS = Server(id="18", place="ws2 with HOME=/home/a")


@pytest.mark.parametrize("handle", ["99", None])
def test_no_second_job_is_made_for_a_run_whose_job_another_server_has(
    session: Session, executor: Told, handle: str | None
) -> None:
    executor.at = OURS
    record = session.make(order())
    job(session, record, ticket="t", handle=handle, server=THEIRS)
    with pytest.raises(AnotherServer) as caught:
        one(session)
    assert record.id in str(caught.value)
    assert "set SKYPILOT_API_SERVER_ENDPOINT=https://sky.lab" in str(caught.value)
    assert fate(session, reuse="never") is None
    attempt(session, record)
    assert fate(session) == (record.id, Fate.RUNNING)  # it beats: seen to, from its records
    end(session, record, 75)
    with pytest.raises(AnotherServer):
        one(session)
    assert not executor.called


@pytest.mark.parametrize(("code", "expected"), [(130, Fate.RESUMED), (77, Fate.RESUMED), (1, None)])
def test_its_runs_own_records_say_that_it_is_over(
    session: Session, executor: Told, code: int, expected: Fate | None
) -> None:
    executor.at = OURS
    record = ended(session, code)
    job(session, record, ticket="t", handle="99", server=THEIRS)
    assert fate(session) == (expected and (record.id, expected))
    assert not executor.called


def test_a_run_that_somebody_sees_through_by_hand_is_never_taken(session: Session) -> None:
    record = session.make(order())
    attempt(session, record, job=None)
    assert one(session) is None
    end(session, record, 130)
    assert fate(session) == (record.id, Fate.RESUMED)


def test_an_attempt_here_that_is_dead_is_lost_at_once(session: Session) -> None:
    record, machine = session.make(order()), here()
    attempt(
        session, record, job=None, host=machine.host, boot_id=machine.boot_id, pid=2**22 + 1,
    )  # fmt: skip
    assert fate(session) == (record.id, Fate.RESUMED)
