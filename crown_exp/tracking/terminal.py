"""A line at the foot of a terminal that is redrawn, and whatever else is printed above it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

ERASE = "\r\x1b[K"
WIDTH_IF_UNKNOWN = 80


class Foot:
    """The line at the foot. While it is `kept`, sys.stdout and sys.stderr erase it before they print.

    So a `print` in a loop, a log line or a debugger's prompt stands on a line of its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.shown = self.below_text = False
        self.kept: dict[str, tuple[Any, Aside]] = {}

    def width(self) -> int:
        """Columns of the terminal; 80 where it does not tell."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or WIDTH_IF_UNKNOWN
        except (OSError, ValueError):
            return WIDTH_IF_UNKNOWN

    def keep(self) -> None:
        """From now on, stay out of the way of what others print."""
        for name in ("stdout", "stderr"):
            standard = getattr(sys, name)
            self.kept[name] = standard, Aside(standard, self.make_way)
            setattr(sys, name, self.kept[name][1])

    def release(self) -> None:
        """Leave the line where it is, and the standard streams as they were."""
        for name, (standard, aside) in self.kept.items():
            if getattr(sys, name) is aside:
                setattr(sys, name, standard)
        self.kept.clear()
        if self.shown:
            self.write("\n")
        self.shown = False

    def draw(self, text: str) -> None:
        """Show this text in place of what the line showed."""
        self.write(("\n" if self.below_text else "") + ERASE + text)
        self.shown, self.below_text = True, False

    def make_way(self, text: str) -> None:
        """Somebody is about to print this."""
        if self.shown:
            self.write(ERASE)
            self.shown = False
        if text:
            self.below_text = not text.endswith("\n")

    def write(self, text: str) -> None:
        """To the terminal, at once."""
        self.stream.write(text)
        self.stream.flush()


class Aside:
    """A standard stream that tells before it prints."""

    def __init__(self, stream: Any, about_to: Callable[[str], None]) -> None:
        self._stream, self._about_to = stream, about_to

    def write(self, text: str) -> int:
        """As the stream does."""
        self._about_to(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
