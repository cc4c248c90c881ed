"""What an attempt does every 15 seconds: show that it lives, and see whether another has taken over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from crown_exp.errors import StoreError
from crown_exp.folder import AttemptRecord, RunPaths
from crown_exp.outcome import ExitCode
from crown_exp.runner.stopping import StopRequest
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.runs import is_superseded
from crown_exp.tracking import Point
from crown_exp.tracking.run_log import BEAT_SECONDS, to_stderr


class Heart:
    """A sink, for the sake of its thread.

    Where the store has no files of this machine, the open segment is sent to it. A store that is away costs
    a line, not the run.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        attempt: AttemptRecord,
        stop: StopRequest,
        *,
        spooled: Path | None,
        seconds: float = BEAT_SECONDS,
        warn: Callable[[str], None] = to_stderr,
    ) -> None:
        self.portal, self.blobs, self.attempt, self.stop = portal, blobs, attempt, stop
        self.spooled, self.seconds, self.warn = spooled, seconds, warn
        self.last, self.failing = time.monotonic(), False

    def take(self, points: Sequence[Point]) -> None:
        """Beat if it is time."""
        if time.monotonic() - self.last < self.seconds:
            return
        self.last = time.monotonic()
        try:
            self.beat()
            self.failing = False
        except (StoreError, OSError) as error:
            if not self.failing:
                self.warn(f"{error}; training goes on, and it is tried again")
            self.failing = True

    def beat(self) -> None:
        """Send what is logged; ask the run to end if a later attempt has begun."""
        run, number = self.attempt.run, self.attempt.attempt
        self.send()
        if self.portal.call(is_superseded, self.blobs, run, number):
            self.stop.ask(ExitCode.SUPERSEDED, superseded(self.attempt))

    def send(self) -> None:
        """The segment as it is, to a store that does not hold it already."""
        if self.spooled is not None:
            path = RunPaths(self.attempt.run).segment(self.attempt.attempt, 1)
            self.portal.call(self.blobs.put, path, self.spooled.read_bytes())

    def close(self) -> None:
        """Nothing is open."""


def superseded(attempt: AttemptRecord) -> str:
    """Why an attempt ends that another has taken over from."""
    return f"attempt {attempt.attempt + 1} has taken over this run"
