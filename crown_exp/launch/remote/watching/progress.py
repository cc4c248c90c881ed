"""What is read of a run while it is elsewhere: its records, and the end of its log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import yaml

from crown_exp.folder import Facts, RunPaths, segment
from crown_exp.folder.segment import encode_header, frames
from crown_exp.launch.remote.planning.rest import total_of
from crown_exp.storage import BlobStore, NotFound
from crown_exp.storage.base import Entry, WrongSize
from crown_exp.storage.runs import read_facts

PIECE = 8 << 20
"""Bytes of a log that are read at once."""
DECODED = 8
"""Frames at the end of a piece that are decoded: what is shown is the newest."""

Mark = frozenset[Entry]


@dataclass
class Progress:
    """A run as it was at the last look.

    step: the last that was logged, or done. values: the newest of each metric. total: the step at which it
    ends, None if that is not known.
    """

    run: str
    facts: Facts | None = None
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)
    total: int | None = None
    _mark: Mark = frozenset()
    _read: dict[str, int] = field(default_factory=dict)
    _began: tuple[int, float] | None = None
    _last: tuple[int, float] | None = None
    _attempt: int = 0

    @property
    def is_paid(self) -> bool:
        """Whether it costs something, as far as its records tell."""
        return self.facts is not None and any(it.place is not None for it in self.facts.attempts)

    @property
    def metric(self) -> tuple[str, float] | None:
        """The one that is shown: a loss if there is one, else what was logged first."""
        losses = [name for name in self.values if "loss" in name.lower()]
        name = "loss" if "loss" in losses else min(losses, key=len, default="")
        name = name or next(iter(self.values), "")
        return (name, self.values[name]) if name else None

    @property
    def seconds_left(self) -> float | None:
        """How long it takes at the pace of this attempt; None if that cannot be told."""
        if self.total is None or self._began is None or self._last is None:
            return None
        steps, seconds = self._last[0] - self._began[0], self._last[1] - self._began[1]
        if steps <= 0 or seconds <= 0:
            return None
        return max(0, self.total - self.step) * seconds / steps

    async def look(self, blobs: BlobStore, *, anew: bool = False) -> bool:
        """Read what is new; whether anything is. anew: the records too, whether or not they changed.

        Two listings where nothing is new. Raises ConfigError if the run was deleted, else as `read_facts`.
        """
        paths = RunPaths(self.run)
        records = await blobs.list(paths.attempts)
        newest = max((paths.attempt_number(it.path) or 0 for it in records), default=0)
        logged = await blobs.list(paths.log_of(newest)) if newest else []
        mark = frozenset([*records, *logged])
        if self.facts is not None and mark == self._mark and not anew:
            return False
        if self.facts is None:
            self.total = await _total(blobs, paths)
        known = {it.path for it in self._mark}
        if self.facts is None or anew or not known.issuperset(it.path for it in records):
            self.facts = await read_facts(blobs, self.run)
        else:
            self.facts = replace(self.facts, last_beat=_last_beat(paths, newest, mark))
        await self._read_log(blobs, newest, logged)
        self._take_records()
        self._mark = mark
        return True

    def _take_records(self) -> None:
        """What the records say of steps, where the log does not."""
        assert self.facts is not None
        done = [end.step for end in self.facts.ends if end.attempt >= self._attempt]
        if self.facts.result is not None:
            done.append(self.facts.result.step)
        self.step = max([self.step, *done])

    async def _read_log(self, blobs: BlobStore, attempt: int, logged: Iterable[Entry]) -> None:
        if attempt != self._attempt:  # it may have begun before what the last one did
            self._attempt, self._began, self._last, self._read = attempt, None, None, {}
        for entry in sorted(logged, key=lambda it: it.path):
            try:
                await self._read_segment(blobs, entry, attempt)
            except (NotFound, WrongSize):
                continue  # it is being replaced: the next look has it

    async def _read_segment(self, blobs: BlobStore, entry: Entry, attempt: int) -> None:
        place = RunPaths(self.run).segment_number(entry.path)
        if place is None:
            return
        at, wanted = self._read.get(entry.path) or len(encode_header(self.run, *place)), PIECE
        while at < entry.size:
            data = bytearray(min(wanted, entry.size - at))
            await blobs.get_into(entry.path, memoryview(data), start=at)
            found = list(frames(io.BytesIO(data), 0, len(data)))
            if not found and at + len(data) >= entry.size:
                break  # what is not whole yet
            if not found:
                wanted *= 4
                continue
            self._take([payload for _, payload in found])
            at, wanted = at + found[-1][0], PIECE
        self._read[entry.path] = at

    def _take(self, payloads: list[bytes]) -> None:
        """The newest points of these frames, and the first if none was seen before."""
        first = [] if self._began else payloads[: max(0, len(payloads) - DECODED)][:1]
        for step, when, values in points([*first, *payloads[-DECODED:]]):
            self._began = self._began or (step, when)
            self._last = step, when
            self.step = step
            self.values.update(values)


def points(payloads: Iterable[bytes]) -> Iterator[tuple[int, float, Mapping[str, float]]]:
    """(step, time, values) of the points in frames; what is none is passed over."""
    for payload in payloads:
        try:
            records: list[segment.Record] = list(json.loads(payload))
        except (TypeError, ValueError, RecursionError):
            continue
        for record in records:
            if not (isinstance(record, list) and len(record) == 4 and record[0] == "m"):
                continue
            _, step, when, values = record
            numbers = isinstance(step, int) and isinstance(when, int | float)
            if numbers and isinstance(values, dict):
                shown = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
                yield step, float(when), shown


def _last_beat(paths: RunPaths, attempt: int, mark: Mark) -> datetime | None:
    fence = paths.attempt(attempt) if attempt else ""
    written = [it.modified for it in mark if it.path == fence or it.path.startswith(paths.log)]
    return max(written, default=None)


async def _total(blobs: BlobStore, paths: RunPaths) -> int | None:
    """The step at which a run ends, by its config; None if that does not tell."""
    try:
        config: Any = yaml.load(await blobs.get(paths.config), Loader=yaml.CSafeLoader)
    except (NotFound, yaml.YAMLError, UnicodeDecodeError):
        return None
    return total_of(config)
