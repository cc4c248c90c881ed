"""`cancel`: runs that go on are ended, wherever they are, and that is recorded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, Job, Target
from crown_exp.folder import AttemptRecord, JobRecord, encode
from crown_exp.storage.runs import cancel_job, write_job
from tests.elsewhere import ROOT, Elsewhere, on_skypilot, until
from tests.stand_in.sky import edge
from tests.unit.cli.record import World, world
from tests.unit.registry.folders import complete_run, make_run


@dataclass
class Both:
    """A project, and runs of it on a stand-in for SkyPilot."""

    here: World
    far: Elsewhere


@pytest.fixture
def both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Both]:
    with world(tmp_path, monkeypatch, capsys) as here, on_skypilot(tmp_path, monkeypatch) as far:
        yield Both(here, far)


def test_a_run_elsewhere_is_ended_and_saved_first(both: Both) -> None:
    edge.delay(both.far.root / "stand-in", killed=12_000.0)  # times 0.01: it has time to save
    sent = both.far.send("lasts")
    run = sent.record.id
    both.far.wait_for_log(run)
    assert both.here.out("cancel", run, "--yes") == [
        f"{run} was told to end; it is saved first",
        f"next: crown-exp show {run}",
    ]
    job = both.far.job(run)
    assert (job.cancelled, job.reason) == (True, "cancelled by the user")
    until(lambda: both.far.facts(run).ends)
    assert [end.exit_code for end in both.far.facts(run).ends] == [75]
    until(lambda: both.far.is_over(sent))
    for _ in range(2):  # again does no harm
        line, _ = both.here.out("cancel", run, "--yes")
        assert line == f"{run} is stopped"


def test_a_job_whose_submission_was_cut_short_is_found(both: Both) -> None:
    """By its request, or by its name."""
    for ticket in (True, False):
        sent = both.far.send("lasts")
        kept = sent.job.ticket if ticket else None
        short = JobRecord(
            run=sent.record.id, number=1, executor="skypilot", created=sent.job.created,
            job=sent.job.job, cancelled=False, ticket=kept,
        )  # fmt: skip
        both.far.portal.call(write_job, both.far.blobs, short)
        both.here.out("cancel", sent.record.id, "--yes")
        until(partial(both.far.is_over, sent))
        assert both.far.job(sent.record.id).cancelled


def test_a_job_that_was_never_submitted_is_recorded_as_over(both: Both) -> None:
    made = both.here.call(make_run, both.here.blobs)
    record = JobRecord(
        run=made.id, number=1, executor="skypilot", created=both.far.clock.now(), job=made.id,
        cancelled=False,
    )  # fmt: skip
    both.here.call(write_job, both.here.blobs, record)
    yet = "  its job was not found; should it come yet, it ends by itself when it begins"
    assert both.here.out("cancel", made.id, "--yes")[:2] == [f"{made.id} is stopped", yet]
    assert both.here.out("cancel", made.id, "--yes")[1].startswith("next")


def test_a_job_that_comes_after_it_was_cancelled_ends_by_itself(both: Both) -> None:
    """SkyPilot lists it after minutes; the command that asked for it is gone."""
    run = both.far.lab.make("tasks.lasts")
    record = JobRecord(
        run=run, number=1, executor="skypilot", created=both.far.clock.now(), job=run, cancelled=False,
        ticket=None,
    )  # fmt: skip
    both.here.call(write_job, both.here.blobs, record)
    both.here.out("cancel", run, "--yes")
    job = Job(
        run, both.far.argv(run), Target("a100_spot", executor="skypilot"), directory=both.far.root,
        env={"CROWN_JOB": run, "CROWN_HOME": str(both.far.root / "there")},
    )  # fmt: skip
    handle = both.far.executor.handle(both.far.executor.submit(job))
    until(lambda: both.far.executor.poll([handle])[handle].state in OVER)
    line = f"{run}: nothing was begun: job {run} was given up (cancelled by the user)"
    assert line in both.far.executor.log(handle)
    facts = both.far.facts(run)
    assert not facts.attempts and not facts.ends
    assert both.here.out("show", run)[0].count("stopped") == 1


def test_a_job_that_begins_just_then_is_ended_by_the_next_cancel(both: Both) -> None:
    """It was recorded as cancelled, and not found: its attempt shows that it is there."""
    sent = both.far.send("lasts")
    run = sent.record.id
    short = replace(sent.job, handle=None, ticket=None)
    both.here.call(write_job, both.here.blobs, short)
    both.far.wait_for_log(run)
    both.here.call(cancel_job, both.here.blobs, run, 1, "cancelled by the user")
    assert both.here.out("cancel", run, "--yes")[0] == f"{run} was told to end; it is saved first"
    until(lambda: both.far.is_over(sent))


def test_a_job_of_an_executor_that_nobody_knows_is_recorded_as_over(both: Both) -> None:
    made = both.here.call(make_run, both.here.blobs)
    both.here.call(made.job)
    assert both.here.out("cancel", made.id, "--yes")[0] == f"{made.id} is stopped"


def test_a_run_here_in_another_process_is_told(both: Both) -> None:
    run = both.far.lab.make("tasks.lasts")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("CROWN_JOB", None)
    with subprocess.Popen(
        both.far.argv(run), cwd=both.far.root, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as child:  # fmt: skip
        try:
            both.far.wait_for_log(run)
            both.here.out("cancel", run, "--yes")
            assert child.wait(120) == 130
        finally:
            child.kill()
    assert both.here.out("cancel", run, "--yes")[0] == f"{run} is stopped"


def test_what_is_over_stays_as_it_is(both: Both) -> None:
    made = both.here.call(complete_run, both.here.blobs)
    before = {path: path.read_bytes() for path in both.here.runs.rglob("*") if path.is_file()}
    for words in (["cancel", made.id], ["cancel", "k7f", "--yes"]):
        line, _ = both.here.out(*words)
        assert line == f"{made.id} is completed"
    assert before == {p: p.read_bytes() for p in both.here.runs.rglob("*") if p.is_file()}


def test_nobody_is_there_to_be_asked(both: Both) -> None:
    run = both.far.send("lasts").record.id
    line = both.here.refused("cancel", run)
    assert (
        f"nobody is there to answer; nothing was ended. Type: crown-exp cancel --yes {run}" in line
    )
    line = both.here.refused("cancel", run, "--forget")
    assert line.endswith(f"Type: crown-exp cancel --yes --forget {run}\n")
    assert not both.far.job(run).cancelled


def test_it_asks_on_a_terminal(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = both.far.send("lasts")
    run = sent.record.id
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    code, out, err = both.here.type("cancel", run)
    assert (code, out.strip()) == (1, "nothing was ended")
    assert f"job {sent.job.told} on a100_spot" in err and "end this run?" in err
    assert not both.far.job(run).cancelled
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    code, _, _ = both.here.type("cancel", run)
    assert code == 0 and both.far.job(run).cancelled


class Terminal:
    """Standard input with somebody who types."""

    encoding = "utf-8"

    def __init__(self, typed: str) -> None:
        self.typed = typed

    def isatty(self) -> bool:
        return True

    def readline(self, *_: int) -> str:
        return self.typed


def test_a_run_on_another_machine_in_no_job_is_told(both: Both) -> None:
    made = both.here.call(make_run, both.here.blobs)
    attempt = AttemptRecord(
        made.id, 1, datetime.now(UTC), "box", 42, 7.5, "boot", None, {}, {},
    )  # fmt: skip
    both.here.call(both.here.blobs.put, made.paths.attempt(1), encode(attempt))
    code, out, err = both.here.type("cancel", made.id, "--yes")
    assert (code, out.splitlines()[0]) == (1, f"{made.id} is running")
    assert err == f"{made.id} runs on box (pid 42), in no job; end it there\n"


def test_an_executor_that_is_not_there(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded: the job goes on."""
    run = both.far.send("lasts").record.id
    monkeypatch.setenv("CROWN_SKY__PYTHON", "/no/such/python")
    line = both.here.refused("cancel", run, "--yes", code=2)
    assert "CROWN_SKY__PYTHON" in line
    assert not both.far.job(run).cancelled
