"""Jobs for runs elsewhere: what is recorded when, what is asked for how often, what is found again."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from crown_exp.compute.base import ExecutorError, Job, JobState, Target
from crown_exp.errors import ConfigError
from crown_exp.folder import JobRecord, RunPaths, state
from crown_exp.folder.records import Server
from crown_exp.launch.remote.base import Earlier, Fate, Guess, Planned, Submitted
from crown_exp.launch.remote.cancelling import note_cancelled
from crown_exp.launch.remote.submitting import submission, touching
from crown_exp.launch.remote.submitting.reuse import earlier_of
from crown_exp.launch.remote.submitting.submission import submit_all
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Order
from crown_exp.storage.runs import read_facts, read_jobs, write_job
from tests.elsewhere import until
from tests.launches import Sharing, Told, order, planned


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "APPEARS_SECONDS", 0.2)
    monkeypatch.setattr(submission, "LOOK_SECONDS", 0.02)


def plan(session: Session, *orders: Order, **fields: Any) -> list[Planned]:
    """What a command would do."""
    found = earlier_of(session, orders)
    return [
        planned(it, earlier, n, **fields)
        for n, (it, earlier) in enumerate(zip(orders, found, strict=True), 1)
    ]


def launch(session: Session, *orders: Order, **fields: Any) -> list[Submitted]:
    return submit_all(session, plan(session, *orders, **fields), prepared=Sharing(session))


def jobs(session: Session, run: str) -> list[JobRecord]:
    return session.portal.call(read_jobs, session.blobs, run)


def note(session: Session, order: Order, **fields: Any) -> JobRecord:
    """A run with a job that an earlier command recorded."""
    run = session.make(order).id
    record = JobRecord(
        run=run, number=1, executor="skypilot", created=datetime.now(UTC), job=run, cancelled=False,
    )  # fmt: skip
    record = replace(record, **fields)
    session.portal.call(write_job, session.blobs, record)
    return record


# --- what is asked and recorded -------------------------------------------------------------------------


def test_a_run_gets_a_job_with_all_that_is_known_of_it(session: Session, executor: Told) -> None:
    (done,) = launch(session, order(), guess=Guess(3.0, 5), changes={"limits.steps": 3})
    (record,) = jobs(session, done.record.id)
    assert (done.job, done.target.name) == (record, "a100_spot")
    assert (record.number, record.job, record.executor) == (1, done.record.id, "skypilot")
    assert (record.ticket, record.handle) == (f"ticket-{done.record.id}", "1")
    assert (record.target, record.bundle, record.cancelled) == ("a100_spot", "0" * 64, False)
    assert [rate["usd_per_hour"] for rate in record.rates] == [1.0, 2.0]  # the dearest last
    assert (record.hours, record.usd) == (3.0, 6.0)  # the first candidate is expected
    assert record.changes == {"limits.steps": 3}
    assert [job.name for job in executor.asked] == [done.record.id]


@pytest.mark.parametrize("typed", [{}, {"B": "9", "C": "3"}])
def test_a_run_that_goes_on_has_the_variables_that_hydra_set_for_it(
    session: Session, typed: dict[str, str]
) -> None:
    set_once = {"A": "1", "B": "2"}
    (first,) = launch(session, replace(order(), env=set_once))
    (record,) = jobs(session, first.record.id)
    assert record.env == set_once
    facts = session.portal.call(read_facts, session.blobs, record.run)
    run = planned(replace(order(), env=typed), Earlier(facts, Fate.RESUMED))
    (gone_on,) = submit_all(session, [run], prepared=Sharing(session))
    assert gone_on.job.env == run.env == set_once | typed


def test_all_requests_are_made_before_an_answer_is_waited_for(
    session: Session, executor: Told
) -> None:
    done = launch(session, order(seed=1), order(seed=2))
    names = [it.record.id for it in done]
    wanted = [f"submit {name}" for name in names] + [f"handle ticket-{name}" for name in names]
    assert executor.called == wanted
    assert [it.record.seed for it in done] == [1, 2]


def test_what_travels_is_made_once_and_before_a_run_is_recorded(session: Session) -> None:
    sharing = Sharing(session)
    submit_all(session, plan(session, order(seed=1), order(seed=2)), prepared=sharing)
    assert sharing.made == 1

    class TooBig(Sharing):
        def bundle(self, target: Target) -> Any:
            raise ConfigError.of("code", "too big")

    with pytest.raises(ConfigError, match="too big"):
        submit_all(session, plan(session, order(seed=3)), prepared=TooBig(session))
    assert earlier_of(session, [order(seed=3)]) == [None]


def test_the_intent_is_there_before_it_is_asked_and_the_ticket_before_the_answer(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str | None, str | None]] = []

    def looking(what: str) -> None:
        original = getattr(executor, what)

        def act(argument: Any) -> Any:
            run = argument.name if isinstance(argument, Job) else argument.removeprefix("ticket-")
            (record,) = jobs(session, run)
            seen.append((what, record.ticket, record.handle))
            return original(argument)

        monkeypatch.setattr(executor, what, act)

    looking("submit")
    looking("handle")
    (done,) = launch(session, order())
    assert seen == [("submit", None, None), ("handle", f"ticket-{done.record.id}", None)]


# --- refusals and faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["", "ticket-"])
def test_a_refused_job_is_recorded_and_the_others_go_on(
    session: Session, executor: Told, when: str
) -> None:
    runs = [session.make(order(seed=seed)).id for seed in (1, 2, 3)]
    executor.refusals[when + runs[1]] = "quota: 0\nof A100"
    done = launch(session, *(order(seed=seed) for seed in (1, 2, 3)))
    assert [it.record.id for it in done] == runs
    assert [(it.job.cancelled, it.job.reason) for it in done] == [
        (False, ""),
        (True, "quota: 0 of A100"),
        (False, ""),
    ]
    facts = session.portal.call(read_facts, session.blobs, runs[1])
    assert state(facts, datetime.now(UTC)) == "stopped"
    executor.refusals.clear()
    (again,) = launch(session, order(seed=2))  # the quota was raised
    assert (again.job.job, again.job.number) == (f"{runs[1]}-2", 2)


def test_a_job_that_is_there_although_it_was_refused_is_adopted(
    session: Session, executor: Told
) -> None:
    run = session.make(order()).id
    executor.refusals[run] = "this name is taken"
    handle = executor.add(run)
    (done,) = launch(session, order())
    assert (done.job.handle, done.job.cancelled) == (handle, False)
    assert jobs(session, run) == [done.job]


def test_an_executor_that_is_gone_leaves_all_that_it_took_owned(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = executor.submit

    def submit(job: Job) -> str:
        if len(executor.asked) == 1:
            raise ExecutorError("the server does not answer")
        return original(job)

    monkeypatch.setattr(executor, "submit", submit)
    with pytest.raises(ExecutorError):
        launch(session, *(order(seed=seed) for seed in (1, 2, 3)))
    monkeypatch.undo()
    found = earlier_of(session, [order(seed=seed) for seed in (1, 2, 3)])
    runs = [it.record.id for it in found if it]
    assert [len(jobs(session, run)) for run in runs] == [1, 1, 0]
    assert jobs(session, runs[0])[0].ticket and not jobs(session, runs[1])[0].ticket


@pytest.mark.parametrize("when", ["submit", "handle"])
def test_a_job_that_is_cancelled_while_it_is_asked_for_is_cancelled(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """From another terminal: it says so in the record, and must not be overheard."""
    run = session.make(order()).id
    original = getattr(executor, when)

    def act(argument: Any) -> Any:
        (record,) = jobs(session, run)
        session.portal.call(note_cancelled, session.blobs, record, "by the user")
        return original(argument)

    monkeypatch.setattr(executor, when, act)
    (done,) = launch(session, order())
    assert jobs(session, run) == [done.job]
    assert (done.job.cancelled, done.job.reason, done.job.handle) == (True, "by the user", "1")
    assert executor.called[-1] == "cancel"


def test_what_takes_long_is_told(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(submission, "SLOW_SECONDS", 0.01)
    original, said = executor.handle, []

    def slow(ticket: str) -> str:
        while not said:
            said.extend(capfd.readouterr().err.splitlines())
        return original(ticket)

    monkeypatch.setattr(executor, "handle", slow)
    launch(session, order())
    assert said[0].startswith("1 job is asked for and not accepted yet; cut off here")


# --- what is there already ------------------------------------------------------------------------------


def test_a_job_that_lives_is_not_asked_for(session: Session, executor: Told) -> None:
    (first,) = launch(session, order())
    executor.called.clear()
    sharing = Sharing(session)
    (again,) = submit_all(session, plan(session, order()), prepared=sharing)
    assert again == first
    assert (executor.called, sharing.made) == (["poll 1"], 0)


def test_a_job_that_is_over_is_followed_by_another(session: Session, executor: Told) -> None:
    (first,) = launch(session, order())
    executor.states["1"] = JobState.FAILED
    (again,) = launch(session, order())
    name = f"{first.record.id}-2"
    assert (again.record.id, again.job.job, again.job.number) == (first.record.id, name, 2)
    old, new = jobs(session, first.record.id)
    assert (old.cancelled, old.reason, new) == (True, submission.NOT_BEGUN, again.job)


SERVER = Server(id="18", place="ws2 with HOME=/home/a")


def test_who_is_asked_is_recorded_before_it_is(session: Session, executor: Told) -> None:
    executor.at = SERVER
    launch(session, order())
    (asked,) = executor.asked
    (record,) = jobs(session, asked.name)
    assert record.server == SERVER


@pytest.mark.parametrize("handle", [None, "7"])
def test_a_job_that_another_server_was_asked_for_is_watched(
    session: Session, executor: Told, handle: str | None
) -> None:
    """Its ticket and its name would be nothing here, and a second job would be asked for."""
    executor.at = SERVER
    record = note(session, order(), ticket="t", handle=handle, server=Server(id="17", place="ws1"))
    facts = session.portal.call(read_facts, session.blobs, record.run)
    run = planned(order(), Earlier(facts, Fate.RUNNING))
    (found,) = submit_all(session, [run], prepared=Sharing(session))
    assert found.job == record
    assert jobs(session, record.run) == [record]
    assert not executor.called


def test_another_command_may_ask_another_server_at_the_same_time(
    session: Session, executor: Told
) -> None:
    executor.at = SERVER
    (run,) = plan(session, order())
    record = session.make(order())
    facts = session.portal.call(read_facts, session.blobs, record.id)
    other = JobRecord(
        run=record.id, number=1, executor="skypilot", created=datetime.now(UTC), job=record.id,
        cancelled=False, ticket="t", server=Server(id="17", place="ws1"),
    )  # fmt: skip
    session.portal.call(write_job, session.blobs, other)
    late = replace(run, earlier=Earlier(facts, Fate.RESUMED))
    (found,) = submit_all(session, [late], prepared=Sharing(session))
    assert found.job == other
    assert not executor.asked


def test_an_intent_without_a_request_is_asked_for_under_the_next_name(
    session: Session, executor: Told
) -> None:
    record = note(session, order())
    (done,) = launch(session, order())
    assert done.job.job == f"{record.run}-2"
    old, new = jobs(session, record.run)
    assert (old.cancelled, old.reason, new) == (True, submission.NEVER_CAME, done.job)
    assert [job.name for job in executor.asked] == [new.job]


def test_a_request_whose_ticket_nobody_noted_is_waited_for(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "APPEARS_SECONDS", 60.0)
    record = note(session, order())
    appears(executor, monkeypatch, record.run)
    (done,) = launch(session, order())
    assert (done.job.handle, done.job.job) == ("1", record.run)
    assert jobs(session, record.run) == [done.job]
    assert not executor.asked


def test_an_old_intent_is_not_waited_for(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "APPEARS_SECONDS", 60.0)
    aged(session, note(session, order()), minutes=5)
    launch(session, order())
    assert executor.called.count("jobs") == 2  # one to plan, one to be sure
    assert len(executor.asked) == 1


def aged(session: Session, record: JobRecord, minutes: float) -> float:
    """A record that was written so long ago, by the store's clock; when that was."""
    path = session.blobs.local_path(RunPaths(record.run).job(record.number))
    assert path is not None
    then = path.stat().st_mtime - 60 * minutes
    os.utime(path, (then, then))
    return then


