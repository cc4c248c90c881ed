"""The run's own log: `put` costs the loop microseconds, a thread writes fsynced frames behind it.

The open segment is the truth of what was logged; other sinks are fed after it. A segment that cannot be
written (a full disk) is said once and does not stop the run.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crown_exp.folder.segment import encode_batch, encode_header
from crown_exp.tracking.base import Point, Sink

DRAIN_SECONDS = 0.25
BEAT_SECONDS = 15.0
QUEUE_LIMIT = 200_000


class SegmentFile:
    """One open segment: frames are appended and fsynced. `beat` frames keep an idle run's log fresh."""

    def __init__(self, path: Path, header: bytes, warn: Callable[[str], None]) -> None:
        self.path, self.warn = path, warn
        self.file: Any = None
        self.written = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("xb")
            self.append(header)
        except OSError as error:
            self.give_up(error)

    def append(self, frame: bytes) -> None:
        """Write and fsync; an error ends the segment, not the run."""
        if self.file is None:
            return
        try:
            self.file.write(frame)
            self.file.flush()
            os.fsync(self.file.fileno())
            self.written = time.monotonic()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Say once that the log ends here."""
        self.warn(
            f"the log {self.path} cannot be written ({error.strerror}); training goes on without it"
        )
        self.close()

    def close(self) -> None:
        """Close the file, if it is open."""
        if self.file is not None:
            file, self.file = self.file, None
            try:
                file.close()
            except OSError:
                pass  # said already, or nothing was left to write


class RunLog:
    """A bounded queue and the thread that drains it into the segment and the sinks."""

    def __init__(
        self,
        path: Path,
        run: str,
        attempt: int,
        sinks: Sequence[Sink],
        warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr),  # noqa: T201
    ) -> None:
        self.queue: deque[tuple[int, float, Mapping[str, Any]]] = deque(maxlen=QUEUE_LIMIT)
        self.events: deque[list[Any]] = deque()
        self.sinks, self.warn = list(sinks), warn
        self.segment = SegmentFile(path, encode_header(run, attempt, 1), warn)
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.work, name="crown-log", daemon=True)
        self.thread.start()

    def put(self, step: int, values: Mapping[str, Any]) -> None:
        """Queue the values of one turn: floats, ints, bools or detached tensors of one element."""
        self.queue.append((step, time.time(), values))

    def event(self, kind: str, **data: Any) -> None:
        """Queue something that happened, to be kept beside the points."""
        self.events.append(["e", time.time(), kind, data])

    def work(self) -> None:
        """The thread: drain four times a second until closed."""
        while not self.stop.wait(DRAIN_SECONDS):
            self.drain()

    def drain(self) -> None:
        """Everything queued so far goes into the segment, then to the sinks."""
        with self.lock:
            points = [
                Point(step, when, {name: float(value) for name, value in values.items()})
                for step, when, values in self.take()
            ]
            batch = [["m", *point] for point in points]
            while self.events:
                batch.append(self.events.popleft())
            if batch or time.monotonic() - self.segment.written > BEAT_SECONDS:
                self.segment.append(encode_batch(batch or [["e", time.time(), "beat", {}]]))
            for sink in list(self.sinks):
                self.feed(sink, points)

    def take(self) -> list[tuple[int, float, Mapping[str, Any]]]:
        """What is in the queue now, removed from it."""
        return [self.queue.popleft() for _ in range(len(self.queue))]

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
            sink.close()
