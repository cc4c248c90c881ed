"""What flows from `run.log`, and who takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Point(NamedTuple):
    """Values that belong to one turn.

    step: the turn's number, counted from 1. time: seconds since the epoch. values: float by name.
    """

    step: int
    time: float
    values: dict[str, float]


class Sink(Protocol):
    """Takes what was drained from the queue, on the drain's thread."""

    def take(self, points: Sequence[Point]) -> None:
        """New points, in the order they were logged; called at every drain, also without any."""

    def close(self) -> None:
        """Nothing comes after this."""
