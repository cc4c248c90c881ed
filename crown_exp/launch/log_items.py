"""What the files of a run's log hold, as items of one kind: points, events, begins, ends, lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from crown_exp.clock import isoformat
from crown_exp.folder import AttemptRecord, EndRecord

BEGAN, ENDED, POINT, TEXT = "began", "ended", "point", "text"
HIDDEN = ("beat", "memory")
"""Events that say nothing of what a run did: that it lives, and what memory it took (`show` tells that)."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that a run logged or that happened to it.

    kind: `point`, `began`, `ended`, `text`, or that of an event. time: seconds since 1970, UTC; None for
    text. step: of a point or an end. data: the values of a point by name, the fields of a record, {"line": …}.
    """

    attempt: int
    kind: str
    data: Mapping[str, Any]
    time: float | None = None
    step: int | None = None


Pick = Callable[[Item], Item | None]
"""An item as it is wanted; None if it is not."""


def everything(item: Item) -> Item | None:
    """Pick all."""
    return item


def of_record(record: AttemptRecord | EndRecord) -> Item:
    """How an attempt began or ended."""
    if isinstance(record, AttemptRecord):
        data = {
            "host": record.host, "pid": record.pid, "job": record.job,
            "numerics": record.numerics, "versions": record.versions,
        }  # fmt: skip
        return Item(record.attempt, BEGAN, data, record.started.timestamp())
    data = {"exit_code": record.exit_code, "reason": record.reason, "error": record.error}
    return Item(record.attempt, ENDED, data, record.ended.timestamp(), record.step)


def of_log(attempt: int, record: Sequence[Any]) -> Item | None:
    """A record of a segment; None if it is of a kind that is not shown. Raises if it is no record."""
    if record[0] == "m":
        _, step, time, values = record
        numbers = {name: number(value) for name, value in values.items()}
        return Item(attempt, POINT, numbers, number(time), int(number(step)))
    if record[0] != "e" or record[2] in HIDDEN:
        return None
    _, time, kind, data = record
    return Item(attempt, str(kind), dict(data), number(time))


def number(value: Any) -> float:
    """A number as a float. Raises TypeError for anything else, `true` and "1" too."""
    if type(value) not in (int, float):
        raise TypeError("no number")
    return float(value)


def of_text(attempt: int, path: str, line: bytes) -> Item:
    """A line of what a rank printed; path: of the file that has it."""
    rank = path.rpartition("-rank")[2].partition(".")[0]
    text = line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]  # a bar's last state
    return Item(attempt, TEXT, {"rank": int(rank) if rank.isdecimal() else 0, "line": text})


def only(metrics: Sequence[str], seen: set[str]) -> Pick:
    """Picks points of these metrics, without others. `seen` is given the name of every metric there is."""
    if not metrics:
        return everything

    def pick(item: Item) -> Item | None:
        if item.kind != POINT:
            return None
        seen.update(item.data)
        values = {name: item.data[name] for name in metrics if name in item.data}
        return replace(item, data=values) if values else None

    return pick


def to_json(item: Item) -> dict[str, Any]:
    """An item for machines: its time as text, None if no calendar has it."""
    found: dict[str, Any] = {"kind": item.kind, "attempt": item.attempt}
    if item.time is not None:
        found["time"] = moment(item.time)
    if item.step is not None:
        found["step"] = item.step
    return found | {"values" if item.kind == POINT else "data": dict(item.data)}


def moment(seconds: float) -> str | None:
    """Seconds since 1970 as the records write times; None for what is no time of a calendar."""
    try:
        return isoformat(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None
