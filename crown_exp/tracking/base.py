"""What flows from a loop to whoever shows or keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass
class Loop:
    """One loop of a task as it goes on; written by the loop, read by whoever shows it.

    name: "" for a task's only one. total: how many turns it will make, None if that is not known.
    before: the turns of the loops before it. done: its turns that are complete. in_turn: whether one is
    in progress.
    """

    name: str
    total: int | None = None
    before: int = 0
    done: int = 0
    in_turn: bool = False

    @property
    def step(self) -> int:
        """The turn in progress, else the last one that is done; counted from 1 over all loops."""
        return self.before + self.done + self.in_turn
