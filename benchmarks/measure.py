"""Samples of several cases, taken in turns, and the figures made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One line of the table. samples: one a round, in `unit`; none of what is not installed here.

    target: what the median may be at most, or at least if `more_is_better`.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    target: float | None = None
    more_is_better: bool = False

    @property
    def median(self) -> float:
        """The figure."""
        return median(self.samples)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.more_is_better else self.median <= self.target

    def to_json(self) -> dict[str, Any]:
        """All there is to know, for `--json`."""
        return {
            "what": self.what,
            "unit": self.unit,
            "samples": list(self.samples),
        } | self.figures()

    def figures(self) -> dict[str, Any]:
        """What the samples come to."""
        if not self.samples:
            return {}
        return {
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "target": self.target,
            "met": self.met,
        }


def not_installed(what: str) -> Figure:
    """The line of a peer that is not here."""
    return Figure(what, "", ())


def interleave(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """A B A B …: the samples of each case, after one round that is not counted."""
    taken: dict[str, list[T]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, sample in cases.items():
            value = sample()
            if number:
                taken[name].append(value)
    return taken


def differences(left: Iterable[float], right: Iterable[float]) -> tuple[float, ...]:
    """left - right, round by round."""
    return tuple(a - b for a, b in zip(left, right, strict=True))


def ratios(left: Iterable[float], right: Iterable[float]) -> tuple[float, ...]:
    """left / right, round by round."""
    return tuple(a / b for a, b in zip(left, right, strict=True))
