"""How long a run that has a cloud's notice may still train: as long as enough time is left to save."""

from __future__ import annotations

import math

MARGIN_SECONDS = 5.0
"""Beside what a save takes: notices are seen up to a second late, and some clocks tell whole seconds."""

RECENT_SECONDS = 300.0
"""What a turn took counts for so long at least, and at most twice as long."""


class Pace:
    """How long turns and saves take in this attempt. Written by one thread, read by any.

    save: the longest until a save was durable, in seconds; None: none was measured yet.
    """

    def __init__(self) -> None:
        self.save: float | None = None
        self.ended: float | None = None  # when the last turn did
        self.longest: float | None = None  # in the window that began last
        self.before = 0.0  # the longest in the window before that
        self.until = -math.inf  # when the window is over

    def saved(self, seconds: float) -> None:
        """A save was durable after so many seconds."""
        self.save = max(seconds, self.save or 0.0)

    def loop_begins(self) -> None:
        """The first turn of a loop is not measured: much happens once in it, as when a model is compiled."""
        self.ended = None

    def turn_ended(self, now: float) -> None:
        """A turn, and what was done between it and the one before."""
        if self.ended is not None:
            self.took(now - self.ended, now)
        self.ended = now

    def took(self, seconds: float, now: float) -> None:
        """A turn that ended at `now` took so many seconds."""
        if now >= self.until:
            self.before, self.longest = self.longest or 0.0, seconds
            self.until = now + RECENT_SECONDS
        elif self.longest is None or seconds > self.longest:
            self.longest = seconds

    @property
    def turn(self) -> float | None:
        """The longest recent turn, in seconds; None: none was measured yet."""
        return None if self.longest is None else max(self.longest, self.before)

    def reserve(self) -> float:
        """The seconds that a stop needs before the machine is gone; infinite if that is not known yet.

        At worst a save has just begun when the time has come: the turn, that save, and then the last one.
        """
        if self.save is None or (turn := self.turn) is None:
            return math.inf
        return 2 * (self.save + turn) + MARGIN_SECONDS

    def reserve_after(self, saves: int) -> float:
        """The same once a loop was left. saves: how many are in flight, or at hand; no other can be made."""
        if not saves:
            return MARGIN_SECONDS
        return math.inf if self.save is None else saves * self.save + MARGIN_SECONDS