def written_since(session: Session, record: JobRecord, then: float) -> bool:
    """Whether a record was written later than then."""
    path = session.blobs.local_path(RunPaths(record.run).job(record.number))
    assert path is not None
    return path.stat().st_mtime > then


@pytest.mark.parametrize("hours", [-5, 5])
def test_how_old_an_intent_is_does_not_depend_on_whose_clock_wrote_it(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(submission, "APPEARS_SECONDS", 60.0)
    record = note(session, order(), created=datetime.now(UTC) + timedelta(hours=hours))
    appears(executor, monkeypatch, record.run)
    (done,) = launch(session, order())
    assert (done.job.handle, done.job.job) == ("1", record.run)


def appears(executor: Told, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """Its job is listed when it is asked for the fourth time."""
    original = executor.jobs

    def later() -> Any:
        if executor.called.count("jobs") == 4:
            executor.add(run)
        return original()

    monkeypatch.setattr(executor, "jobs", later)


def test_who_sends_code_for_long_keeps_its_intent(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command waits for it, and does not ask for a second job."""
    monkeypatch.setattr(touching, "TOUCH_SECONDS", 0.02)
    monkeypatch.setattr(submission, "APPEARS_SECONDS", 600.0)
    original, run = executor.submit, plan(session, order())
    begun, looks, other = threading.Event(), threading.Event(), list[Submitted]()
    listed = executor.jobs

    def again() -> None:
        begun.wait(60)
        other.extend(launch(session, order()))

    def looked() -> Any:
        looks.set()
        return listed()

    def slow(job: Job) -> str:
        begun.set()
        (record,) = jobs(session, job.name)
        for _ in range(3):  # in all, it is left alone for longer than an intent may be
            old = aged(session, record, minutes=8)
            until(partial(written_since, session, record, old + 60))
            looks.clear()
            until(looks.is_set)  # the other asks once more, and finds it young
        return original(job)

    monkeypatch.setattr(executor, "submit", slow)
    monkeypatch.setattr(executor, "jobs", looked)
    waits = threading.Thread(target=again)
    waits.start()
    try:
        (first,) = submit_all(session, run, prepared=Sharing(session))
    finally:
        begun.set()
        waits.join()
    assert [it.job.job for it in other] == [first.job.job]
    assert len(executor.asked) == 1


def test_a_cancel_between_reading_and_writing_a_record_is_not_lost(
    session: Session, executor: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle is about to be written over what was read before the cancel."""
    original = submission.Submission.write

    def write(self: submission.Submission, job: JobRecord, **options: Any) -> JobRecord:
        if job.handle is not None:
            session.portal.call(note_cancelled, session.blobs, job, "by the user")
        return original(self, job, **options)

    monkeypatch.setattr(submission.Submission, "write", write)
    (done,) = launch(session, order())
    (record,) = jobs(session, done.record.id)
    assert (record.cancelled, record.reason, record.handle) == (True, "by the user", "1")
    assert executor.called[-1] == "cancel"


def test_what_an_older_version_recorded_as_cancelled_is(session: Session) -> None:
    record = note(session, order(), cancelled=True, reason="quota")
    assert jobs(session, record.run) == [record]


def test_many_intents_are_looked_for_in_one_list(session: Session, executor: Told) -> None:
    orders = [order(seed=seed) for seed in range(4)]
    for it in orders:
        executor.add(note(session, it).run)
    plans = [replace(it, earlier=unknown(it.earlier)) for it in plan(session, *orders)]
    executor.called.clear()
    done = submit_all(session, plans, prepared=Sharing(session))
    assert executor.called == ["jobs"]
    assert [it.job.handle for it in done] == ["1", "2", "3", "4"]


def unknown(earlier: Earlier | None) -> Earlier:
    """As it was planned before its job was listed."""
    assert earlier is not None
    forgotten = [replace(job, handle=None) for job in earlier.facts.jobs]
    return Earlier(replace(earlier.facts, jobs=forgotten), Fate.RESUMED)


def test_a_ticket_is_redeemed_later(session: Session, executor: Told) -> None:
    record = note(session, order(), ticket="ticket-x")
    (done,) = launch(session, order())
    assert (done.job.handle, done.job.number) == ("1", 1)
    assert jobs(session, record.run) == [done.job]
    assert not executor.asked


@pytest.mark.parametrize("is_there", [True, False])
def test_a_request_that_was_forgotten(session: Session, executor: Told, is_there: bool) -> None:
    """Its job is adopted if there is one; else it is asked for anew."""
    record = note(session, order(), ticket="ticket-x")
    executor.refusals["ticket-x"] = "no such request"
    if is_there:
        executor.add(record.run)
    (done,) = launch(session, order())
    assert done.job.job == (record.run if is_there else f"{record.run}-2")
    assert not done.job.cancelled and done.job.handle
    assert [job.cancelled for job in jobs(session, record.run)] == [False] * is_there or [
        True,
        False,
    ]


def test_two_commands_at_once_ask_for_one_job(session: Session, executor: Told) -> None:
    """Both have planned; the other has asked meanwhile."""
    session.make(order())
    plans = plan(session, order())
    (first,) = launch(session, order())
    (second,) = submit_all(session, plans, prepared=Sharing(session))
    assert second.job == first.job
    assert len(executor.asked) == 1


def test_what_another_command_gave_up_is_asked_for_anew(session: Session, executor: Told) -> None:
    run = session.make(order()).id
    plans = plan(session, order())
    executor.refusals[run] = "quota"
    launch(session, order())
    (done,) = submit_all(session, plans, prepared=Sharing(session))
    assert done.job.job == f"{run}-2"
    assert not done.job.cancelled


def test_two_commands_at_once_make_one_run(session: Session, executor: Told) -> None:
    """Both have planned, and neither has found anything."""
    plans = [plan(session, order()) for _ in range(2)]
    assert [it.earlier for many in plans for it in many] == [None, None]
    (first,) = submit_all(session, plans[0], prepared=Sharing(session))
    (second,) = submit_all(session, plans[1], prepared=Sharing(session))
    assert (second.record, second.job) == (first.record, first.job)
    assert len(executor.asked) == 1


def test_equal_runs_of_one_command_stay_apart(session: Session, executor: Told) -> None:
    first, second = launch(session, order(), order())
    assert first.record.id != second.record.id
    executor.states["1"] = JobState.FAILED
    three = launch(session, order(), order(), order())
    assert len({it.record.id for it in three}) == 3
    assert {first.record.id, second.record.id} < {it.record.id for it in three}


def test_who_wants_a_new_run_gets_one(session: Session, executor: Told) -> None:
    never = order(reuse="never")
    runs = {it.record.id for _ in range(2) for it in launch(session, never)}
    assert len(runs) == len(executor.asked) == 2


def names(found: Sequence[Submitted]) -> list[str | None]:
    return [it.job.job for it in found]


def test_no_name_is_given_twice(session: Session, executor: Told) -> None:
    for _ in range(4):
        launch(session, order(seed=1), order(seed=2))
        for handle in executor.states:
            executor.states[handle] = JobState.CANCELLED
    asked = [job.name for job in executor.asked]
    assert len(asked) == len(set(asked)) == 8
