"""The ways in which one run is made, to see whether they come to the same. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Kill = tuple[str, int]
"""("after", step): once its checkpoint is there. ("in", step): in the middle of the turn."""


@dataclass(frozen=True)
class Course:
    """One way.

    kind: straight, repeat, workers or kill. workers: of its attempts, in turn. kills: one an attempt.
    """

    kind: str
    workers: tuple[int, ...] = (0,)
    kills: tuple[Kill, ...] = ()

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.kind == "workers":
            return f"with {self.workers[0]} workers"
        if not self.kills:
            return {"straight": "straight", "repeat": "once more"}[self.kind]
        return f"killed {', '.join(f'{how} step {step}' for how, step in self.kills)}"


STRAIGHT = Course("straight")


def courses(steps: int) -> tuple[Course, ...]:
    """What is held against a straight run of so many steps, at least one."""
    return (
        Course("repeat"),
        Course("workers", workers=(2,)),
        Course("kill", workers=(0, 2), kills=moments(steps)),
    )


def moments(steps: int) -> tuple[Kill, ...]:
    """When a run is killed: early, in the middle of a turn, and late; as far as it is long enough."""
    if steps < 4:
        return (("after", 1), ("in", steps)) if steps > 1 else (("in", 1),)
    return (("after", max(1, steps // 4)), ("in", steps // 2 + 1), ("after", steps - 1))
