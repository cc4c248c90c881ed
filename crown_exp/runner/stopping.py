"""Stop signals: asked once, a run ends at the next boundary between two turns; asked twice, at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from crown_exp.errors import Stopped
from crown_exp.outcome import ExitCode

CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.PREEMPTED}


class StopRequest:
    """Whether a stop was asked for. Read by the loop between turns."""

    def __init__(self) -> None:
        self.code: ExitCode | None = None
        self.in_turn = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: at once outside a loop or when asked again, else at the end of the turn."""
        code = CODES[signal.Signals(number)]
        if self.code is not None or not self.in_turn:
            self.code = code
            raise Stopped(reason(code), code)
        self.code = code
        again = "; Ctrl-C again to stop now" if code is ExitCode.INTERRUPTED else ""
        sys.stderr.write(f"\nstopping at the end of this turn{again}\n")

    def raise_if_asked(self) -> None:
        """Called at a boundary. Raises Stopped if a stop was asked for."""
        if self.code is not None:
            raise Stopped(reason(self.code), self.code)


def reason(code: ExitCode) -> str:
    """What an end record says of a stop."""
    return "interrupted by the user" if code is ExitCode.INTERRUPTED else "asked to stop (SIGTERM)"


@contextmanager
def stop_signals(request: StopRequest) -> Iterator[None]:
    """Listen for SIGINT and SIGTERM while an attempt runs; outside the main thread nobody can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in CODES}
    for number in CODES:
        signal.signal(number, request.handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
