"""Signals: noted while our own code is at work, heeded by the task at the end of its turn, or at once."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from typing import Any

import pytest

from crown_exp import Run
from crown_exp.errors import Stopped
from crown_exp.outcome import ExitCode
from crown_exp.runner.ending import after_stop, stopped
from crown_exp.runner.stopping import StopRequest
from tests.running import Lab


def send(number: int = signal.SIGINT) -> None:
    """A signal to this process, whose handler has run when this returns."""
    os.kill(os.getpid(), number)
    time.sleep(0)


@pytest.mark.parametrize(
    ("number", "code", "state", "why"),
    [
        (signal.SIGINT, 130, "stopped", "interrupted by the user"),
        (signal.SIGTERM, 75, "preempted", "asked to stop (SIGTERM), saved in 0.0 s, steps lost 0"),
        (signal.SIGUSR1, 75, "preempted", "asked to stop (SIGUSR1), saved in 0.0 s, steps lost 0"),
        (signal.SIGUSR2, 75, "preempted", "asked to stop (SIGUSR2), saved in 0.0 s, steps lost 0"),
    ],
)
def test_a_turn_is_finished_first(
    lab: Lab, capsys: pytest.CaptureFixture[str], number: int, code: int, state: str, why: str
) -> None:
    ends = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            if turn == 3:
                send(number)
            ends.append(turn)

    ended = lab.run(task)
    assert ends == [0, 1, 2, 3]
    assert (ended.code, ended.state, ended.ending.step) == (code, state, 4)
    (end,) = ended.facts.ends
    assert (end.exit_code, end.step, end.error) == (code, 4, None)
    assert re.sub(r"\d+\.\d s", "0.0 s", end.reason) == why
    assert re.search(
        rf"{state} after 4 steps in \d+:\d\d, [\d,]+ MB: {re.escape(end.reason)}", ended.said
    )
    assert "next    crown-exp resume 000001" in ended.said
    assert "Traceback" not in ended.said
    said = capsys.readouterr().err
    assert "stopping at the end of this turn" in said
    assert ("Ctrl-C again to stop now" in said) == (number == signal.SIGINT)


def test_asked_twice_within_a_turn_it_ends_at_once(lab: Lab) -> None:
    ends = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            send()
            send()
            ends.append(turn)

    ended = lab.run(task)
    assert (ends, ended.code, ended.state, ended.ending.step) == ([], 130, "stopped", 0)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_slurm_may_say_it_as_often_as_it_likes(
    lab: Lab, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    ends = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            send(first)
            send(signal.SIGUSR1)
            send(signal.SIGUSR2)
            ends.append(turn)

    ended = lab.run(task)
    name = signal.Signals(first).name
    assert (ends, ended.code) == ([0], 75)
    assert ended.ending.error.startswith(f"asked to stop ({name}), saved in ")
    assert capsys.readouterr().err.count("stopping at the end of this turn") == 1


@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_after_slurms_notice_the_next_signal_ends_it_at_once(
    lab: Lab, second: int, code: int
) -> None:
    ends = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            send(signal.SIGUSR1)
            send(signal.SIGUSR1)
            send(second)
            ends.append(turn)

    ended = lab.run(task)
    assert (ends, ended.code, ended.ending.step) == ([], code, 0)


@pytest.mark.parametrize("where", ["before", "after"])
def test_outside_a_loop_it_ends_at_once(lab: Lab, where: str) -> None:
    went_on = []

    def task(run: Run) -> None:
        if where == "before":
            send()
            went_on.append(1)
        for _ in run.steps(2):
            pass
        send()
        went_on.append(1)

    ended = lab.run(task)
    assert (went_on, ended.code, ended.state) == ([], 130, "stopped")
    assert ended.ending.step == (0 if where == "before" else 2)


def test_a_wait_is_cut_short(lab: Lab) -> None:
    def task(run: Run) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(60)

    previous = signal.signal(signal.SIGALRM, lambda *_: send())
    try:
        assert lab.run(task).code == 130
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_task_that_swallows_exceptions_is_stopped_nevertheless(lab: Lab) -> None:
    turns = []

    def task(run: Run) -> None:
        try:
            send()
        except BaseException:
            pass
        for turn in run.steps(10):
            turns.append(turn)
            try:
                send()
            except BaseException:
                pass

    ended = lab.run(task)
    assert (turns, ended.code, ended.ending.step) == ([], 130, 0)


def test_a_task_that_was_over_before_it_could_be_stopped_is_over(lab: Lab) -> None:
    def task(run: Run) -> int:
        for _ in run.steps(10):
            send()
            break
        return 1

    ended = lab.run(task)
    assert (ended.code, ended.state, ended.ending.result) == (0, "completed", 1)


def test_what_a_library_makes_of_a_stop_is_still_the_stop(lab: Lab) -> None:
    def task(run: Run) -> None:
        try:
            send()
        except BaseException as error:
            raise ImportError("half imported") from error

    ended = lab.run(task)
    assert (ended.code, ended.state, ended.ending.failure) == (130, "stopped", None)


def test_an_error_in_a_turn_that_was_to_be_the_last_is_an_error(lab: Lab) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(10):
            send()
            raise ValueError("broken")

    assert (lab.run(task).code, lab.run(task).state) == (1, "failed")


def test_a_stop_in_a_finalizer_says_nothing_and_stops_the_loop(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    class Finalized:
        def __del__(self) -> None:
            send()

    def task(run: Run) -> None:
        Finalized()
        for _ in run.steps(3):
            pass

    ended = lab.run(task)
    assert (ended.code, ended.ending.step) == (130, 0)
    assert "Traceback" not in ended.said + capsys.readouterr().err


def test_a_stop_while_the_source_is_waited_for(lab: Lab) -> None:
    def source() -> Any:
        yield 1
        send()
        yield 2
        yield 3

    turns = []

    def task(run: Run) -> None:
        for turn in run.steps(source()):
            turns.append(turn)

    assert lab.run(task).code == 130
    assert turns == [1, 2]


def test_in_our_own_code_a_stop_is_only_noted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the fence is taken: the attempt begins and ends as stopped, the task is never called."""
    from crown_exp.runner import attempt

    original = attempt.claim_attempt

    async def claim(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return await original(*args, **kwargs)

    monkeypatch.setattr(attempt, "claim_attempt", claim)
    called = []
    ended = lab.run(lambda run: called.append(1))
    assert (called, ended.code, ended.state) == ([], 130, "stopped")
    assert len(ended.facts.attempts) == len(ended.facts.ends) == 1


def test_a_run_that_is_over_is_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its result is written: too late to stop anything."""
    from crown_exp.runner import attempt

    original = attempt.write_result

    async def write(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await original(*args)

    monkeypatch.setattr(attempt, "write_result", write)
    ended = lab.run(lambda run: 1)
    assert (ended.code, ended.state) == (0, "completed")


def in_a_turn() -> StopRequest:
    request = StopRequest()
    request.at_work = request.in_turn = True
    return request


def test_in_a_turn_that_has_changed_nothing_yet_a_stop_is_raised_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = in_a_turn()
    request.now = lambda: True
    with pytest.raises(Stopped, match="SIGUSR2"):
        request.handle(signal.SIGUSR2, None)
    assert (request.raised, request.at_once) == (True, False)
    assert capsys.readouterr().err == ""


def test_now_is_asked_in_a_turn_only() -> None:
    """Elsewhere there may be nobody to answer."""
    request = in_a_turn()
    asked: list[int] = []
    request.now = lambda: bool(asked.append(1))
    request.handle(signal.SIGTERM, None)
    assert (asked, request.raised) == ([1], False)
    request.in_turn = False
    request.signalled = False
    with pytest.raises(Stopped):
        request.handle(signal.SIGTERM, None)
    assert asked == [1]


def test_a_notice_during_the_clean_up_of_a_task_changes_nothing() -> None:
    request = in_a_turn()
    request.in_turn = False
    with pytest.raises(Stopped):
        request.handle(signal.SIGINT, None)
    request.handle(signal.SIGUSR1, None)
    assert (request.code, request.why, request.times) == (130, "interrupted by the user", 1)


def test_who_waits_for_the_end_is_told_of_signals_that_are_no_notices() -> None:
    request = StopRequest()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
        request.handle(number, None)
    assert (request.times, request.at_once) == (0, False)
    request.handle(signal.SIGTERM, None)
    assert (request.times, request.at_once, request.why) == (1, True, "asked to stop (SIGTERM)")


def test_a_first_signal_is_none_that_ends_at_once_whatever_else_asked_for_the_stop() -> None:
    """A limit was reached and the state is being saved when SIGTERM comes: it is saved nevertheless."""
    request = in_a_turn()
    request.ask(ExitCode.CAPPED, "limits.run=1 hour reached")
    request.handle(signal.SIGUSR1, None)
    assert (request.code, request.why) == (77, "limits.run=1 hour reached")
    request.handle(signal.SIGTERM, None)
    assert not (request.raised or request.at_once)
    with pytest.raises(Stopped):
        request.handle(signal.SIGTERM, None)
    assert request.at_once


def test_a_handler_in_a_forked_process_does_nothing() -> None:
    request = StopRequest()
    request.pid += 1
    request.at_work = True
    request.handle(signal.SIGINT, None)
    assert request.code is None


def test_a_handler_that_was_not_set_from_python_is_left(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("crown_exp.runner.stopping.signal.getsignal", lambda number: None)
    assert lab.run(lambda run: 1).code == 0
    monkeypatch.undo()
    signal.signal(signal.SIGTERM, before)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def test_stderr_that_is_gone_does_not_hold_up_a_stop(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Gone())

    def task(run: Run) -> None:
        for _ in run.steps(3):
            send()

    assert lab.run(task, stream=Gone()).code == 130


@pytest.mark.parametrize(
    ("step", "saved", "told"),
    [
        (8, 5, "interrupted by the user, not saved, steps lost 3"),
        (8, None, "interrupted by the user, not saved, steps lost 8"),
        (8, 8, "interrupted by the user"),
        (0, None, "interrupted by the user"),
    ],
)
def test_who_does_not_wait_for_a_save_is_told_what_that_costs(
    step: int, saved: int | None, told: str
) -> None:
    ending = stopped("interrupted by the user", ExitCode.INTERRUPTED, step)
    assert after_stop(ending, StopRequest(), saved).error == told


def test_who_types_ctrl_c_a_third_time_waits_for_no_store() -> None:
    request = StopRequest()
    for _ in range(2):
        request.handle(signal.SIGINT, None)  # the end is being written
    with pytest.raises(KeyboardInterrupt):
        request.handle(signal.SIGINT, None)


def test_an_executor_that_asks_often_is_not_taken_for_a_person() -> None:
    request = StopRequest()
    for _ in range(5):
        request.handle(signal.SIGTERM, None)


def test_a_cap_that_is_reached_too_late_does_not_hide_who_has_taken_over() -> None:
    request = StopRequest()
    request.ask(ExitCode.SUPERSEDED, "attempt 2 has taken over this run")
    request.ask(ExitCode.CAPPED, "limits.run=1 s reached")
    assert (request.code, request.why) == (
        ExitCode.SUPERSEDED,
        "attempt 2 has taken over this run",
    )
