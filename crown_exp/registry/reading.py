"""Records of a log sorted out: points by name and step, events, from which step the attempt went on. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crown_exp.folder.segment import RESUMED as RESUMED
from crown_exp.folder.segment import Record
from crown_exp.storage.database.columns import tagged

BEAT = "beat"
"""The kind of an event that only shows that the run lives; it is not kept."""

_LARGEST = 2**63

Points = dict[int, tuple[float | None, float]]
"""Value (None for nan) and time by step."""


@dataclass(slots=True)
class Logged:
    """What records hold.

    points: by name of the metric; the last of several of one step. events: (number of the record, time,
    kind, data). resumed: the step of that event; first_step: the least step of a point. refused: records that
    are none, or hold what is no number.
    """

    points: dict[str, Points] = field(default_factory=dict)
    events: list[tuple[int, float, str, Any]] = field(default_factory=list)
    resumed: int | None = None
    first_step: int | None = None
    refused: int = 0


def read_records(records: Sequence[Record], first: int) -> Logged:
    """What the records, numbered from `first` on, hold. Kinds that are not known are passed over."""
    logged = Logged()
    for number, record in enumerate(records, first):
        try:
            if record[0] == "m":
                _take_point(logged, record)
            elif record[0] == "e":
                _take_event(logged, number, record)
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError):
            logged.refused += 1
    return logged


def _take_point(logged: Logged, record: Record) -> None:
    _, step, time, values = record
    if not isinstance(values, dict):
        raise TypeError("no values")
    step, time, points = _integer(step), _moment(time), logged.points
    numbers = {name: _number(value) for name, value in values.items()}
    if logged.first_step is None or step < logged.first_step:
        logged.first_step = step
    for name, value in numbers.items():
        found = points.get(name)
        if found is None:
            points[name] = found = {}
        found[step] = value, time


def _take_event(logged: Logged, number: int, record: Record) -> None:
    _, time, kind, data = record
    if kind == RESUMED:
        logged.resumed = _integer(data["step"])
    if kind != BEAT:
        logged.events.append((number, _moment(time), str(kind), tagged(data)))


def _integer(value: Any) -> int:
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise ValueError("no step")
    return value


def _number(value: Any) -> float | None:
    """None for nan. Raises TypeError or OverflowError for what a float cannot be."""
    if type(value) not in (float, int):
        raise TypeError("no number")
    value = float(value)
    return None if math.isnan(value) else value


def _moment(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise ValueError("no time")
    return float(value)
