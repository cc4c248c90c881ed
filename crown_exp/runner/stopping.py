"""Stop signals: asked once, a run ends at the next boundary between two turns; asked twice, at once."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from crown_exp.errors import Stopped
from crown_exp.outcome import ExitCode
from crown_exp.runner.cloud_notices import Notice

CODES = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.PREEMPTED,
    signal.SIGUSR1: ExitCode.PREEMPTED,
    signal.SIGUSR2: ExitCode.PREEMPTED,
}
NOTICES = frozenset({signal.SIGUSR1, signal.SIGUSR2})
"""What Slurm sends some time before the end (`--signal`), perhaps to many and more than once."""


ENOUGH = 3
"""Who has typed Ctrl-C so often does not want to wait for a store any more: the end is not written."""


SAME_SECONDS = 5.0
"""Two notices of one action whose ends differ by less are one, read twice; some clocks tell whole seconds."""


ASKED = "asked to stop "
"""How the reason of an end begins that came by a signal, Ctrl-C apart."""


def reason(number: signal.Signals) -> str:
    """Why a run ends that was sent a signal."""
    asked = f"{ASKED}({number.name})"
    return "interrupted by the user" if number is signal.SIGINT else asked


def never() -> bool:
    """No state is that of a boundary."""
    return False


def all_there_is() -> float:
    """How long a stop takes is not known, or it had better come at once."""
    return math.inf


class StopRequest:
    """Whether a stop was asked for, by whom and why; read by the loop between turns.

    While our own code is at work (the fence is taken, an end is written) a stop is only noted. While the
    task runs (`heeded`) it is raised: at the end of the turn, or at once outside a loop, after a second
    signal, or where `now` says that the state is still that of the boundary. SIGUSR1 and SIGUSR2 say nothing
    after another stop, and are nobody's second signal. Nor is SIGTERM, once the cloud has given notice: it is
    what the cloud, and who watches it, sends before the end, and the state may still be on its way.

    A cloud's notice becomes a stop at once before the first loop; in a loop, and after one, when no more time
    is left than a stop takes (`reserve`, `reserve_after`), or by a signal.

    code, why: of the stop; None and "" if none was asked for. raised: whether the task was told. at_once:
    whether a second signal came, from who does not want to wait. times: how often Ctrl-C or SIGTERM came.
    now: called by the signal handler in a turn, so it must be quick and take no lock. delayed: likewise, when
    the stop waits for the end of the turn. notice: the cloud's that is nearest, if it gave one, at `heard`;
    until: when it takes the machine. since: when whoever does not wait for ever asked first. All three by
    `clock`. reserve: the seconds that a stop in a loop takes, saving included; asked in any thread.
    reserve_after: likewise, of one after a loop, where nothing new can be saved. looped: whether a loop has
    begun; in_loop: whether one goes on. heeded_notice: the one with which a boundary was passed last.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.code: ExitCode | None = None
        self.why = ""
        self.in_turn = self.at_work = self.raised = False
        self.signalled = self.at_once = False
        self.times = 0
        self.notice: Notice | None = None
        self.heard = self.until = 0.0
        self.reserve: Callable[[], float] = all_there_is
        self.reserve_after: Callable[[], float] = all_there_is
        self.looped = self.in_loop = False
        self.heeded_notice: Notice | None = None
        self.since: float | None = None
        self.untold = self.listening = False
        self.now: Callable[[], bool] = never
        self.delayed: Callable[[], Any] = never
        self.pid = os.getpid()

    def ask(self, code: ExitCode, why: str) -> None:
        """Note that the run should stop; from any thread. Nothing outdoes an attempt that has taken over."""
        if self.code is not ExitCode.SUPERSEDED:
            self.why, self.code = why, code

    def warn(self, notice: Notice) -> None:
        """The cloud is about to take the machine; from any thread. A stop, if there is no time to spare.

        May be called again and again: only what is nearer than all before counts.
        """
        now = self.clock()
        until, before = now + notice.left, self.notice
        if before is not None and until >= self.until:
            return
        is_other = before is None or before.action != notice.action
        if is_other or until < self.until - SAME_SECONDS:
            self.heard, self.until = now, until
            self.notice = notice  # last: from now on it is heeded
        else:
            self.until = until
        if self.code is not None or self.spare <= 0:
            self.obey_notice()
            self.wake()

    @property
    def spare(self) -> float:
        """For how many seconds a run that has a notice may still go on; negative if it had better ended."""
        after = self.reserve_after if self.looped else all_there_is
        return self.until - self.clock() - (self.reserve if self.in_loop else after)()

    @property
    def trains_on(self) -> bool:
        """Whether a boundary was passed since the notice."""
        return self.notice is not None and self.heeded_notice is self.notice

    @property
    def pending(self) -> bool:
        """Whether there is a notice that is not obeyed yet."""
        return self.notice is not None and self.code is None

    def obey_notice(self) -> None:
        """Make the notice a stop, unless there is one; from any thread."""
        if self.notice is not None and self.code is None:
            self.since, self.untold = self.clock(), True
            longer = f", trained on for {self.since - self.heard:.0f} s" if self.trains_on else ""
            self.ask(ExitCode.PREEMPTED, f"{self.notice.words}{longer}")

    def wake(self) -> None:
        """A signal of the system, as the task may be waiting for something in the main thread.

        None if the task has taken the signal for itself, whom it might end.
        """
        if self.listening and signal.getsignal(signal.SIGUSR1) == self.handle:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGUSR1)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Inside, the task is at work. Raises Stopped for a stop that was asked for before or is now."""
        self.at_work = True
        try:
            self.raise_if_asked()
            yield
        finally:
            self.at_work = False

    def obey(self) -> None:
        """Called outside of turns: a stop that came in a turn that was left is raised now."""
        if self.at_work and not self.in_turn:
            self.raise_if_asked()

    def raise_if_asked(self) -> None:
        """Called at a boundary. Raises Stopped if a stop was asked for."""
        if self.code is not None:
            self.raised, self.untold = True, False
            raise Stopped(self.why, self.code)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if os.getpid() != self.pid:
            return  # a process that was forked a moment ago: the signal is its parent's as well
        sent = signal.Signals(number)
        untold, self.untold = self.untold, False
        if self.pending and self.says_nothing_new(sent):
            self.obey_notice()
            self.untold = False
        elif self.code is None or not self.says_nothing_new(sent):
            self.note(sent)
        elif not untold:
            return
        if not self.at_work:
            if self.times >= ENOUGH and sent is signal.SIGINT:
                raise KeyboardInterrupt
            return
        if self.at_once or ((not self.in_turn or self.now()) and not exchanging()):
            self.raise_if_asked()
        self.delayed()
        self.tell_of_delay()

    def says_nothing_new(self, sent: signal.Signals) -> bool:
        """Whether a signal may follow another stop without being anybody's second one."""
        return sent in NOTICES or (sent is signal.SIGTERM and self.notice is not None)

    def note(self, sent: signal.Signals) -> None:
        """Note a signal that asks for a stop."""
        again = self.signalled
        self.at_once, self.signalled = again, True
        self.times += sent not in NOTICES and (again or self.notice is None)
        if self.since is None and sent is not signal.SIGINT:
            self.since = self.clock()
        self.ask(CODES[sent], reason(sent))

    def tell_of_delay(self) -> None:
        """Say that it will take until the end of the turn, and how long there is."""
        words = "stopping at the end of this turn"
        if self.code is ExitCode.INTERRUPTED:
            words += "; Ctrl-C again to stop now"
        elif self.notice is not None:
            left = max(0.0, self.until - self.clock())
            words = f"{self.notice.cloud} takes this machine in {left:.0f} s ({self.notice.action}); {words}"
        with suppress(
            RuntimeError, OSError, ValueError
        ):  # in the middle of another write, or none reads
            sys.stderr.write(f"\n{words}\n")


def exchanging() -> bool:
    """Whether the process's generators are being exchanged for those of a batch, or back."""
    seeding = sys.modules.get("crown_exp.data.seeding")
    return seeding is not None and bool(seeding.exchanging)


@contextmanager
def stop_signals(request: StopRequest) -> Iterator[None]:
    """Listen for stop signals; outside the main thread nobody can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in CODES}
    complain = sys.unraisablehook
    sys.unraisablehook = lambda what: None if is_stop(what) else complain(what)
    for number in CODES:
        signal.signal(number, request.handle)
    request.listening = True
    try:
        yield
    finally:
        request.listening = False
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)
        sys.unraisablehook = complain


def is_stop(what: Any) -> bool:
    """Whether a stop was raised where nothing can be: in a finalizer. The next boundary raises it again."""
    return isinstance(what.exc_value, Stopped)
