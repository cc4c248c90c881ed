"""Places inside a run at which a test ends it, chosen from outside: the run's own code stays as it is.

A seam is a list that travels as JSON to the process that is to end (tests/exactness/zygote.py):

    at_event("os.link", r"checkpoints/.*json$")          before a file takes this place
    at_call("torch.nn.functional:cross_entropy", 5)      when this is called for the fifth time

Events are Python's own audit events, so that a seam names files of the format, not our functions.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Seam = list[Any]


def leave_out(piece: str) -> None:
    """See mutations.leave_out, which only a process that leaves something out imports."""
    from tests.exactness import mutations

    mutations.leave_out(piece)


def at_event(event: str, pattern: str, nth: int = 1, number: int = signal.SIGKILL) -> Seam:
    """Send itself a signal before the n-th audit event whose arguments match: `os.link`, `open`, `import`."""
    return ["event", event, pattern, nth, int(number)]


def at_call(target: str, nth: int = 1, number: int = signal.SIGKILL) -> Seam:
    """Send itself a signal when `module:name` or `module:Class.method` is called for the n-th time."""
    return ["call", target, nth, int(number)]


def meet(target: str, place: Path, count: int) -> Seam:
    """Wait where this is called until so many processes have come to it: then they race."""
    return ["meet", target, str(place), count]


def wait_for(target: str, path: Path) -> Seam:
    """Wait where this is called until there is a file."""
    return ["wait for", target, str(path)]


def in_step() -> Seam:
    """Wait for every save before the next turn: else one that is slow makes the run leave out the next."""
    return ["in step"]


def without(piece: str) -> Seam:
    """Restore all but one piece of the saved state: a name of `mutations.PIECES`."""
    return ["without", piece]


def place(seams: Sequence[Seam]) -> None:
    """In the process that is to end: put the seams where they belong."""
    kinds: dict[str, Callable[..., None]] = {
        "event": place_event,
        "call": place_call,
        "meet": place_meeting,
        "wait for": place_wait,
        "in step": place_in_step,
        "without": leave_out,
    }
    for kind, *arguments in seams:
        kinds[kind](*arguments)


class Countdown:
    """Counts what comes by, on whatever thread, and sends this process a signal at the n-th."""

    def __init__(self, nth: int, number: int) -> None:
        self.left, self.number, self.lock = nth, number, threading.Lock()

    def __call__(self) -> None:
        with self.lock:
            self.left -= 1
            now = self.left == 0
        if now:
            os.kill(os.getpid(), self.number)


def place_event(event: str, pattern: str, nth: int, number: int) -> None:
    """See at_event."""
    count, wanted, owner = Countdown(nth, number), re.compile(pattern), os.getpid()

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name != event or os.getpid() != owner:  # the run's, not its workers'
            return
        if any(wanted.search(str(argument)) for argument in arguments[:2]):
            count()

    sys.addaudithook(hook)


def place_call(target: str, nth: int, number: int) -> None:
    """See at_call."""
    before(target, Countdown(nth, number))


def place_meeting(target: str, place: str, count: int) -> None:
    """See meet."""
    folder = Path(place)

    def act() -> None:
        folder.mkdir(exist_ok=True)
        (folder / str(os.getpid())).touch()
        until(lambda: len(list(folder.iterdir())) >= count)

    before(target, act)


def place_wait(target: str, path: str) -> None:
    """See wait_for."""
    before(target, lambda: until(Path(path).exists))


def until(happened: Callable[[], bool]) -> None:
    """Wait, a minute at most."""
    deadline = time.monotonic() + 60
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.001)


def place_in_step() -> None:
    """See in_step."""
    from crown_exp.runner.keeping import Keeping

    original = Keeping.save

    def save(self: Keeping, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self.finish()

    Keeping.save = save  # type: ignore[method-assign]


def before(target: str, act: Callable[[], None]) -> None:
    """Act whenever a target is called; a function is replaced wherever it was imported by name."""
    home, name, original = found(target)

    @functools.wraps(original)
    def acting(*arguments: Any, **options: Any) -> Any:
        act()
        return original(*arguments, **options)

    replace(home, name, original, acting)


def found(target: str) -> tuple[Any, str, Any]:
    """Where the target of a seam is kept, under which name, and what it is."""
    module, _, names = target.partition(":")
    *above, name = names.split(".")
    home: Any = importlib.import_module(module)
    for step in above:
        home = getattr(home, step)
    return home, name, getattr(home, name)


def replace(home: Any, name: str, original: Any, other: Any) -> None:
    """Put another in its place, there and in every module that imported it by name."""
    setattr(home, name, other)
    for module in list(sys.modules.values()):
        for key, value in list(getattr(module, "__dict__", {}).items()):
            if value is original:
                setattr(module, key, other)
