"""The run's own log: `put` costs the loop microseconds, a thread writes fsynced frames behind it.

The open segment is the truth of what was logged; other sinks are fed after it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from crown_exp.folder import RunPaths, segment
from crown_exp.tracking.base import Point, Sink
from crown_exp.tracking.segment_file import SegmentFile

DRAIN_SECONDS = 0.25
BEAT_SECONDS = 15.0
QUEUE_LIMIT = 100_000
FRAME_RECORDS = 2_000
"""Records in one frame: encoding many at once would hold up the loop."""


def to_stderr(text: str) -> None:
    """A line for the user, if anybody still reads."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")


class RunLog:
    """A bounded queue and the thread that drains it, four times a second, into the segment and the sinks.

    A frame is written at least every `beat_seconds`, which shows that the run lives. segment_bytes: a segment
    of this size is closed, and the next one begun; None: there is one.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        attempt: int,
        sinks: Sequence[Sink] = (),
        *,
        warn: Callable[[str], None] = to_stderr,
        drain_seconds: float = DRAIN_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
        segment_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue: deque[Any] = deque()  # step, time, values, step, … : see `put`
        self.events: deque[segment.Record] = deque()
        self.sinks, self.warn, self.clock = list(sinks), warn, clock
        self.beat_seconds, self.drain_seconds = beat_seconds, drain_seconds
        self.path, self.run, self.attempt, self.segment_bytes = path, run, attempt, segment_bytes
        self.segments = 0
        self.segment = self.next_segment()
        self.written_at = clock()
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.thread = threading.Thread(target=self.work, name="crown-log", daemon=True)
        self.thread.start()

    def put(self, step: int, values: Mapping[str, Any]) -> None:
        """Queue the values of one turn: floats, or detached real tensors of one element.

        No tuple is kept for them: Python's collector would look at every one, and then at all there is.
        """
        self.queue.extend((step, time.time(), values))
        if len(self.queue) > 3 * QUEUE_LIMIT:  # faster than the disk: wait rather than lose points
            self.drain()

    def event(self, kind: str, **data: Any) -> None:
        """Queue something that happened, to be kept beside the points."""
        self.events.append(segment.event(time.time(), kind, data))

    def work(self) -> None:
        """The thread: drain until closed."""
        while not self.stop.wait(self.drain_seconds):
            self.drain()

    def drain(self) -> None:
        """Everything queued so far goes into the segment, then to the sinks, a frame at a time."""
        with self.lock:
            waiting = len(self.queue) // 3
            while waiting > FRAME_RECORDS:
                self.pass_on(FRAME_RECORDS, [])
                waiting -= FRAME_RECORDS
            self.pass_on(waiting, taken(self.events, len(self.events)))

    def pass_on(self, count: int, events: list[segment.Record]) -> None:
        """The oldest `count` points that are queued, and events, into the segment; the points to the sinks."""
        records = self.read(self.queued(count))
        points = [Point(step, when, values) for _, step, when, values in records]
        self.keep(records + events)
        for sink in list(self.sinks):
            self.feed(sink, points)

    def queued(self, count: int) -> list[segment.Record]:
        """The oldest of what was queued, `count` of it, as records."""
        flat = iter(taken(self.queue, 3 * count))
        return list(zip(repeat("m"), flat, flat, flat))

    def read(self, queued: list[segment.Record]) -> list[segment.Record]:
        """The records that were queued, with floats; here the device is waited for, and may fail."""
        values = chain.from_iterable(values.values() for _, _, _, values in queued)
        if set(map(type, values)) <= {float}:  # most often: no record is made again
            return queued
        records = []
        for _, step, when, logged in queued:
            try:
                floats = {name: float(value) for name, value in logged.items()}
            except Exception as error:
                self.warn(
                    f"what was logged in turn {step} is lost: {type(error).__name__}: {error}"
                )
            else:
                records.append(segment.point(step, when, floats))
        return records

    def keep(self, records: list[segment.Record]) -> None:
        """Records into the segment; a sign of life if there are none for long."""
        if not records:
            if self.clock() - self.written_at < self.beat_seconds:
                return
            records = [segment.event(time.time(), "beat", {})]
        for start in range(0, len(records), FRAME_RECORDS):
            self.segment.append(segment.encode_batch(records[start : start + FRAME_RECORDS]))
            if self.segment_bytes and self.segment.good >= self.segment_bytes:
                self.segment.close()
                self.segment = self.next_segment()
        self.written_at = self.clock()

    def next_segment(self) -> SegmentFile:
        """The next file to append to, begun."""
        self.segments += 1
        name = RunPaths(self.run).segment(self.attempt, self.segments).rpartition("/")[2]
        path = self.path if self.segments == 1 else self.path.with_name(name)
        return SegmentFile(
            path, segment.encode_header(self.run, self.attempt, self.segments), self.warn
        )

    def feed(self, sink: Sink, points: Sequence[Point]) -> None:
        """Hand points to a sink; one that fails is said once and left out from then on."""
        try:
            sink.take(points)
        except Exception as error:
            self.sinks.remove(sink)
            self.warn(f"{type(sink).__name__} failed and is left out from now on: {error}")

    def close(self) -> None:
        """Drain what is left and close the segment and the sinks."""
        self.stop.set()
        self.thread.join()
        self.drain()
        self.segment.close()
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:
                self.warn(f"{type(sink).__name__} failed at its end: {error}")


def taken(queue: deque[Any], count: int) -> list[Any]:
    """The first `count` that are in a queue, removed from it."""
    return [queue.popleft() for _ in range(count)]
