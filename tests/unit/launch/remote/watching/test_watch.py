"""Runs that are elsewhere: what is seen of them, how they end, what is decided about their jobs."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import ExecutorError, JobState, JobStatus, Target
from crown_exp.folder import state
from crown_exp.folder.records import Rate, Server
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.cancelling import cancel_jobs
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.servers import AnotherServer
from crown_exp.launch.remote.watching.watch import POLL_SECONDS, QUICK_SECONDS, Watch
from crown_exp.storage.runs import write_job
from tests.clocks import Stopped
from tests.elsewhere import Elsewhere, elsewhere, until


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Elsewhere]:
    with elsewhere(tmp_path) as made:
        yield made


def watched(far: Elsewhere, *sent: Submitted) -> tuple[Watch, io.StringIO]:
    stream = io.StringIO()
    return Watch(far, list(sent), stream), stream


def seen_through(far: Elsewhere, *sent: Submitted) -> tuple[list[Ended], str]:
    """Turn after turn until all are over."""
    watch, stream = watched(far, *sent)

    def over() -> bool:
        watch.turn()
        return watch.over

    until(over)
    return watch.ended(), stream.getvalue()


def state_of(far: Elsewhere, run: str) -> str:
    """Once its last beat is long ago."""
    return str(state(far.facts(run), datetime.now(UTC) + timedelta(minutes=2)))


class Counted:
    """An executor that counts its polls, and says of jobs what it is told to say."""

    def __init__(self, real: Any, told: Mapping[str, JobStatus] = {}) -> None:
        self.real, self.told = real, dict(told)
        self.polls, self.broken = 0, ""

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        self.polls += 1
        if self.broken:
            raise ExecutorError(self.broken)
        return {**self.real.poll(handles), **self.told}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def through(far: Elsewhere, executor: Any) -> None:
    far.executors = Executors({"skypilot": lambda: executor})


# --- values ------------------------------------------------------------------------------------------


def test_values_come_back_and_a_failure_hides_none(far: Elsewhere) -> None:
    sent = [
        far.send("train", {"task": {"value": 0.5}}),
        far.send("fails"),
        far.send("train", {"task": {"value": 0.75}}),
    ]
    (one, bad, other), said = seen_through(far, *sent)
    assert (one.exit_code, one.result, one.error) == (0, {"accuracy": 0.5}, "")
    assert (other.exit_code, other.result) == (0, {"accuracy": 0.75})
    assert (bad.exit_code, bad.result) == (1, None)
    reason, *traceback, log = bad.error.splitlines()
    assert "no such number" in reason
    assert "raise ValueError" in "".join(traceback)
    assert log.strip() == f"log: crown-exp logs {bad.run}"
    assert one.overrides == ("task=x",)
    for ended, word in ((one, "completed"), (bad, "failed"), (other, "completed")):
        assert [line for line in said.splitlines() if line.startswith(f"{ended.run}  {word}")]
    assert not any(far.job(it.record.id).cancelled for it in sent)


def test_all_jobs_of_an_executor_are_polled_together(far: Elsewhere) -> None:
    executor = Counted(far.executor)
    through(far, executor)
    watch, _ = watched(far, far.send("lasts"), far.send("lasts"))
    watch.turn()
    watch.turn()
    assert (executor.polls, watch.over) == (2, False)


def test_an_executor_that_does_not_answer_is_asked_again(far: Elsewhere) -> None:
    executor = Counted(far.executor)
    through(far, executor)
    sent = far.send("train")
    watch, stream = watched(far, sent)
    executor.broken = "SkyPilot's API server does not answer"
    for _ in range(3):
        watch.turn()
    assert stream.getvalue().count("does not answer") == 1
    executor.broken = ""
    (ended,), _ = seen_through(far, sent)
    assert ended.exit_code == 0


# --- jobs that end without their runs -----------------------------------------------------------------


def test_a_setup_that_fails_is_told_with_its_output(far: Elsewhere) -> None:
    code = "import sys; print('no torch for this machine'); sys.exit(3)"
    sent = far.send("train", setup=(sys.executable, "-c", code))
    (ended,), _ = seen_through(far, sent)
    assert ended.exit_code == 80
    reason, *tail, log = ended.error.splitlines()
    assert "before its command began (exit code 3)" in reason
    assert tail == ["  | no torch for this machine"]
    assert log == f"  log: crown-exp logs {ended.run}"
    job = far.job(ended.run)
    assert job.cancelled and "setup ended with exit code 3" in job.reason
    assert state_of(far, ended.run) == "stopped"


def test_a_command_that_ends_before_the_run_begins(far: Elsewhere) -> None:
    argv = (sys.executable, "-c", "raise SystemExit('no store here')")
    (ended,), _ = seen_through(far, far.send("train", argv=argv))
    assert ended.exit_code == 80
    assert "ended before the run began (exit code 1)" in ended.error
    assert "| no store here" in ended.error


def test_a_run_that_is_killed_without_a_word(far: Elsewhere) -> None:
    sent = far.send("lasts")
    far.wait_for_log(sent.record.id)
    (attempt,) = far.facts(sent.record.id).attempts
    os.kill(attempt.pid, signal.SIGKILL)
    (ended,), _ = seen_through(far, sent)
    assert ended.exit_code == 80
    assert "ended without a word of the run" in ended.error
    assert far.job(ended.run).cancelled
    assert state_of(far, ended.run) == "stopped"


def test_a_job_that_its_executor_does_not_know(far: Elsewhere) -> None:
    """It is given a minute, then over, and ended if it lived after all."""
    waits = (sys.executable, "-c", "import time; time.sleep(600)")
    sent = far.send("train", setup=waits)
    handle, executor = sent.job.handle or "", Counted(far.executor)
    through(far, executor)
    far.clock.clock = Stopped()
    watch, _ = watched(far, sent)
    for ahead, told, over in (
        (0.0, {handle: JobStatus(JobState.GONE)}, False),
        (50.0, {handle: JobStatus(JobState.GONE)}, False),
        (70.0, {}, False),
        (100.0, {handle: JobStatus(JobState.GONE)}, False),
        (170.0, {handle: JobStatus(JobState.GONE)}, True),
    ):
        far.clock.ahead, executor.told = ahead, told
        watch.turn()
        assert watch.over is over
    (ended,) = watch.ended()
    assert ended.exit_code == 80
    assert ended.error.startswith(f"skypilot does not know its job {handle} on a100_spot any more")
    until(lambda: far.is_over(sent))
    assert far.job(ended.run).cancelled


THEIRS = Server(id="17", place="ws1 with HOME=/home/a")
OURS = Server(id="18", place="ws1 with HOME=/home/a")


class AtServer(Counted):
    """Counted, at a server of its own, where no job is known."""

    at = OURS

    def server(self) -> Server:
        return self.at

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        self.polls += 1
        return {it: JobStatus(JobState.GONE) for it in handles}


def at_server(far: Elsewhere, sent: Submitted, server: Server) -> Submitted:
    """The job, as it is recorded by who asked this server for it."""
    job = replace(sent.job, server=server)
    far.portal.call(write_job, far.blobs, job)
    return replace(sent, job=job)


def test_a_job_that_another_server_has_is_never_taken_for_over(far: Elsewhere) -> None:
    """Nothing is asked, cancelled or recorded; what the store says is shown, up to its end."""
    ends = far.root / "now"
    executor = AtServer(far.executor)
    sent = [far.send("lasts", {"task": {"ends": str(ends)}}), far.send("train", setup=("false",))]
    sent = [at_server(far, it, THEIRS) for it in sent]
    through(far, executor)
    watch, stream = watched(far, *sent)
    far.wait_for_log(sent[0].record.id)
    for far.clock.ahead in (0.0, 70.0, 4000.0):  # long after compute.start_deadline, too
        watch.turn()
    assert not any(it.ended for it in watch.runs)
    assert [far.job(it.record.id).cancelled for it in sent] == [False, False]
    assert executor.polls == 0
    with pytest.raises(AnotherServer, match="was not cancelled: job"):
        watch.cancel()
    with pytest.raises(AnotherServer):
        cancel_jobs(far, [it.job for it in sent])
    assert not any(far.job(it.record.id).cancelled for it in sent)
    ends.touch()

    def ended() -> bool:
        watch.turn()
        return watch.runs[0].ended is not None

    until(ended)
    first, second = watch.ended()
    assert (first.exit_code, first.result) == (0, "ended")
    assert "detached; it goes on" in second.error
    lines = [line for line in stream.getvalue().splitlines() if "was asked for at" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{sent[0].record.id} and 1 more: job {sent[0].record.id} on a100")
    assert "another server or a new state since" in lines[0]
    assert "its job is at another server" in stream.getvalue()


def test_a_server_that_is_set_up_anew_while_we_watch_is_not_believed(far: Elsewhere) -> None:
    ends = far.root / "now"
    sent = at_server(far, far.send("lasts", {"task": {"ends": str(ends)}}), THEIRS)
    executor = AtServer(far.executor)
    executor.at = THEIRS
    through(far, executor)
    watch, stream = watched(far, sent)
    watch.turn()
    executor.at = OURS
    far.clock.ahead = 100.0
    watch.turn()
    assert not watch.over and not far.job(sent.record.id).cancelled
    assert "a new state since" in stream.getvalue()
    ends.touch()
    until(lambda: far.is_over(sent))


class BackAndForth(AtServer):
    """AtServer, and at theirs the jobs are known."""

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        return self.real.poll(handles) if self.at == THEIRS else super().poll(handles)


def test_a_server_that_comes_back_is_asked_again(far: Elsewhere) -> None:
    """An endpoint that led elsewhere for a while; of the job's end no record of its run tells."""
    go = far.root / "go"
    waits = ("sh", "-c", f"until test -e {go}; do sleep 0.05; done; exit 3")
    sent = at_server(far, far.send("train", setup=waits), THEIRS)
    executor = BackAndForth(far.executor)
    through(far, executor)
    watch, stream = watched(far, sent)
    for executor.at in (THEIRS, OURS, THEIRS, OURS):
        watch.turn()
        assert bool(watch.runs[0].unknown_here) == (executor.at == OURS)
        assert (watch.runs[0].status is None) == (executor.at == OURS)
    go.touch()
    until(lambda: far.is_over(sent))
    for _ in range(2):
        watch.turn()
    assert (executor.polls, watch.over) == (2, False)  # once each time that it was another
    executor.at = THEIRS
    watch.turn()
    (ended,) = watch.ended()
    assert (ended.exit_code, "exit code 3" in ended.error) == (80, True)
    assert stream.getvalue().count("a new state since") == 1


