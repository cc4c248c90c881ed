"""Clocks that tests move: what a test means by seconds that have passed is then all that has."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from crown_exp.clock import Clock, SystemClock


class Stopped:
    """A monotonic clock that stands still; the time of day is the real one, or that which is told."""

    def __init__(self, day: datetime | None = None) -> None:
        self.day = day

    def now(self) -> datetime:
        return self.day or datetime.now(UTC)

    def monotonic(self) -> float:
        return 1000.0


@dataclass
class Moved:
    """A clock that can be put forward."""

    ahead: float = 0.0
    clock: Clock = field(default_factory=SystemClock)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now().timestamp() + self.ahead, UTC)

    def monotonic(self) -> float:
        return self.clock.monotonic() + self.ahead
