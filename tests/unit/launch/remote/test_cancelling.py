"""Jobs that are to be ended while nobody answers, or somebody else does: what is recorded of them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.compute.base import ExecutorError, Listed
from crown_exp.folder import AttemptRecord, EndRecord, JobRecord, RunPaths, encode
from crown_exp.folder.records import Server
from crown_exp.launch.remote.cancelling import GIVEN_UP, cancel_jobs
from crown_exp.launch.remote.servers import AnotherServer, StillRuns, between
from crown_exp.launch.session import Session
from crown_exp.storage.runs import read_job, write_end, write_job
from tests.launches import Told, order, project, session_with

THEIRS = Server(id="17", place="https://sky.lab")
NOBODY = "SkyPilot's API server does not answer"


@dataclass
class Silent(Told):
    """An executor that does not answer, while it is silent."""

    silent: bool = True

    def answer(self) -> None:
        if self.silent:
            raise ExecutorError(NOBODY)

    def server(self) -> Server | None:
        self.answer()
        return self.at

    def jobs(self) -> list[Listed]:
        self.answer()
        return list(super().jobs())

    def cancel(self, handles: Collection[str]) -> None:
        self.answer()
        super().cancel(handles)


@pytest.fixture
def executor() -> Silent:
    return Silent(at=THEIRS)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: Silent) -> Iterator[Session]:
    monkeypatch.chdir(tmp_path)
    project(tmp_path)
    with session_with({"skypilot": executor, "slurm": Silent("slurm")}) as opened:
        yield opened


def sent(
    session: Session, handle: str | None, server: Server | None, executor: str = "skypilot"
) -> JobRecord:
    """A job of a run, as it is recorded."""
    run = session.make(order()).id
    job = JobRecord(
        run=run, number=1, executor=executor, created=datetime.now(UTC), job=run, cancelled=False,
        handle=handle, target="a100_spot", server=server,
    )  # fmt: skip
    session.portal.call(write_job, session.blobs, job)
    return job


def now(session: Session, job: JobRecord) -> JobRecord:
    """The job as it is recorded by now."""
    return session.portal.call(read_job, session.blobs, job.run, job.number)


@pytest.mark.parametrize("server", [None, THEIRS])
def test_what_has_no_handle_is_recorded_although_nobody_answers(
    session: Session, server: Server | None
) -> None:
    """It may come yet, and spend: then it reads that it was cancelled."""
    jobs = [sent(session, "1", server), sent(session, None, server)]
    jobs.append(sent(session, None, server, executor="slurm"))
    with pytest.raises(ExecutorError, match=NOBODY):
        cancel_jobs(session, jobs)
    assert [now(session, job).cancelled for job in jobs] == [False, True, True]


def test_nothing_is_recorded_of_what_is_at_another_server(
    session: Session, executor: Silent
) -> None:
    executor.silent, executor.at = False, Server(id="18", place="ws2")
    job = sent(session, None, THEIRS)
    with pytest.raises(AnotherServer, match="was asked for at https"):
        cancel_jobs(session, [job])
    assert not now(session, job).cancelled


def test_who_answers_is_asked_anew_before_anything_is_ended(
    session: Session, executor: Silent
) -> None:
    """Another server may have taken its place since, with a job of the same handle."""
    executor.silent = False
    assert session.executors.server("skypilot") == THEIRS
    executor.at = Server(id="18", place="ws2")
    with pytest.raises(AnotherServer, match="was asked for at https"):
        cancel_jobs(session, [sent(session, "1", THEIRS)])
    assert "cancel" not in executor.called


@pytest.mark.parametrize("server", [None, THEIRS])
@pytest.mark.parametrize("handle", [None, "1"])
def test_a_job_is_given_up_although_nobody_answers(
    session: Session, handle: str | None, server: Server | None
) -> None:
    job = sent(session, handle, server)
    done = cancel_jobs(session, [job], forget=True)
    assert (done.coming, [it.run for it in done.given_up]) == ([], [job.run])
    found = now(session, job)
    assert found.cancelled
    assert handle is None or found.reason == GIVEN_UP


def test_what_can_be_ended_is_ended_before_it_is_given_up(
    session: Session, executor: Silent
) -> None:
    executor.silent = False
    job = sent(session, executor.add("job"), THEIRS)
    assert cancel_jobs(session, [job], forget=True).given_up == []
    assert "cancel" in executor.called
    assert now(session, job).reason == "cancelled by the user"


def begun(session: Session, job: JobRecord, ago: float = 3.0, of: str | None = None) -> None:
    """An attempt of a job, or of that of this name, far away, last heard of so many seconds ago."""
    made = AttemptRecord(
        run=job.run, attempt=1, started=datetime.now(UTC) - timedelta(seconds=ago), host="far away",
        pid=1, process_started=None, boot_id=None, job=of or job.job, numerics={}, versions={},
    )  # fmt: skip
    path = RunPaths(job.run).attempt(1)
    session.portal.call(session.blobs.put, path, encode(made), create=True)
    then = time.time() - ago
    os.utime(Path(session.blobs.url.removeprefix("file://")) / path, (then, then))


@pytest.mark.parametrize(("silent", "server"), [(True, None), (True, THEIRS), (False, THEIRS)])
def test_what_beats_is_not_given_up(
    session: Session, executor: Silent, silent: bool, server: Server | None
) -> None:
    """Its machine lives, and is paid."""
    executor.silent, executor.at = silent, Server(id="18", place="ws2")
    job = sent(session, "9", server)
    begun(session, job)
    with pytest.raises(StillRuns) as caught:
        cancel_jobs(session, [job], forget=True)
    assert caught.value.exit_code == 1
    said = str(caught.value)
    assert said.startswith(f"{job.run} was not given up: it runs on far away, last heard of ")
    assert f"asked for at {THEIRS['place'] if server else 'the server of skypilot'}: end" in said
    assert "\n" not in said
    assert not now(session, job).cancelled


def test_what_beats_no_more_or_is_not_that_jobs_is_given_up(session: Session) -> None:
    lost, ended, other = (sent(session, "1", THEIRS) for _ in range(3))
    begun(session, lost, ago=70.0)
    begun(session, ended)
    begun(session, other, of="another")
    end = EndRecord(
        run=ended.run, attempt=1, ended=datetime.now(UTC), exit_code=75, step=3, reason="x", error=None,
        code={"hash": "v1:0", "files": ["tasks.py"]},
    )  # fmt: skip
    session.portal.call(write_end, session.blobs, end)
    done = cancel_jobs(session, [lost, ended, other], forget=True)
    assert len(done.given_up) == 3
    assert all(now(session, it).reason == GIVEN_UP for it in (lost, ended, other))


def test_servers_at_one_place_are_told_apart_by_when_they_began() -> None:
    """The id of SkyPilot's is that; of others it is shown as it is."""
    old, new = Server(id="1796038147", place="ws1"), Server(id="1796038160", place="ws1")
    said = between(old, new, "r261130-k7f")
    assert "database was made 2026-11-30 11:29:07 UTC, the one here 2026-11-30 11:29:20 UTC" in said
    assert said.endswith(
        "bring the old one back, or, if that server is lost, end the job's machine by "
        "hand and type: crown-exp cancel --forget r261130-k7f"
    )
    assert "made as a1, the one here as b2" in between(
        Server(id="a1", place="ws1"), Server(id="b2", place="ws1"), "r261130-k7f"
    )
