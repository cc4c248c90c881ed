"""A tracker and the thread that feeds it: what is slow or fails there is felt by nobody else."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from crown_exp.tracking.base import Artifact, Point, TrackedRun, Tracker
from crown_exp.tracking.run_log import to_stderr

FINISH_SECONDS = 10.0
WAITING_LIMIT = 200_000
"""Points that wait for a slow tracker; one that is further behind is left out."""
AT_ONCE = 10_000
TELL_SECONDS = 1.0


class Feed:
    """A sink of the run's log that hands on to a tracker, in order, on a thread of its own.

    A tracker that fails, falls too far behind, or is not done at the end in `finish_seconds` is told of
    in one line and left out; the run's own log has it all.
    """

    def __init__(
        self,
        make: Callable[[], Tracker],
        name: str,
        run: TrackedRun,
        *,
        say: Callable[[str], None] = to_stderr,
        finish_seconds: float = FINISH_SECONDS,
        limit: int = WAITING_LIMIT,
    ) -> None:
        self.make, self.name, self.run, self.say = make, name, run, say
        self.finish_seconds, self.limit = finish_seconds, limit
        self.again = ""  # the tracker's own attribute of this name
        self.waiting: deque[Point | Artifact] = deque()
        self.changed = threading.Condition()
        self.end: tuple[int, Any] | None = None
        self.out = False
        self.thread = threading.Thread(target=self.work, name=f"crown-{name}", daemon=True)
        self.thread.start()

    # --- the run's side -------------------------------------------------------------------------------

    def take(self, points: Sequence[Point]) -> None:
        """Queue points; never waits."""
        self.queue(points)

    def artifact(self, artifact: Artifact) -> None:
        """Queue a file; never waits."""
        self.queue([artifact])

    def queue(self, items: Sequence[Point | Artifact]) -> None:
        """Queue what the tracker is still to be given, unless it is left out."""
        if not items or self.out:
            return
        with self.changed:
            self.waiting.extend(items)
            self.changed.notify()
        if len(self.waiting) > self.limit:
            self.leave_out(f"is {len(self.waiting):,} points behind")

    def finish(
        self, exit_code: int, result: Any, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until the tracker has taken all and finished, `finish_seconds` at the most.

        given_up: asked meanwhile; true ends the wait. After a second the user is told what is waited for.
        """
        with self.changed:
            self.end = exit_code, result
            self.changed.notify()
        began, told = time.monotonic(), False
        while self.thread.is_alive():
            waited = time.monotonic() - began
            if given_up():
                self.leave_out("was not waited for")
            elif waited >= self.finish_seconds:
                self.leave_out(f"was not done {self.finish_seconds:g} s after the end")
            if self.out:
                return
            if waited >= TELL_SECONDS and not told:
                self.say(
                    f"waiting for {self.name}, {self.finish_seconds:g} s at most; Ctrl-C leaves it"
                )
                told = True
            self.thread.join(min(0.1, self.finish_seconds))

    def close(self) -> None:
        """Nothing more is logged; `finish` says how it ended."""

    # --- the tracker's side ---------------------------------------------------------------------------

    def work(self) -> None:
        """The thread: start the tracker, hand on what comes, finish it."""
        try:
            tracker = self.make()
            self.again = getattr(tracker, "again", "")
            if line := tracker.start(self.run):
                self.say(line)
            while not self.out and (items := self.next_items()):
                self.hand_on(tracker, items)
            if self.end and not self.out:
                tracker.finish(*self.end)
        except BaseException as error:  # SystemExit, too, is no more than this thread's
            from crown_exp.tracking.apart import in_a_line

            self.leave_out(f"failed: {in_a_line(error)}")

    def next_items(self) -> list[Point | Artifact]:
        """What waits, some of it; nothing once the run has ended and all was handed on."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.end or self.out)
            return [self.waiting.popleft() for _ in range(min(AT_ONCE, len(self.waiting)))]

    def hand_on(self, tracker: Tracker, items: Sequence[Point | Artifact]) -> None:
        """Points in as few calls as the order of files among them allows."""
        points: list[Point] = []
        for item in items:
            if isinstance(item, Point):
                points.append(item)
                continue
            self.log(tracker, points)
            tracker.artifact(item)
            points = []
        self.log(tracker, points)

    def log(self, tracker: Tracker, points: Sequence[Point]) -> None:
        """Points, if there are any, and what the tracker has to say of them."""
        line = tracker.log(points) if points else None
        if line and isinstance(line, str):
            self.say(f"{self.name}: {line}")

    def leave_out(self, why: str) -> None:
        """Tell once why the tracker gets nothing more."""
        with self.changed:
            if self.out:
                return
            self.out = True
            self.waiting.clear()
            self.changed.notify()
        later = f"; to send it later: {self.again} {self.run.id}" if self.again else ""
        self.say(f"{self.name} {why}; it is left out, and the run's own log has it all{later}")
