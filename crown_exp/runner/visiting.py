"""Visitors of a run's loops (`boundary.Visit`): one that looks for a turn, and what all of them need."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import FrameType
from typing import Any, NoReturn

from crown_exp.runner.boundary import Boundary
from crown_exp.runner.carried import loop_at
from crown_exp.runner.rehearsal import consumers
from crown_exp.runner.source import Source
from crown_exp.runner.tracebacks import is_ours
from crown_exp.tracking import Loop

Meet = Callable[[Any, Loop, FrameType], bool]
"""Called with the item of a turn, its loop and the frame that goes over it; whether the turn is to be made."""


class TurnIsOver(KeyboardInterrupt):
    """The turn that was looked for was seen: the task is left as by Ctrl-C, which is no error."""


@dataclass
class TurnVisitor:
    """Goes to the turn `step` of a run, shows it to `meet`, and leaves the task.

    quick: pass over the turns before it without making them, where their items do not depend on that.
    known: the loops as the run's newest checkpoint has them. then: called when the turn is over, before the
    task is left. met: whether the turn was there. over: whether it is over.
    """

    step: int
    meet: Meet
    quick: bool
    known: Sequence[Mapping[str, Any]] = ()
    met: bool = False
    then: Callable[[], None] = lambda: None
    over: bool = field(default=False, init=False)

    def __call__(self, boundary: Boundary, loop: Loop, items: Iterator[Any]) -> Iterator[Any]:
        """The items up to that of the turn."""
        boundary.rehearsal = None  # a save was tried when the run was new
        number = loop.before + loop.done + 1
        frame = consumer(sys._getframe(1))
        if self.quick and self.is_in(loop, boundary, frame):
            assert boundary.state.source is not None
            items = ahead(boundary.state.source, loop, items, self.step - number)
            number = self.step
        for number, item in enumerate(items, number):  # noqa: B020 - from where it stands now
            here = number == self.step
            self.met = self.met or here
            if not here or self.meet(item, loop, frame):
                yield item
            if here:
                self.leave(sys._getframe())

    def leave(self, frame: FrameType) -> NoReturn:
        """Raises TurnIsOver. A debugger that is still open is not to follow it."""
        self.over = True
        self.then()
        if is_debugger(sys.gettrace()):
            sys.settrace(None)
            above: FrameType | None = frame
            while above is not None:
                above.f_trace = None
                above = above.f_back
        raise TurnIsOver(f"turn {self.step} is over")

    def is_in(self, loop: Loop, boundary: Boundary, frame: FrameType) -> bool:
        """Whether the turn is one of this loop for certain, and its item is found without the turns before."""
        source = boundary.state.source
        if source is None or not source.quiet or self.step <= loop.before + loop.done:
            return False
        place = len(boundary.state.loops) - 1
        if place < len(self.known):
            done = self.known[place]["done"]
            if loop.before + done >= self.step:
                return True
            if place + 1 < len(self.known):  # it was left before
                return False
        within = loop.total is not None and self.step <= loop.before + loop.total
        return within and not may_leave(frame)


def ahead(source: Source, loop: Loop, items: Iterator[Any], turns: int) -> Iterator[Any]:
    """The items after some that are passed over; batches of a map-style dataset are not even built."""
    given = source.given
    if source.ours and hasattr(given, "position"):
        given.load_state_dict({**given.state_dict(), "position": given.position + turns})
        return source.items(loop.done)
    return islice(items, turns, None)


def is_debugger(trace: Any) -> bool:
    """Whether a trace function is that of Python's debugger."""
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(getattr(trace, "__self__", None), bdb.Bdb)


def consumer(frame: FrameType | None) -> FrameType:
    """The frame of the user's own code that goes over the loop, else the first that is not ours."""
    own = next(consumers(frame), None)
    if own is not None:
        return own
    while frame is not None and frame.f_back is not None:
        if not is_ours(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    assert frame is not None
    return frame


def may_leave(frame: FrameType) -> bool:
    """Whether a loop can be left before its end: by `break` or `return`, or its source is not there."""
    text = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    try:
        loop = loop_at(ast.parse(text), frame.f_lineno)
    except (SyntaxError, ValueError):
        return True
    return loop is None or any(
        isinstance(node, ast.Break | ast.Return) for item in loop.body for node in ast.walk(item)
    )