def test_what_beats_elsewhere_is_watched_until_it_is_lost(
    far: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watched only its beats is told what `resume` says then; one that was known here may come back."""
    now, ahead = far.blobs.now, 0.0

    async def later() -> datetime:
        return await now() + timedelta(seconds=ahead)

    monkeypatch.setattr(far.blobs, "now", later)
    sent = at_server(far, far.send("lasts"), THEIRS)
    far.wait_for_log(sent.record.id)
    executor = BackAndForth(far.executor)
    through(far, executor)
    here_before, _ = watched(far, sent)
    executor.at = THEIRS
    here_before.turn()
    executor.at = OURS
    beats_alone, stream = watched(far, sent)
    for watch in (here_before, beats_alone):
        watch.turn()
        assert not watch.over
    ahead = 70.0
    for watch in (here_before, beats_alone):
        watch.turn()
    assert not here_before.over
    (ended,) = beats_alone.ended()
    assert (ended.exit_code, ended.state) == (AnotherServer.exit_code, "lost") == (2, "lost")
    assert ended.error.startswith(
        f"{sent.record.id} is lost, and may go on elsewhere, so no second"
    )
    assert "was asked for at" in ended.error and f"{sent.record.id}  lost" in stream.getvalue()
    assert not far.job(sent.record.id).cancelled


def test_what_was_cancelled_where_it_could_be_is_over_here(far: Elsewhere) -> None:
    sent = at_server(far, far.send("train", setup=("false",)), THEIRS)
    through(far, AtServer(far.executor))
    watch, _ = watched(far, sent)
    watch.turn()
    assert not watch.over
    there = AtServer(far.executor)
    there.at = THEIRS
    cancel_jobs(replace(far, executors=Executors({"skypilot": lambda: there})), [sent.job])
    watch.turn()
    (ended,) = watch.ended()
    assert (ended.exit_code, ended.error) == (130, "cancelled by the user")


def test_a_job_that_is_cancelled_behind_our_back(far: Elsewhere) -> None:
    sent = far.send("lasts")
    far.wait_for_log(sent.record.id)
    far.executor.cancel([sent.job.handle or ""])
    (ended,), _ = seen_through(far, sent)
    assert ended.exit_code == 130
    assert "cancelled, not from here" in ended.error
    assert state_of(far, ended.run) == "stopped"
    assert "not from here" in far.job(ended.run).reason


def test_a_run_that_somebody_else_holds(far: Elsewhere) -> None:
    holder = far.send("lasts")
    far.wait_for_log(holder.record.id)
    job = replace(holder.job, number=2, job="other", handle="never")
    told = JobStatus(JobState.FAILED, "exit code 76", 76)
    through(far, Counted(far.executor, {"never": told}))
    (ended,), _ = seen_through(far, replace(holder, job=job))
    assert ended.exit_code == 76
    assert ended.error.startswith("it goes on elsewhere: attempt 1 on ")


# --- jobs that never begin ----------------------------------------------------------------------------


def test_a_job_that_does_not_begin_in_time_is_cancelled(far: Elsewhere) -> None:
    waits = "import time; print('waiting for a node', flush=True); time.sleep(600)"
    sent = far.send(
        "train", setup=(sys.executable, "-c", waits),
        target=Target(name="a100_spot", executor="skypilot", start_deadline=1800.0),
    )  # fmt: skip
    until(lambda: "waiting" in far.executor.log(sent.job.handle or ""))
    watch, _ = watched(far, sent)
    far.clock.ahead = 1700.0
    watch.turn()
    assert not watch.over
    far.clock.ahead = 1900.0
    watch.turn()
    (ended,) = watch.ended()
    assert ended.exit_code == 80
    assert "did not begin within 30 minutes (compute.start_deadline)" in ended.error
    assert "| waiting for a node" in ended.error
    more = f"  more time: crown-exp resume {ended.run} compute.start_deadline=..."
    assert ended.error.splitlines()[-1] == more
    assert far.job(ended.run).cancelled
    assert state_of(far, ended.run) == "stopped"
    until(lambda: far.is_over(sent))


def test_a_run_that_has_begun_has_no_deadline_to_begin(far: Elsewhere) -> None:
    sent = far.send("lasts")
    far.wait_for_log(sent.record.id)
    far.clock.ahead = 1e6
    watch, _ = watched(far, sent)
    watch.turn()
    assert not watch.over and not far.job(sent.record.id).cancelled


def test_no_endless_recovery_of_what_never_begins(far: Elsewhere) -> None:
    sent = far.send("train", setup=(sys.executable, "-c", "import time; time.sleep(600)"))
    handle = sent.job.handle or ""
    for recoveries, over in ((2, False), (3, True)):
        told = JobStatus(JobState.RECOVERING, "image cannot be pulled", recoveries=recoveries)
        through(far, Counted(far.executor, {handle: told}))
        watch, _ = watched(far, sent)
        watch.turn()
        assert watch.over is over
    (ended,) = watch.ended()
    assert "started 4 times and the run never began: image cannot be pulled" in ended.error
    assert "more time" not in ended.error
    until(lambda: far.is_over(sent))


# --- what is seen -------------------------------------------------------------------------------------


def test_a_line_where_nobody_can_redraw(far: Elsewhere) -> None:
    rate = Rate(cloud="gcp", region="x", accelerators="A100:1", spot=True, usd_per_hour=3600.0)
    sent = far.send("lasts", {"limits": {"steps": 100_000}}, rates=(rate,))
    far.clock.clock = Stopped()  # however long its process takes to begin
    watch, stream = watched(far, sent)
    watch.turn()
    first = stream.getvalue()
    assert first.startswith(f"{sent.record.id}  ") and first.count("\n") == 1
    far.wait_for_log(sent.record.id)
    watch.turn()
    assert stream.getvalue() == first  # within 30 s
    far.clock.ahead = 31.0
    watch.turn()
    last = stream.getvalue().splitlines()[-1].split("  ")
    assert last[:2] == [sent.record.id, "running"]
    assert last[2].startswith("step ") and last[2].endswith("/100000")
    assert last[3] == "loss 1"
    assert re.fullmatch(r"<?\$\d+\.\d\d", last[4])


def test_polls_are_rarer_after_the_first_minute(far: Elsewhere) -> None:
    sent = far.send("lasts")
    far.clock.clock = Stopped()
    watch, _ = watched(far, sent)
    assert watch.pause() == QUICK_SECONDS
    far.clock.ahead = 61.0
    assert watch.pause() == POLL_SECONDS
    watch, _ = watched(far, replace(sent, job=replace(sent.job, executor="local")))
    far.clock.ahead = 200.0
    assert watch.pause() == QUICK_SECONDS
    watch, _ = watched(far, replace(sent, job=replace(sent.job, executor="slurm")))
    far.clock.ahead = 300.0
    assert watch.pause() == POLL_SECONDS


def test_it_can_be_watched_behind_the_caller(far: Elsewhere) -> None:
    sent = far.send("train")
    watch, _ = watched(far, sent)
    watch.start()
    assert watch.changed.wait(120)
    watch.stop()
    assert watch.failure is None
    assert [it.exit_code for it in watch.ended()] == [0]
