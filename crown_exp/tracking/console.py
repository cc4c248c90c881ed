"""What a person sees of a running loop: one line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal, TextIO

from crown_exp.config.letters import columns, cut, plain
from crown_exp.tracking.base import Loop, Point
from crown_exp.tracking.terminal import Foot
from crown_exp.tracking.transfer import Transfer, duration, with_bar

LINES_EVERY_SECONDS = 10.0
VALUES = 6
"""How many values are shown: those whose names were logged first."""
LONGEST = 60
"""Columns of a name."""
NAMES = 160
"""Columns of all names that are shown."""

Mode = Literal["bar", "lines", "none"]


class Console:
    """A sink that shows how a loop goes on, with the last values of its first metrics.

    mode: `bar` redraws one line, `lines` prints one every ten seconds and at the end of a loop.
    What was logged arrives on the drain's thread, which only notes that it is time to draw (`due`).
    The loop draws, between two turns: so nothing moves while a debugger waits inside one. transfer: what is
    shown of bytes that the run waits for.
    """

    def __init__(
        self, stream: TextIO, mode: Mode, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream, self.mode, self.clock = stream, mode, clock
        self.foot = Foot(stream)
        self.transfer = Transfer(self.foot, on=mode == "bar", clock=clock)
        self.due = False
        self.loop: Loop | None = None
        self.values: dict[str, float] = {}
        self.names: set[str] = set()
        self.began = self.drawn_at = 0.0
        self.first = self.drawn = 0

    def begin(self, loop: Loop) -> None:
        """A loop starts."""
        if self.mode == "none":
            return
        self.values, self.names = {}, set()
        self.began = self.drawn_at = self.clock()
        self.first, self.drawn = loop.done, -1
        self.loop = loop
        if self.mode == "bar":
            self.foot.keep()

    def take(self, points: Sequence[Point]) -> None:
        """Remember the newest values; note if it is time to draw."""
        loop = self.loop
        if loop is None:
            return
        for point in points:
            self.note(point.values)
        wait = 0 if self.mode == "bar" else LINES_EVERY_SECONDS
        if loop.done not in (0, self.drawn) and self.clock() - self.drawn_at >= wait:
            self.due = True

    def note(self, logged: Mapping[str, float]) -> None:
        """Keep what may be shown of a point, and of the rest the names, to count them."""
        self.names.update(logged)
        values = {name: logged.get(name, value) for name, value in self.values.items()}
        for name in logged if len(values) < min(VALUES, len(self.names)) else ():
            values[name] = logged[name]
            if len(values) == VALUES:
                break
        self.values = values  # a new one: the loop may be reading the old

    def draw(self) -> None:
        """Show the loop as it stands now. A stream that is gone ends the show, not the run."""
        self.due = False
        if self.loop is None:
            return
        self.drawn_at, self.drawn = self.clock(), self.loop.done
        text = describe(self.loop, self.rate(self.loop), self.values, len(self.names))
        try:
            if self.mode == "bar":
                self.foot.draw(
                    with_bar(text, self.loop.done, self.loop.total, self.foot.width() - 1)
                )
            else:
                self.stream.write(f"{text}\n")
                self.stream.flush()
        except (OSError, ValueError):
            self.give_up()

    def end(self) -> None:
        """The loop is over: its last state stays on a line of its own."""
        if self.loop and self.loop.done and (self.mode == "bar" or self.loop.done != self.drawn):
            self.draw()
        self.loop, self.due = None, False
        try:
            self.foot.release()
        except (OSError, ValueError):
            self.give_up()

    def give_up(self) -> None:
        """Nobody looks any more."""
        self.mode, self.loop, self.foot.shown = "none", None, False
        self.foot.release()

    def close(self) -> None:
        """As the end of the loop, if one is going on."""
        self.end()

    def rate(self, loop: Loop) -> float:
        """Turns a second since the loop began in this attempt; 0 before the first."""
        elapsed = self.clock() - self.began
        return (loop.done - self.first) / elapsed if elapsed > 0 else 0.0


def describe(loop: Loop, rate: float, values: Mapping[str, float], named: int = 0) -> str:
    """`finetune 300/1000 steps  121/s  ETA 0:06  loss 0.213  … 19 more`.

    values: the ones to show, if their names have room. named: how many names there are in all.
    """
    count = str(loop.done) if loop.total is None else f"{loop.done}/{loop.total}"
    parts = [f"{label(loop.name)} {count} steps".lstrip()]
    if rate > 0:
        parts.append(speed(rate))
        if loop.total is not None and loop.done < loop.total:
            parts.append(f"ETA {duration((loop.total - loop.done) / rate)}")
    shown = list(with_room(values))
    more = max(named, len(values)) - len(shown)
    return "  ".join([*parts, *shown, *([f"… {more:,} more"] if more else [])])


def with_room(values: Mapping[str, float]) -> Iterator[str]:
    """`loss 0.213`, for as many as their names have room."""
    room = NAMES
    for name, value in values.items():
        room -= columns(label(name))
        if room < 0:
            return
        yield f"{label(name)} {value:.4g}"


@lru_cache(maxsize=64)
def label(name: str) -> str:
    """A name that a terminal does not obey, cut if it is long. Kept, as it is asked for at every draw."""
    return cut(plain(name), LONGEST)


def speed(rate: float) -> str:
    """Turns a second; seconds a turn where that is more than one."""
    if rate < 1:
        return f"{1 / rate:.1f} s/step"
    return f"{rate:.0f}/s" if rate >= 100 else f"{rate:.1f}/s"
