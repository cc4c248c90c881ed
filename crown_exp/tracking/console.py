"""What a person sees of a running loop: one line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from crown_exp.tracking.base import Point

LINES_EVERY_SECONDS = 10.0
BAR = 20


class Progress:
    """Where a loop stands; written by the loop, read by the console's thread."""

    def __init__(self) -> None:
        self.name = ""
        self.done = 0
        self.total: int | None = None
        self.first = 0
        self.started = 0.0

    def begin(self, name: str, done: int, total: int | None) -> None:
        """A loop starts at `done` turns of `total`."""
        self.name, self.done, self.total = name, done, total
        self.first, self.started = done, time.monotonic()

    def rate(self) -> float:
        """Turns a second since the loop began in this attempt; 0 before the first."""
        elapsed = time.monotonic() - self.started
        return (self.done - self.first) / elapsed if elapsed > 0 else 0.0


def describe(progress: Progress, values: dict[str, float]) -> str:
    """`finetune 300/1000 steps  121/s  ETA 0:05  loss 0.213`."""
    rate = progress.rate()
    total = progress.total
    count = f"{progress.done}/{total}" if total else f"{progress.done}"
    parts = [f"{count} steps", f"{rate:.1f}/s" if rate < 100 else f"{rate:.0f}/s"]
    if total and rate > 0 and progress.done < total:
        parts.append(f"ETA {duration((total - progress.done) / rate)}")
    parts += [f"{name} {value:.4g}" for name, value in values.items()]
    prefix = f"{progress.name} " if progress.name else ""
    return prefix + "  ".join(parts)


def with_bar(text: str, progress: Progress, width: int) -> str:
    """The text with a bar before it if there is room, cut to the width if there is none."""
    if progress.total and len(text) + BAR + 3 <= width:
        filled = BAR * progress.done // progress.total
        text = f"[{'=' * filled}{' ' * (BAR - filled)}] {text}"
    return text if len(text) <= width else text[: width - 1] + "…"


def duration(seconds: float) -> str:
    """`0:05`, `12:30`, `3:04:05`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Console:
    """A sink that shows progress and the last value of each metric.

    bar: redraw one line (a terminal) instead of printing a line every ten seconds and at the end. Nothing
    is drawn while no turn ends, so that a debugger's prompt is left alone.
    """

    def __init__(
        self,
        progress: Progress,
        stream: TextIO,
        *,
        bar: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress, self.stream, self.bar, self.clock = progress, stream, bar, clock
        self.values: dict[str, float] = {}
        self.drawn_at, self.drawn_step, self.open_line = clock(), -1, False

    def take(self, points: Sequence[Point]) -> None:
        """Remember the newest values and draw if a turn ended since the last time."""
        for point in points:
            self.values |= point.values
        if self.progress.done == self.drawn_step or not self.progress.done:
            return
        if self.bar or self.clock() - self.drawn_at >= LINES_EVERY_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Write the line as it stands now."""
        self.drawn_at, self.drawn_step = self.clock(), self.progress.done
        text = describe(self.progress, self.values)
        if self.bar:
            text = with_bar(text, self.progress, shutil.get_terminal_size().columns - 1)
        self.stream.write(f"\r{text}\x1b[K" if self.bar else f"{text}\n")
        self.stream.flush()
        self.open_line = self.bar

    def close(self) -> None:
        """Leave the last state on a line of its own."""
        if self.progress.done and self.progress.done != self.drawn_step:
            self.draw()
        if self.open_line:
            self.stream.write("\n")
            self.open_line = False
