"""Bytes on their way, shown at the foot of a terminal while somebody waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from crown_exp.config.letters import columns, cut
from crown_exp.config.units import size
from crown_exp.tracking.terminal import Foot

BAR = 20
PATIENCE_SECONDS = 1.0
"""What takes no longer is over before it could be read."""

REDRAW_SECONDS = 0.1


class Transfer:
    """Shows how far bytes have come, how fast and how long it takes yet; only within `shown`.

    on: whether there is a terminal. `moved` is told of every piece, by whatever thread.
    """

    def __init__(
        self, foot: Foot, *, on: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.foot, self.on, self.clock = foot, on, clock
        self.lock = threading.Lock()
        self.since: float | None = None
        self.what = ""
        self.first, self.began, self.drawn_at = 0, 0.0, 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, whoever called waits; at the end the line is gone."""
        with self.lock:
            self.since, self.what = self.clock(), ""
        try:
            yield
        finally:
            with self.lock, suppress(OSError, ValueError):
                self.since = None
                self.foot.make_way("")

    def moved(self, what: str, done: int, total: int) -> None:
        """So many bytes of so many: quick, and never raises."""
        if not self.on or self.since is None or not self.lock.acquire(blocking=False):
            return  # another thread is drawing: this piece will be in the next line
        try:
            self._note(what, done, total)
        except (OSError, ValueError):
            self.on = False  # nobody looks any more
        finally:
            self.lock.release()

    def _note(self, what: str, done: int, total: int) -> None:
        now = self.clock()
        if self.since is None:
            return
        if what != self.what:
            self.what, self.first, self.began = what, done, now
        if now - self.since < PATIENCE_SECONDS or now - self.drawn_at < REDRAW_SECONDS:
            return
        self.drawn_at = now
        rate = (done - self.first) / (now - self.began) if now > self.began else 0.0
        self.foot.draw(with_bar(told(what, done, total, rate), done, total, self.foot.width() - 1))


def told(what: str, done: int, total: int, rate: float) -> str:
    """`saving 312 MB of 1.2 GB  210 MB/s  ETA 0:04`. rate: bytes a second; 0 or less if it is not known."""
    parts = [f"{what} {size(done)} of {size(total)}"]
    if rate > 0:
        parts.append(f"{size(rate)}/s")
        if done < total:
            parts.append(f"ETA {duration((total - done) / rate)}")
    return "  ".join(parts)


def with_bar(text: str, done: int, total: int | None, width: int) -> str:
    """The text with a bar before it if there is room, cut to the width if there is none."""
    if total and columns(text) + BAR + 3 <= width:
        filled = BAR * max(0, min(done, total)) // total
        text = f"[{'=' * filled}{' ' * (BAR - filled)}] {text}"
    return cut(text, width)


def duration(seconds: float) -> str:
    """`0:05`, `12:30`, `3:04:05`, `2d 03:04:05`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
