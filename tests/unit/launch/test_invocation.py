"""One command: where its runs stand, when it stops, which code it ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from crown_exp.errors import ConfigError
from crown_exp.launch.invocation import Ended, Invocation, current, invoked
from crown_exp.outcome import ExitCode


def after(*codes: int, multirun: bool = True, asked: ExitCode | None = None) -> Invocation:
    """A command whose runs ended with these codes."""
    ended = [Ended(f"r{number}", "x", code, None) for number, code in enumerate(codes)]
    return Invocation(multirun=multirun, project=None, asked=asked, ended=ended)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0], 0),
        ([0, 0], 0),
        ([1], 1),
        ([79], 79),  # alone, a run's own code
        ([0, 79], 1),
        ([2, 0], 1),
        ([80, 78], 1),
        ([1, 130], 130),
        ([0, 75], 75),
        ([77, 1], 77),
        ([75, 130], 130),
    ],
)
def test_the_exit_code_of_a_command(codes: list[int], expected: int) -> None:
    assert after(*codes).exit_code() == expected


def test_a_command_that_was_asked_to_stop_says_so_whatever_its_runs_did() -> None:
    assert after(0, asked=ExitCode.INTERRUPTED).exit_code() == 130
    assert after(0, 1, asked=ExitCode.PREEMPTED).exit_code() == 75


def test_no_run_starts_after_one_that_was_stopped() -> None:
    assert after(0, 130).stopped
    assert after(75).stopped
    assert after(0, asked=ExitCode.INTERRUPTED).stopped
    assert not after(0, 1, 79, 80).stopped
    assert not after().stopped


def test_a_run_that_is_alone_has_no_place_in_a_sweep() -> None:
    assert after(multirun=False).place("s-1", 1) is None
    alone = after()
    alone.plan(1)
    assert alone.place("s-1", 1) is None
    several = after()
    several.plan(3)
    assert several.place("s-1", 2) == {"id": "s-1", "number": 2, "of": 3}
    assert after().place("s-1", 2) == {"id": "s-1", "number": 2, "of": None}


def test_a_sweep_without_points_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no point"):
        after().plan(0)


def test_a_command_is_current_only_while_it_is_carried_out() -> None:
    assert current() is None
    with invoked(after()) as invocation:
        assert current() is invocation
    assert current() is None


def sleeping() -> subprocess.Popen[bytes]:
    """A process that would sleep for a minute; it is in a session of its own, as no terminal's Ctrl-C is."""
    code = "import time; print(flush=True); time.sleep(60)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_ctrl_c_is_only_noted_while_a_run_has_a_process_of_its_own() -> None:
    invocation, before = after(), signal.getsignal(signal.SIGINT)
    with sleeping() as child:
        invocation.child = child
        with invocation.attending():
            os.kill(os.getpid(), signal.SIGINT)
            assert child.poll() is None
        child.kill()
    assert invocation.asked is ExitCode.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before


def test_a_termination_is_passed_on() -> None:
    invocation = after()
    with sleeping() as child, invocation.attending():
        invocation.child = child
        os.kill(os.getpid(), signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
    assert invocation.asked is ExitCode.PREEMPTED
    assert invocation.exit_code() == 75


def test_between_two_runs_a_stop_is_noted_as_well() -> None:
    invocation = after(0)
    with invocation.attending():
        os.kill(os.getpid(), signal.SIGTERM)
    assert invocation.stopped


@pytest.mark.parametrize(
    ("asked", "number"),
    [(ExitCode.PREEMPTED, signal.SIGTERM), (ExitCode.INTERRUPTED, signal.SIGINT)],
)
def test_what_was_asked_before_a_process_was_known_reaches_it(
    asked: ExitCode, number: signal.Signals
) -> None:
    code = (
        "import signal, time; signal.signal(2, signal.SIG_DFL); print(flush=True); time.sleep(60)"
    )
    invocation = after(asked=asked)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert invocation.wait_for(child) == -number
