"""Ctrl-C while runs are watched: once to go away, twice to end them; and watching to the end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import TextIO

from crown_exp.errors import CrownError
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.watching.watch import Watch
from crown_exp.launch.signals import handling
from crown_exp.outcome import ExitCode

AGAIN_SECONDS = 5.0
"""How long a second Ctrl-C may follow."""
AGAIN = "type the same command again"
"""How to come back to the runs of a command that finds those that are there."""
NAMED = 5
"""How many runs are named when they are left."""


class Asked:
    """Which signals came. code: what the first means; None before."""

    def __init__(self, code: ExitCode | None, wake: threading.Event) -> None:
        self.code, self.wake = code, wake
        self.again = threading.Event()

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.code is not None:
            self.again.set()
        else:
            interrupted = number == signal.SIGINT
            self.code = ExitCode.INTERRUPTED if interrupted else ExitCode.PREEMPTED
        self.wake.set()


def see_through(
    watching: Watch,
    *,
    asked: ExitCode | None = None,
    again: str = AGAIN,
    ask: Callable[[str], bool] | None = None,
    again_seconds: float = AGAIN_SECONDS,
) -> list[Ended]:
    """Watch runs until all are over, or somebody has seen enough: how each ended. From the main thread.

    Ctrl-C once, or SIGTERM: they go on alone. Ctrl-C again within five seconds: asks whether to cancel them.
    asked: a stop that was asked for before; a watch that was not started is not any more then, as it would
    wait for requests that are not answered. again: how to come back. ask: how to ask on a terminal; None: there
    is none if standard input and the stream are not one.
    """
    signals = Asked(asked, watching.changed)
    # From before it begins: a signal in between would end this process.
    with handling(signals.note):
        if not watching.started and signals.code is None:
            watching.start()
        while signals.code is None and not watching.changed.is_set():
            watching.changed.wait()
        watching.stop()
        if watching.failure is not None:
            raise watching.failure
        if signals.code is None or watching.over:
            return watching.ended()
        watching.left = signals.code
        interrupted = signals.code is ExitCode.INTERRUPTED
        tell(watching.stream, parting(watching, again_seconds if interrupted else 0.0, again))
        twice = interrupted and signals.again.wait(again_seconds)
    if twice:
        end_them(watching, ask or asker(watching.stream))
    return watching.ended()


def parting(watching: Watch, again_seconds: float, again: str = AGAIN) -> str:
    """How to come back to runs that go on, and how to end them. again: the first way."""
    runs = [it.run.record.id for it in watching.open]
    named = " ".join(runs[:NAMED]) + (f" … ({len(runs) - NAMED} more)" if len(runs) > NAMED else "")
    goes = f"{runs[0]} goes on" if len(runs) == 1 else f"{len(runs)} runs go on"
    lines = [
        f"detached: {goes} without this terminal",
        f"  follow     crown-exp logs -f {runs[0]}",
        f"  look       crown-exp show {runs[0]}",
        f"  come back  {again}",
        f"  end        crown-exp cancel {named}",
    ]
    if again_seconds:
        lines.append(f"Ctrl-C again within {again_seconds:g} s asks whether to cancel")
    return "\n".join(lines)


def end_them(watching: Watch, ask: Callable[[str], bool] | None) -> None:
    """Cancel what goes on, after asking; without a terminal nobody can be asked."""
    runs = [it.run.record.id for it in watching.open]
    if ask is None:
        tell(watching.stream, f"not a terminal, so nothing is cancelled; type: {command(runs)}")
        return
    what = runs[0] if len(runs) == 1 else f"{len(runs)} runs"
    if not ask(f"cancel {what}?"):
        tell(watching.stream, "nothing was cancelled")
        return
    unanswered = [it.run.job.executor for it in watching.open if it.run.job.handle is None]
    for name in dict.fromkeys(unanswered):
        watching.opened.executors[name].close()  # whoever waits for a request is cut off
    try:
        watching.cancel()
    except CrownError as error:
        tell(watching.stream, f"{error}; not cancelled; again: {command(runs)}")
        return
    if unanswered:
        jobs = "1 job was" if len(unanswered) == 1 else f"{len(unanswered)} jobs were"
        tell(watching.stream, f"{jobs} not accepted yet; one that still comes ends by itself")


def command(runs: Sequence[str]) -> str:
    """What to type to cancel these runs without being asked."""
    return f"crown-exp cancel --yes {' '.join(runs)}"


def asker(stream: TextIO) -> Callable[[str], bool] | None:
    """Asks yes or no on the terminal; None if there is none."""
    if not (sys.stdin is not None and sys.stdin.isatty() and stream.isatty()):
        return None

    def ask(question: str) -> bool:
        stream.write(f"{question} [y/N] ")
        stream.flush()
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            return False

    return ask


def tell(stream: TextIO, text: str) -> None:
    """Lines for the user, if anybody still reads."""
    with suppress(OSError, ValueError):
        stream.write(f"{text}\n")
        stream.flush()
