"""What a run logged, read from its folder in the order in which it happened, also while it goes on.

Nothing is held that was read: a log may have millions of points.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import IO, Any

from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Facts,
    RunPaths,
    SegmentHeader,
    decode,
    decode_segment,
    holder,
    state,
)
from crown_exp.folder.segment import FRAME_HEAD, encode_header, frames
from crown_exp.launch.log_items import Item, Pick, everything, of_log, of_record, of_text
from crown_exp.outcome import State
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.machine import here
from crown_exp.storage.runs import read_facts

_LINE = 64 << 10
"""Longer lines of text are cut into such pieces, in bytes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a run's folder that holds some of its log. order: by attempt, then as things happen."""

    attempt: int
    order: int
    path: str
    size: int


@dataclass
class LogReader:
    """Reads a run's log from its folder: what is new at each call of `new`.

    over: attempts of which nothing more can come. problems: what could not be read, each in a line.
    """

    portal: Portal
    blobs: BlobStore
    run_id: str
    over: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    _done: dict[str, int] = field(default_factory=dict)
    _started: dict[int, float | None] = field(default_factory=dict)

    @property
    def paths(self) -> RunPaths:
        """Where the run's files are."""
        return RunPaths(self.run_id)

    # --- what there is --------------------------------------------------------------------------------

    def parts(self) -> list[Part]:
        """The files of the log, in order. The ends are looked for first: what they end is written by then."""
        attempts = self._list(self.paths.attempts)
        found = [*attempts, *self._list(self.paths.log), *self._list(self.paths.text)]
        parts = [part for entry in found if (part := self._part(entry.path, entry.size))]
        newest = max((part.attempt for part in parts), default=0)
        ended = {part.attempt for part in parts if self.paths.end_number(part.path)}
        self.over = ended | {part.attempt for part in parts if part.attempt < newest}
        return sorted(parts, key=lambda part: (part.attempt, part.order, part.path))

    def _list(self, prefix: str) -> Any:
        return self.portal.call(self.blobs.list, prefix)

    def _part(self, path: str, size: int) -> Part | None:
        paths = self.paths
        if number := paths.attempt_number(path):
            return Part(number, 0, path, size)
        if place := paths.segment_number(path):
            return Part(place[0], 1, path, size)
        if path.startswith(paths.text):
            attempt = path.removeprefix(paths.text).partition("-")[0]
            return Part(int(attempt), 2, path, size) if attempt.isdecimal() else None
        number = paths.end_number(path)
        return Part(number, 3, path, size) if number else None

    def ending(self) -> State | None:
        """How the run has ended; None while it goes on, or waits, or its executor will start it again."""
        facts: Facts = self.portal.call(read_facts, self.blobs, self.run_id)
        now = self.portal.call(self.blobs.now)
        found = state(facts, now)
        newest = facts.newest_attempt
        if newest is None or found is State.QUEUED:
            return found if found is State.STOPPED else None
        if holder(facts, now, here()) is not None:
            return None
        if found is State.RUNNING:  # heard of a moment ago, and dead since
            found = State.LOST
        goes_on = found in (State.LOST, State.PREEMPTED) and newest.job is not None
        return None if goes_on else found

    def started(self, attempt: int) -> float | None:
        """When an attempt began, in seconds since 1970; None if its record cannot be read."""
        if attempt not in self._started:
            path = self.paths.attempt(attempt)
            try:
                record = decode(AttemptRecord, self.portal.call(self.blobs.get, path), path)
                self._started[attempt] = record.started.timestamp()
            except CrownError:
                self._started[attempt] = None
        return self._started[attempt]

    # --- forwards -------------------------------------------------------------------------------------

    def new(self, pick: Pick = everything) -> Iterator[Item]:
        """What was logged since the last call, in order."""
        for part in self.parts():
            yield from filter(None, map(pick, self._new_of(part)))

    def _new_of(self, part: Part) -> Iterator[Item]:
        done = self._done.get(part.path, 0)
        if done >= part.size:
            return
        with self._opened(part.path) as file:
            if part.order in (0, 3):
                yield from self._record(part, file)
            elif part.order == 2:
                yield from self._lines(part, file, done)
            else:
                yield from self._records(part, file, done)

    def _record(self, part: Part, file: IO[bytes]) -> Iterator[Item]:
        """When an attempt began, or how it ended."""
        self._done[part.path] = part.size
        cls: Any = AttemptRecord if part.order == 0 else EndRecord
        try:
            record = decode(cls, file.read(), part.path)
        except CrownError as error:
            self._problem(str(error))
        else:
            yield of_record(record)

    def _records(self, part: Part, file: IO[bytes], done: int) -> Iterator[Item]:
        at = done or self._first(part, file)
        if at is None:
            return
        file.seek(at)
        for end, payload in frames(file, at, part.size):
            yield from self._items(part, payload)
            self._done[part.path] = at = end
        self._check_end(part, at)

    def _first(self, part: Part, file: IO[bytes]) -> int | None:
        """Where the first batch is; None if there is none yet, or the file is no segment of this run."""
        place = self.paths.segment_number(part.path)
        assert place is not None
        header = encode_header(self.run_id, *place)
        try:
            found = decode_segment(file.read(len(header)), part.path)
            if found.header not in (None, SegmentHeader(self.run_id, *place)):
                raise CrownError(f"{part.path}: is a log segment of something else")
        except CrownError as error:
            self._problem(f"{error}; it is passed over")
            self._done[part.path] = part.size
            return None
        if found.header is None:
            self._check_end(part, 0)
            return None
        return len(header)

    def _items(self, part: Part, payload: bytes) -> Iterator[Item]:
        """The records of a frame; those that are none are told once."""
        try:
            records = list(json.loads(payload))
        except (TypeError, ValueError, RecursionError) as error:
            self._problem(f"{part.path}: damaged by its writer ({error}); the rest is shown")
            return
        for record in records:
            try:
                item = of_log(part.attempt, record)
            except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
                what = "holds records that are no points or events; they are passed over"
                self._problem(f"{part.path}: {what}")
            else:
                if item is not None:
                    yield item

    def _lines(self, part: Part, file: IO[bytes], done: int) -> Iterator[Item]:
        """Whole lines of text; the last one also without its end if no more comes."""
        file.seek(done)
        for line in iter(lambda: file.readline(_LINE), b""):
            whole = line.endswith(b"\n") or len(line) == _LINE or part.attempt in self.over
            if not whole:
                return
            self._done[part.path] = self._done.get(part.path, 0) + len(line)
            yield of_text(part.attempt, part.path, line)

    def _check_end(self, part: Part, at: int) -> None:
        if at < part.size and part.attempt in self.over:  # else a frame that is being written
            what = f"what comes after {at:,} bytes is torn or damaged"
            self._problem(f"{part.path}: {what}; it is passed over")

    # --- backwards ------------------------------------------------------------------------------------

    def last(self, n: int, pick: Pick = everything) -> list[Item]:
        """The last `n` items, in order; `new` goes on after them. Of a segment only these are decoded."""
        found: deque[Item] = deque()
        for part in reversed(self.parts()):
            wanted = filter(None, map(pick, self._backwards(part, n)))
            found.extendleft(islice(wanted, n - len(found)))
            if part.path not in self._done:
                self._skip(part)
        return list(found)

    def _backwards(self, part: Part, n: int) -> Iterator[Item]:
        if part.order != 1:
            yield from reversed(deque(self._new_of(part), n))
            return
        with self._opened(part.path) as file:
            bounds = self._bounds(part, file)
            for start, end in reversed(bounds):
                file.seek(start + FRAME_HEAD)
                payload = file.read(end - start - FRAME_HEAD)
                yield from reversed(list(self._items(part, payload)))

    def _bounds(self, part: Part, file: IO[bytes]) -> list[tuple[int, int]]:
        """Where each whole frame begins and ends; they are noted as read."""
        start = self._first(part, file)
        if start is None:
            return []
        ends = [end for end, _ in frames(file, start, part.size)]
        self._done[part.path] = ends[-1] if ends else start
        self._check_end(part, self._done[part.path])
        return list(zip([start, *ends], ends, strict=False))

    def _skip(self, part: Part) -> None:
        """Note a part as read, but for the frame that is being written."""
        if part.order == 1 and part.attempt not in self.over:
            with self._opened(part.path) as file:
                self._bounds(part, file)
        else:
            self._done[part.path] = part.size

    # --- files ----------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, path: str) -> Iterator[IO[bytes]]:
        """A blob to read from; empty if it was deleted meanwhile. Raises StoreError."""
        try:
            with self._open(path) as file:
                yield file
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error

    def _open(self, path: str) -> IO[bytes]:
        local = self.blobs.local_path(path)
        if local is not None:
            try:
                return local.open("rb")
            except OSError:
                pass  # the store can tell what is wrong
        try:
            return BytesIO(self.portal.call(self.blobs.get, path))
        except NotFound:
            return BytesIO()

    def _problem(self, line: str) -> None:
        if line not in self.problems:
            self.problems.append(line)
