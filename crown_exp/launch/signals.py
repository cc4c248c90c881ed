"""Stop signals around the making of a run: its folder is whole or not there, and its id is told.

Whoever handled them before does so at the end; nothing here decides what a signal means.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

Handler = Callable[[int, FrameType | None], Any]


class Held:
    """A signal that came and waits; a second one does not."""

    def __init__(self) -> None:
        self.number: int | None = None

    def asked(self) -> bool:
        """Whether a signal waits."""
        return self.number is not None


@contextmanager
def held_back() -> Iterator[Held]:
    """Inside, the first signal is only noted; it is handled at the end, when all is whole or undone.

    The second is handled at once: a store may not answer.
    """
    held = Held()

    def note(number: int, frame: FrameType | None) -> None:
        if held.asked():
            handle(before[number], number, frame)
        held.number = number

    try:
        with handling(note) as before:
            yield held
    finally:
        if held.number is not None:
            handle(before[held.number], held.number, None)


@contextmanager
def told(words: Callable[[], str]) -> Iterator[None]:
    """Inside, `words` are written to standard error before a signal is handled, if there are any."""

    def tell(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):  # past Python's own streams, which may be in the middle of a write
            os.write(2, words().encode(errors="replace"))
        handle(before[number], number, frame)

    with handling(tell) as before:
        yield


@contextmanager
def handling(handler: Handler) -> Iterator[dict[int, Any]]:
    """Inside, signals go to `handler`; yields who had them before. Only the main thread can."""
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        yield before
        return
    for number in SIGNALS:
        before[number] = signal.getsignal(number)
    for number in SIGNALS:
        signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, was in before.items():
            if was is not None:  # None: it was not set from Python
                signal.signal(number, was)


def handle(handler: Any, number: int, frame: FrameType | None) -> None:
    """What would have happened without us; the handler of the time stands again."""
    if callable(handler):
        handler(number, frame)
    elif handler is signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
