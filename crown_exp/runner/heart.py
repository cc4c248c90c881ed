"""What an attempt does every 15 seconds: show that it lives, and see whether another has taken over."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread

from crown_exp.errors import StoreError
from crown_exp.folder import AttemptRecord, RunPaths
from crown_exp.outcome import ExitCode
from crown_exp.runner.spending import Spending
from crown_exp.runner.stopping import StopRequest
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.runs import is_superseded
from crown_exp.tracking import Point
from crown_exp.tracking.run_log import BEAT_SECONDS, to_stderr

SEGMENT_BYTES = 2**20
"""At which size a segment is closed that is sent as a whole at every beat."""


class Heart:
    """A sink, so that the log's thread tells it the time; it beats in a thread of its own.

    So neither the loop nor the log waits for a store. spooled: the folder of the run's segments, where the
    store has no files of this machine: they are sent to it. gone: attempts before this one that are certainly
    over. spending: of an attempt that is paid for. A store that is away costs a line, not the run.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        attempt: AttemptRecord,
        stop: StopRequest,
        *,
        spooled: Path | None,
        gone: Collection[int] = (),
        seconds: float = BEAT_SECONDS,
        warn: Callable[[str], None] = to_stderr,
    ) -> None:
        self.portal, self.blobs, self.attempt, self.stop = portal, blobs, attempt, stop
        self.spooled, self.gone, self.seconds, self.warn = spooled, gone, seconds, warn
        self.paths = RunPaths(attempt.run)
        self.last, self.failing = time.monotonic(), False
        self.spending: Spending | None = None
        self.sending = Lock()
        self.beating: Thread | None = None

    def take(self, points: Sequence[Point]) -> None:
        """Beat if it is time, and the beat before is over."""
        if time.monotonic() - self.last < self.seconds or (
            self.beating and self.beating.is_alive()
        ):
            return
        self.last = time.monotonic()
        self.beating = Thread(target=self.try_to_beat, name="crown-heart", daemon=True)
        self.beating.start()

    def try_to_beat(self) -> None:
        """Beat; a failure is said once."""
        try:
            self.beat()
            self.failing = False
        except (StoreError, OSError) as error:
            if not self.failing:
                self.warn(f"{error}; training goes on, and it is tried again")
            self.failing = True

    def beat(self) -> None:
        """Send what is logged; ask the run to end if a later attempt has begun, and write what it costs."""
        run, number = self.attempt.run, self.attempt.attempt
        self.send()
        if self.portal.call(is_superseded, self.blobs, run, number):
            self.stop.ask(ExitCode.SUPERSEDED, superseded(self.attempt))
        if self.spending is not None:
            self.spending.beat()

    def send(self, closing: bool = False) -> None:
        """The segments as they are, to a store that does not hold them already; older ones first.

        Those that nobody appends to any more are gone from this machine then; closing: our last one, too.
        Raises StoreError, also if what was logged is not on this machine any more.
        """
        if self.spooled is None:
            return
        with self.sending:
            self.send_left(self.spooled)
            own = sorted(self.spooled.glob(f"{self.attempt.attempt:06}-*.seg"))
            if not own:
                raise StoreError(f"the log in {self.spooled} is gone")
            for path in own:
                self.put(path)
                if closing or path != own[-1]:
                    if self.is_longer(
                        path
                    ):  # an earlier try of a put came late, and took its place
                        self.put(path)
                    path.unlink()
            if closing:
                remove_empty(self.spooled)

    def send_left(self, folder: Path) -> None:
        """What attempts before this one did not send any more; never anything of later ones."""
        for path in sorted(folder.glob("*.seg")):
            place = self.paths.segment_number(self.place(path))
            if place is None or place[0] >= self.attempt.attempt:
                continue
            if self.is_longer(path):
                self.put(path)
            if place[0] in self.gone:  # one that lives appends to it
                path.unlink()

    def put(self, path: Path) -> None:
        """A segment as it is."""
        self.portal.call(self.blobs.put, self.place(path), path.read_bytes())

    def is_longer(self, path: Path) -> bool:
        """Whether the store has less of a segment."""
        try:
            held = self.portal.call(self.blobs.stat, self.place(path)).size
        except NotFound:
            held = 0
        return path.stat().st_size > held

    def place(self, path: Path) -> str:
        """Where a segment lies in the store."""
        return f"{self.paths.log}{path.name}"

    def close(self) -> None:
        """Wait for the beat that is under way."""
        if self.beating is not None:
            self.beating.join()


def superseded(attempt: AttemptRecord) -> str:
    """Why an attempt ends that another has taken over from."""
    return f"attempt {attempt.attempt + 1} has taken over this run"


def remove_empty(folder: Path) -> None:
    """Remove the folder of a run's log, and that of the run, if nothing lies there any more."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
