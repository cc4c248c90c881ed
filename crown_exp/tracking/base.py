"""What flows from a loop to whoever shows or keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol


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
    in progress. broken: whether one was left by `break` or an error; its number is not given again.
    exhausted: whether what it goes over has come to its end.
    """

    name: str
    total: int | None = None
    before: int = 0
    done: int = 0
    in_turn: bool = False
    broken: bool = False
    exhausted: bool = False

    @property
    def step(self) -> int:
        """The turn in progress, else the last one that was begun; counted from 1 over all loops."""
        return self.before + self.done + (self.in_turn or self.broken)


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of the run it tracks.

    id: stable over all attempts, so that they can share one curve. attempt: this one's number, from 1.
    sweep: the id of the sweep it belongs to. config: resolved, as plain values; it holds no secrets.
    home: a directory of this machine where the tracker may keep files of its own.
    resumed: the step after which this attempt goes on (0: from the start); None for a run's first attempt.
    What it logs after that step an earlier attempt may have logged, too, with the same values.
    earlier: gives the points up to that step which the run's log has; read when it is called.
    """

    id: str
    name: str
    experiment: str | None
    sweep: str | None
    tags: tuple[str, ...]
    user: str
    config: Mapping[str, Any]
    attempt: int
    home: Path
    resumed: int | None = None
    earlier: Callable[[], Sequence[Point]] = tuple


class Artifact(NamedTuple):
    """A file that the task stored in its turn `step`. path: where it is now; kind: image, text, …"""

    name: str
    step: int
    path: Path
    kind: str


class Tracker(Protocol):
    """Where metrics go beside the run's own log: a service, a file of another format.

    Chosen by `tracker._target_`, made with that group's other keys, and called on a thread of its own, one
    call after another, never by the loop: it may take its time. Whatever it raises is told once and ends
    it, not the run; what it says or does to the process is its own affair. At the end it has ten seconds. An
    attribute `again` is what one types, with a run's id, to send it later what it was not given.
    """

    def start(self, run: TrackedRun) -> str | None:
        """Called once, before all else. Returns a line for the user: where the run can be seen, say."""

    def log(self, points: Sequence[Point]) -> str | None:
        """New points, in the order they were logged; at least one. May return a line for the user."""

    def artifact(self, artifact: Artifact) -> None:
        """A file that was stored."""

    def finish(self, exit_code: int, result: Any) -> None:
        """The attempt has ended so; result: what the task returned, None unless it completed."""
