"""One open log segment: frames are appended and durable once `append` returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

KEEP_BYTES = 64 << 20
"""How much is kept in memory while the disk takes nothing."""


class SegmentFile:
    """Whole frames in a file. What cannot be written is kept and tried again with the next frame.

    So a disk that is full for a while costs nothing, and one that stays full costs the log, not the run.
    That is said once, as is the return. The file never ends in half a frame that could be cut off.
    """

    def __init__(self, path: Path, header: bytes, warn: Callable[[str], None]) -> None:
        self.path, self.warn = path, warn
        self.pending = bytearray()
        self.good = 0
        self.descriptor: int | None = None
        self.failing = self.dropped = False
        self.append(header)

    @property
    def complete(self) -> bool:
        """Whether all that was appended is in the file."""
        return not self.pending and not self.dropped

    def append(self, frame: bytes) -> None:
        """Write what is pending and this, and fsync."""
        if len(self.pending) + len(frame) <= KEEP_BYTES:
            self.pending += frame
        else:
            self.dropped = True
        try:
            self.write(self.opened())
        except OSError as error:
            self.cut_back()
            self.say_once(failing=True, why=error.strerror or str(error))
        else:
            self.say_once(failing=False)

    def opened(self) -> int:
        """The file's descriptor; the file and its folder are made if they are not there yet."""
        if self.descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self.descriptor = os.open(self.path, flags, 0o666)
        return self.descriptor

    def write(self, descriptor: int) -> None:
        """All that is pending, durably."""
        rest = memoryview(self.pending)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            rest.release()
        os.fsync(descriptor)
        self.good += len(self.pending)
        self.pending.clear()

    def cut_back(self) -> None:
        """Remove what was written of a frame that did not fit."""
        try:
            if self.descriptor is not None:
                os.ftruncate(self.descriptor, self.good)
        except OSError:
            pass  # readers stop at a torn frame

    def say_once(self, *, failing: bool, why: str = "") -> None:
        """Tell of a change for the worse or the better."""
        if failing and not self.failing:
            self.warn(
                f"cannot write the log {self.path}: {why.lower()}; training goes on, what is logged "
                "waits in memory and is tried again"
            )
        if self.failing and not failing:
            lost = "some of what was logged is lost" if self.dropped else "nothing of it is lost"
            self.warn(f"the log {self.path} is written again; {lost}")
        self.failing = failing

    def close(self) -> None:
        """Try once more to write what is pending, and close the file."""
        if self.pending:
            self.append(b"")
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
