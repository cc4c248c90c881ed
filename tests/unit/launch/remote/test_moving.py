"""Stopping a run to go on with it somewhere else, and going on here while a job elsewhere may yet do so."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from crown_exp.compute.base import ExecutorError, JobState, Listed
from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import AttemptRecord, EndRecord, Facts, JobRecord, RunPaths, encode
from crown_exp.folder.records import Server
from crown_exp.launch.remote import moving
from crown_exp.launch.remote.dispatch import refuse_two_places
from crown_exp.launch.remote.moving import stop
from crown_exp.launch.remote.servers import AnotherServer
from crown_exp.launch.resuming import Resumption
from crown_exp.launch.session import Session
from crown_exp.storage.runs import read_facts, read_jobs, write_end, write_job
from tests.launches import Told, order


class Ending(Told):
    """Told, but what is cancelled is over when a test says so. ends: it is at once."""

    ends = True
    away = False

    def cancel(self, handles: Collection[str]) -> None:
        super().cancel(handles)
        for handle in handles:
            self.states[handle] = JobState.CANCELLED if self.ends else JobState.CANCELLING

    def jobs(self) -> list[Listed]:
        if self.away:
            raise ExecutorError("SkyPilot's API server does not answer")
        return list(super().jobs())


@pytest.fixture
def executor() -> Ending:
    return Ending()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(moving, "LOOK_SECONDS", 0.02)


def facts(session: Session, run: str) -> Facts:
    return session.portal.call(read_facts, session.blobs, run)


def sent(
    session: Session, handle: str | None, ticket: str | None = "t", server: Server | None = None
) -> str:
    """A run with a job elsewhere."""
    run = session.make(order()).id
    record = JobRecord(
        run=run, number=1, executor="skypilot", created=datetime.now(UTC), job=run, cancelled=False,
        ticket=ticket, handle=handle, target="a100_spot", server=server,
    )  # fmt: skip
    session.portal.call(write_job, session.blobs, record)
    return run


def begin(session: Session, run: str) -> None:
    attempt = AttemptRecord(
        run=run, attempt=1, started=datetime.now(UTC), host="far away", pid=1, process_started=None,
        boot_id=None, job=run, numerics={}, versions={},
    )  # fmt: skip
    session.portal.call(session.blobs.put, RunPaths(run).attempt(1), encode(attempt))


def end(session: Session, run: str, code: int = 75) -> None:
    ended = EndRecord(
        run=run, attempt=1, ended=datetime.now(UTC), exit_code=code, step=3, reason="x", error=None,
        code=None,
    )  # fmt: skip
    session.portal.call(write_end, session.blobs, ended)


def test_what_is_told_of_one_that_does_not_stop_is_true(session: Session, executor: Ending) -> None:
    run = sent(session, executor.add("x"))
    begin(session, run)
    executor.ends = False
    with pytest.raises(CrownError) as caught:
        stop(session, facts(session, run))
    said = str(caught.value)
    assert said.startswith(f"{run}: its job on a100_spot was told to end and has not within")
    assert "type the same again" in said and "nothing was" not in said
    (job,) = session.portal.call(read_jobs, session.blobs, run)
    assert (job.cancelled, job.reason) == (True, moving.MOVED)


def test_the_same_again_waits_on_and_cancels_nothing_twice(
    session: Session, executor: Ending
) -> None:
    run = sent(session, executor.add("x"))
    begin(session, run)
    executor.ends = False
    for _ in range(2):
        with pytest.raises(CrownError, match="was told to end"):
            stop(session, facts(session, run))
    assert executor.called.count("cancel") == 1
    end(session, run)
    executor.states["1"] = JobState.CANCELLED
    assert len(stop(session, facts(session, run)).ends) == 1
    assert executor.called.count("cancel") == 1


def test_a_request_that_is_not_answered_is_not_waited_for(
    session: Session, executor: Ending
) -> None:
    run = sent(session, None)
    found = stop(session, facts(session, run))
    assert [job.cancelled for job in found.jobs] == [True]
    assert not any(called.startswith("handle") for called in executor.called)


# --- here, while a job elsewhere may go on with it -------------------------------------------------------


def here(session: Session, run: str) -> Resumption:
    found = facts(session, run)
    return Resumption(found.run, {}, order(compute={}), found)


@pytest.mark.parametrize("listed", [True, False])
def test_a_run_whose_job_waits_elsewhere_does_not_go_on_here(
    session: Session, executor: Ending, listed: bool
) -> None:
    """Its job would get its machine, and end with 76 as the run is held here."""
    run = sent(session, executor.add("x") if listed else None)
    with pytest.raises(ConfigError) as caught:
        refuse_two_places(session, here(session, run))
    assert f"crown-exp move {run} compute=local" in str(caught.value)
    assert "crown-exp cancel" in str(caught.value)
    begin(session, run)
    end(session, run)  # preempted; its job recovers
    if listed:
        with pytest.raises(ConfigError, match="is about to go on with it"):
            refuse_two_places(session, here(session, run))


def test_one_whose_job_is_over_does(session: Session, executor: Ending) -> None:
    run = sent(session, executor.add("x"))
    executor.states["1"] = JobState.FAILED
    refuse_two_places(session, here(session, run))
    other = sent(session, None, ticket=None)
    stop(session, facts(session, other))
    refuse_two_places(session, here(session, other))


def test_an_executor_that_does_not_answer_keeps_nobody_from_it(
    session: Session, executor: Ending, capfd: pytest.CaptureFixture[str]
) -> None:
    run = sent(session, None)
    executor.away = True
    refuse_two_places(session, here(session, run))
    assert "warning: it cannot be asked whether job" in capfd.readouterr().err


# --- a job that another server was asked for -------------------------------------------------------------

THEIRS = Server(id="17", place="ws1 with HOME=/home/a")
OURS = Server(id="18", place="ws2 with HOME=/home/a")


@pytest.mark.parametrize("code", [None, 75])
def test_a_run_whose_job_another_server_has_is_left_alone(
    session: Session, executor: Ending, code: int | None
) -> None:
    """This one does not know it: it would be taken for over, and the run would go on twice."""
    executor.at = OURS
    run = sent(session, "job/x/1", server=THEIRS)
    if code is not None:
        begin(session, run)
        end(session, run, code)  # preempted, its job recovers
    for refused in (
        lambda: stop(session, facts(session, run)),
        lambda: refuse_two_places(session, here(session, run)),
    ):
        with pytest.raises(AnotherServer) as caught:
            refused()
        assert str(caught.value).startswith(run) and caught.value.exit_code == 2
        assert "asked for at ws1 with HOME=/home/a, and this is ws2 with" in str(caught.value)
    assert not executor.called
    assert [it.cancelled for it in session.portal.call(read_jobs, session.blobs, run)] == [False]


def test_a_run_that_says_itself_that_it_is_over_goes_on_wherever_its_job_was(
    session: Session, executor: Ending
) -> None:
    executor.at = OURS
    run = sent(session, "job/x/1", server=THEIRS)
    begin(session, run)
    end(session, run, 130)
    assert len(stop(session, facts(session, run)).ends) == 1
    refuse_two_places(session, here(session, run))
    assert not executor.called


@pytest.mark.parametrize(("theirs", "ours"), [(None, OURS), (THEIRS, None), (OURS, OURS)])
def test_where_a_server_is_not_known_its_word_counts(
    session: Session, executor: Ending, theirs: Server | None, ours: Server | None
) -> None:
    executor.at = ours
    run = sent(session, "job/x/1", server=theirs)
    assert stop(session, facts(session, run)).jobs[0].cancelled
