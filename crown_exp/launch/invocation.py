"""One command of the user: what was asked, and how its runs ended.

Set by our entrances, read by the plugins.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from subprocess import Popen
from types import FrameType
from typing import Any

from crown_exp.config.project import Project
from crown_exp.errors import ConfigError
from crown_exp.folder.records import SweepPlace
from crown_exp.launch.signals import SIGNALS
from crown_exp.outcome import STOPS, ExitCode, State


@dataclass(frozen=True)
class Ended:
    """How one run of the command ended.

    run: its id; "" if a stock launcher ran it in another process. error: one line, below it the end of the log
    if it was elsewhere; "" if it completed. overrides: what composed it, as a user would type it. state: what
    it does now, where that is not what its exit code says.
    """

    run: str
    name: str
    exit_code: int
    result: Any
    error: str = ""
    overrides: tuple[str, ...] = ()
    state: State | None = None


@dataclass
class Invocation:
    """A command that makes runs.

    multirun: whether -m was given. project: whose conf/ and code this is. planned: how many runs it will
    make, if its sweeper knows. asked: how it was asked to stop while a run had a process of its own: `child`.
    ended: its runs so far, in order. yes: whether the user agrees beforehand to what it costs. planning: only
    tell what would be done and what that costs: nothing is recorded or launched. as_json: as one JSON text.
    refused: lines that tell what keeps the command from being carried out, as far as that is known.
    """

    multirun: bool
    project: Project | None
    planned: int | None = None
    asked: ExitCode | None = None
    child: Popen[bytes] | None = None
    ended: list[Ended] = field(default_factory=list)
    yes: bool = False
    planning: bool = False
    as_json: bool = False
    refused: tuple[str, ...] = ()

    def plan(self, jobs: int) -> None:
        """A sweeper says how many runs there will be. Raises ConfigError if there are none."""
        if not jobs:
            raise ConfigError.of("this sweep", "has no point: one of its ranges or globs is empty")
        self.planned = jobs

    def place(self, sweep: str, number: int) -> SweepPlace | None:
        """Where a run stands in its sweep, `number` counted from 1; None for a run that is alone."""
        alone = self.planned == 1 or not self.multirun
        return None if alone else SweepPlace(id=sweep, number=number, of=self.planned)

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for, so that no other run should start."""
        return bool(self.asked) or (bool(self.ended) and self.ended[-1].exit_code in STOPS)

    def exit_code(self) -> int:
        """A single run's own code; of several 130, 75 or 77 if one was stopped so, 1 if any failed, else 0."""
        codes = [item.exit_code for item in self.ended]
        if self.asked:
            return int(self.asked)
        if len(codes) == 1:
            return codes[0]
        stops = (ExitCode.INTERRUPTED, ExitCode.PREEMPTED, ExitCode.CAPPED)
        stopped = next((code for code in stops if code in codes), None)
        return int(stopped) if stopped else int(ExitCode.RAISED if any(codes) else ExitCode.OK)

    @contextmanager
    def attending(self) -> Iterator[None]:
        """While runs have processes of their own: Ctrl-C reaches those by itself and is only noted here.

        SIGTERM (or SIGUSR1, SIGUSR2), which is sent to one process, is passed on to `child`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait_for(self, child: Popen[bytes]) -> int:
        """The status with which a run's process ends. What was asked before it was known is passed on."""
        self.child = child
        if self.asked:
            child.send_signal(signal.SIGTERM if self.asked == ExitCode.PREEMPTED else signal.SIGINT)
        status = child.wait()
        self.child = None
        return status

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler of `attending`."""
        terminated = number != signal.SIGINT
        self.asked = self.asked or (ExitCode.PREEMPTED if terminated else ExitCode.INTERRUPTED)
        if terminated and self.child:
            self.child.terminate()


_CURRENT: ContextVar[Invocation | None] = ContextVar("crown_exp_invocation", default=None)


def current() -> Invocation | None:
    """The command being carried out; None in a Hydra application that is not ours."""
    return _CURRENT.get()


@contextmanager
def invoked(invocation: Invocation) -> Iterator[Invocation]:
    """Carry out a command."""
    token = _CURRENT.set(invocation)
    try:
        yield invocation
    finally:
        _CURRENT.reset(token)
