"""The debugger, where the user's own code was when an error came out of a debug run."""

from __future__ import annotations

import pdb
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any

from crown_exp.runner.ending import Ending
from crown_exp.runner.tracebacks import is_ours

INSTALLED = (
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    "<frozen ",
)
NO_TERMINAL = "debug: no terminal, so no debugger; in one it would open here"
WELCOME = "debug: the debugger is where your code was; up and down walk the frames, q ends the run"


def post_mortem(error: BaseException, ending: Ending) -> Ending:
    """Show the traceback, then a debugger at the innermost frame of the user's own code.

    Returns the ending, which stays what it is, without what has been shown. Without a terminal, or an own
    frame in the traceback, nothing but a line is shown.
    """
    if error.__traceback__ is None or own_index(frames_of(error)) is None:
        return ending
    if not is_terminal(sys.stdin) or not is_terminal(sys.stdout):
        return replace(ending, told=f"{ending.told.rstrip()}\n{NO_TERMINAL}")
    sys.stderr.write(f"{ending.told.rstrip()}\n{WELCOME}\n")
    sys.stderr.flush()
    with suppress(Exception, Left), own_signals():  # what goes wrong in a debugger is not the run's
        debugger = Debugger()
        debugger.interaction(None, error if sys.version_info >= (3, 13) else error.__traceback__)  # type: ignore[arg-type, unused-ignore]
    return replace(ending, told="")


class Debugger(pdb.Pdb):
    """pdb, which begins at the user's frame and not in the depths of torch."""

    def get_stack(self, f: FrameType | None, t: Any) -> tuple[list[tuple[FrameType, int]], int]:
        """The frames, and which of them to begin at."""
        stack, index = super().get_stack(f, t)
        own = own_index([frame for frame, _ in stack])
        return stack, index if own is None else own


class Left(BaseException):
    """The debugger is left because the process is asked to end."""


@contextmanager
def own_signals() -> Iterator[None]:
    """Inside, Ctrl-C is the debugger's, as ever, and SIGTERM ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise Left

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, leave),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def frames_of(error: BaseException) -> list[FrameType]:
    """The frames that an error passed through, the innermost last."""
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


def own_index(frames: Sequence[FrameType]) -> int | None:
    """The innermost frame of the user's own code, else of anything but ours; None if all are ours."""
    files = [frame.f_code.co_filename for frame in frames]
    own = [index for index, file in enumerate(files) if is_own(file)]
    others = [index for index, file in enumerate(files) if not is_ours(file)]
    return next(iter((own or others)[-1:]), None)


def is_own(file: str) -> bool:
    """Whether a source file is neither ours, nor Python's, nor installed."""
    return not is_ours(file) and not file.startswith(INSTALLED) and "site-packages" not in file


def is_terminal(stream: Any) -> bool:
    """Whether somebody sits at a standard stream; one that is closed has nobody."""
    try:
        return bool(stream is not None and stream.isatty())
    except (OSError, ValueError):
        return False
