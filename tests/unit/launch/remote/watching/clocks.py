"""Clocks for watches: what a test means by seconds that have passed is then all that has."""

from __future__ import annotations

from datetime import UTC, datetime


class Stopped:
    """A monotonic clock that stands still; the time of day is the real one, or that which is told."""

    def __init__(self, day: datetime | None = None) -> None:
        self.day = day

    def now(self) -> datetime:
        return self.day or datetime.now(UTC)

    def monotonic(self) -> float:
        return 1000.0
