"""How files are told to people: short, and so that they can be opened from here."""

from __future__ import annotations

from pathlib import Path


def display(path: Path) -> str:
    """A path as the user would type it: relative to the current directory if it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):  # the home of a machine that is taken goes under us
        return str(path)


def display_source(file: str) -> str:
    """A source file relative to the current directory or to where packages are installed."""
    _, marker, tail = file.rpartition("site-packages/")
    return tail if marker else display(Path(file))
