"""What a service has of a run already, and what of the run's points it lacks. Pure.

A point is told by its step and its names, not by its time: what a resumed attempt computes again it logs at
another time. As many of equal ones as are there are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

Value = TypeVar("Value")
"""A float, or what stands for a value that is none: a picture, say."""


class Held(Generic[Value]):
    """The rows of a run that are there: `add` each, then ask what is lacking, as often as one likes.

    since: the step after which an attempt goes on. Up to it only names are kept, from it on values, too.
    differs: the first step of which this attempt has another value than what is there.
    """

    def __init__(self, since: int) -> None:
        self.since = since
        self.differs: int | None = None
        self.names: dict[int, tuple[str, ...]] = {}
        self.values: dict[int, dict[str, list[Value]]] = {}
        self.unclaimed: dict[int, tuple[str, ...]] | None = None
        self.shared: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, step: int, values: Mapping[str, Value]) -> None:
        """A row is there."""
        if step <= self.since:
            names = self.names.get(step, ()) + tuple(values)
            self.names[step] = self.shared.setdefault(names, names)
        if step >= self.since:
            known = self.values.setdefault(step, {})
            for name, value in values.items():
                known.setdefault(name, []).append(value)

    def lost(self, step: int, values: Mapping[str, Value]) -> dict[str, Value]:
        """What is not there of a point that the run logged up to `since`. It is sent now, so it is there."""
        if self.unclaimed is None:
            self.unclaimed = dict(self.names)
        there = list(self.unclaimed.get(step, ()))
        lacking = {name: value for name, value in values.items() if not taken(there, name)}
        self.unclaimed[step] = tuple(there)
        self.add(step, lacking)
        return lacking

    def fresh(self, step: int, values: Mapping[str, Value]) -> dict[str, Value]:
        """What is not there of a point that the attempt logs. It is sent now, and not asked for again.

        At `since` itself only an equal value is the same one: the turn was logged before, but what follows
        a loop is logged at its last step, too.
        """
        if step < self.since:
            there = list(self.names.get(step, ()))
            lacking = {name: value for name, value in values.items() if not taken(there, name)}
            self.names[step] = tuple(there)
            return lacking
        known = self.values.get(step, {})
        return {
            name: value
            for name, value in values.items()
            if not self.recomputed(step, value, known.get(name, []))
        }

    def recomputed(self, step: int, value: Value, there: list[Value]) -> bool:
        """Whether a value is one of those that are there, which it is taken off."""
        for at, other in enumerate(there):
            if same(value, other):
                del there[at]
                return True
        if not there or step == self.since:
            return False
        del there[0]
        self.differs = step if self.differs is None else min(step, self.differs)
        return True


def taken(names: list[str], name: str) -> bool:
    """Whether a name is among others, of which it is taken off once."""
    if name not in names:
        return False
    names.remove(name)
    return True


def same(one: object, other: object) -> bool:
    """Equality, for which nan is nan."""
    return one == other or (one != one and other != other)
