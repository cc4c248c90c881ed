"""`run.every`: in which turns an interval has gone by."""

from __future__ import annotations

import time

from crown_exp.config.units import Interval, parse_interval
from crown_exp.tracking import Loop


class Intervals:
    """The intervals that the turns of one loop have asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, Interval] = {}
        self.fired: dict[str, tuple[float, int]] = {}  # when, and in which turn, each was true last

    def forget(self) -> None:
        """Another loop begins."""
        self.asked.clear()
        self.fired.clear()

    def have_gone_by(self, text: str, loop: Loop | None) -> bool:
        """Whether `500 steps` (or `5 minutes`) have; the same all through a turn. Raises ConfigError."""
        interval = self.asked.get(text)
        if interval is None:
            interval = self.asked[text] = parse_interval(text, "run.every")
        done, step = (loop.done, loop.step) if loop else (0, 0)
        if interval.steps is not None:
            return done > 0 and done % interval.steps == 0
        assert interval.seconds is not None
        now = time.monotonic()
        since, fired_in = self.fired.setdefault(text, (now, 0))
        if now - since >= interval.seconds and step != fired_in:
            self.fired[text] = now, step
            return True
        return fired_in == step > 0

    def will_have(self, loop: Loop | None) -> bool:
        """Whether any of them will have gone by in the turn that comes."""
        if not self.asked or loop is None or loop.done == loop.total:
            return False
        now = time.monotonic()
        return any(
            loop.done % it.steps == 0
            if it.steps
            else text in self.fired and now - self.fired[text][0] >= (it.seconds or 0.0)
            for text, it in self.asked.items()
        )
