"""Ctrl-C while runs are watched: once to go away, twice to end them."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from crown_exp.compute.base import ExecutorError, JobStatus
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.watching import leaving
from crown_exp.launch.remote.watching.leaving import see_through
from crown_exp.launch.remote.watching.watch import Watch
from crown_exp.outcome import ExitCode
from crown_exp.storage.runs import write_job
from tests.elsewhere import Elsewhere, elsewhere, until


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Elsewhere]:
    with elsewhere(tmp_path) as made:
        yield made


@pytest.fixture
def sends() -> Iterator[Callable[..., None]]:
    """Sends this process signals, one after the other, each as soon as something is so."""
    threads: list[threading.Thread] = []
    cancelled = threading.Event()

    def send(*steps: tuple[Callable[[], object], int]) -> None:
        def work() -> None:
            for ready, number in steps:
                until(lambda: cancelled.is_set() or ready())  # noqa: B023
                if cancelled.is_set():  # the test is over, and pytest itself would be interrupted
                    return
                os.kill(os.getpid(), number)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield send
    cancelled.set()
    for thread in threads:
        thread.join()


def left(
    far: Elsewhere,
    sends: Callable[..., None],
    *numbers: int,
    answer: bool | None = None,
) -> tuple[Ended, str, list[str]]:
    """The end of a run that is left by these signals, what was said, and what was asked."""
    sent, stream, asked = far.send("lasts"), io.StringIO(), list[str]()
    watching = Watch(far, [sent], stream)
    far.wait_for_log(sent.record.id)
    second = (lambda: "detached" in stream.getvalue(), numbers[-1])
    sends((lambda: watching.started, numbers[0]), *([second] if numbers[1:] else []))

    def ask(question: str) -> bool:
        asked.append(question)
        return bool(answer)

    again = 60.0 if numbers[1:] else 0.0
    known = None if answer is None else ask
    (ended,) = see_through(watching, ask=known, again_seconds=again)
    return ended, stream.getvalue(), asked


def test_once_goes_away_and_the_run_goes_on(far: Elsewhere, sends: Callable[..., None]) -> None:
    ended, said, asked = left(far, sends, signal.SIGINT)
    run = ended.run
    assert (ended.exit_code, ended.result) == (130, None)
    assert ended.error == f"detached; it goes on: crown-exp logs -f {run}"
    for words in (f"logs -f {run}", f"show {run}", f"cancel {run}", "the same command"):
        assert words in said
    assert asked == []
    assert not far.job(run).cancelled
    assert [it.name for it in far.executor.jobs()] == [run]


def test_twice_asks_and_cancels(far: Elsewhere, sends: Callable[..., None]) -> None:
    ended, said, asked = left(far, sends, signal.SIGINT, signal.SIGINT, answer=True)
    assert "Ctrl-C again within 60 s asks whether to cancel" in said
    assert asked == [f"cancel {ended.run}?"]
    assert (ended.exit_code, ended.error) == (130, "cancelled by the user")
    assert far.job(ended.run).cancelled
    until(lambda: not far.executor.jobs())
    assert [it.exit_code for it in far.facts(ended.run).ends] == [75]  # it has saved


def test_twice_and_no_cancels_nothing(far: Elsewhere, sends: Callable[..., None]) -> None:
    ended, said, _ = left(far, sends, signal.SIGINT, signal.SIGINT, answer=False)
    assert "nothing was cancelled" in said
    assert ended.error.startswith("detached; it goes on")
    assert far.executor.jobs() and not far.job(ended.run).cancelled


def test_twice_without_a_terminal_tells_what_to_type(
    far: Elsewhere, sends: Callable[..., None]
) -> None:
    ended, said, _ = left(far, sends, signal.SIGINT, signal.SIGINT)
    assert f"nothing is cancelled; type: crown-exp cancel --yes {ended.run}" in said
    assert far.executor.jobs()


def test_sigterm_goes_away_at_once(far: Elsewhere, sends: Callable[..., None]) -> None:
    ended, said, _ = left(far, sends, signal.SIGTERM)
    assert ended.exit_code == 75
    assert "Ctrl-C again" not in said and "detached" in said
    assert far.executor.jobs()


def test_nobody_waits_for_an_executor_that_does_not_answer(
    far: Elsewhere, sends: Callable[..., None]
) -> None:
    asked, answers = threading.Event(), threading.Event()

    class Silent:
        def poll(self, handles: Collection[str]) -> dict[str, JobStatus]:
            asked.set()
            answers.wait(600)
            return {}

    sent = far.send("lasts")
    far.executors = Executors({"skypilot": Silent})  # type: ignore[dict-item]
    watching = Watch(far, [sent], io.StringIO())
    sends((asked.is_set, signal.SIGINT))
    try:
        (ended,) = see_through(watching, again_seconds=0.0)
        assert not answers.is_set()
    finally:
        answers.set()
    assert ended.error.startswith("detached; it goes on")
    assert not far.job(sent.record.id).cancelled


def test_a_stop_that_was_asked_for_before(far: Elsewhere) -> None:
    """While runs here were in the foreground, say."""
    watching = Watch(far, [far.send("lasts")], io.StringIO())
    watching.start()
    (ended,) = see_through(watching, asked=ExitCode.INTERRUPTED, again_seconds=0.0)
    assert ended.exit_code == 130
    assert far.executor.jobs()


def test_yes_waits_for_no_request_that_is_not_answered(
    far: Elsewhere, sends: Callable[..., None]
) -> None:
    """Ctrl-C while jobs were being accepted: somebody still waits for the answer."""
    inner, waits, cut_off = far.executor, threading.Event(), threading.Event()

    class Slow:
        def handle(self, ticket: str) -> str:
            waits.set()
            cut_off.wait(600)
            raise ExecutorError("SkyPilot's process ended")

        def close(self) -> None:
            cut_off.set()

        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

    sent, other = far.send("lasts"), far.send("lasts")
    far.wait_for_log(other.record.id)
    short = replace(sent, job=replace(sent.job, handle=None))
    far.portal.call(write_job, far.blobs, short.job)
    slow: Any = Slow()
    far.executors = Executors({"skypilot": lambda: slow})

    def accepting() -> None:
        with pytest.raises(ExecutorError):
            slow.handle(str(short.job.ticket))

    waiting = threading.Thread(target=accepting)
    waiting.start()
    waits.wait(60)
    stream = io.StringIO()
    watching = Watch(far, [short, other], stream)
    sends((lambda: "detached" in stream.getvalue(), signal.SIGINT))  # the first came before
    asked = ExitCode.INTERRUPTED
    try:
        told = see_through(watching, asked=asked, ask=lambda _: True, again_seconds=60.0)
        assert cut_off.is_set()
    finally:
        cut_off.set()
        waiting.join()
    assert [it.error for it in told] == ["cancelled by the user"] * 2
    assert all(far.job(it.run).cancelled for it in told)
    assert "1 job was not accepted yet; one that still comes ends by itself" in stream.getvalue()
    until(lambda: not inner.jobs())


def test_a_signal_that_comes_as_the_watch_begins_goes_away_too(
    far: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Watch(far, [far.send("lasts")], io.StringIO())
    start = watching.start

    def at_once() -> None:
        start()
        os.kill(os.getpid(), signal.SIGINT)

    def nobody(number: int, frame: FrameType | None) -> None:
        raise AssertionError("nobody handles it yet")

    monkeypatch.setattr(watching, "start", at_once)
    before = signal.signal(signal.SIGINT, nobody)  # that of Python would end pytest
    try:
        (ended,) = see_through(watching, again_seconds=0.0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ended.exit_code, ended.error.partition(";")[0]) == (130, "detached")
    assert far.executor.jobs()


def test_who_does_nothing_has_the_values(far: Elsewhere) -> None:
    stream = io.StringIO()
    (ended,) = see_through(Watch(far, [far.send("train")], stream))
    assert (ended.exit_code, ended.result) == (0, {"accuracy": 0.5})
    assert "detached" not in stream.getvalue()


def test_what_goes_wrong_behind_is_raised(far: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watch(far, [far.send("train")], io.StringIO())
    monkeypatch.setattr(watching, "poll", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        see_through(watching)


def test_many_runs_are_not_all_named(far: Elsewhere) -> None:
    watching = Watch(far, [far.send("lasts") for _ in range(2)], io.StringIO())
    watching.runs *= 4
    said = leaving.parting(watching, 5.0)
    assert "8 runs go on" in said and "… (3 more)" in said
    assert "  come back  type the same command again\n" in said
    other = leaving.parting(watching, 5.0, "crown-exp resume r1")
    assert "  come back  crown-exp resume r1\n" in other and "same command" not in other
